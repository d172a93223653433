"""A buffer of rows on their way to the disk, which never fails and never makes a request wait."""

import logging
import os
import threading
import time
from itertools import count
from pathlib import Path

import pyarrow as pa

from feature_store.core.files import write_parquet
from serving.experiment.log_rows import Exposure, Outcome, by_date, convert, to_batch

# Bytes of waiting rows, beyond which rows are dropped.
_MAX_BYTES = 256 * 2**20
# Rows that are converted at a time: few, for a request waits for the interpreter meanwhile.
_STEP = 200

_logger = logging.getLogger(__name__)


class RowBuffer:
    """Rows of one kind on their way to the disk. Any thread appends, one at a time flushes."""

    _numbers = count()

    def __init__(
        self, directory: Path, schema: pa.Schema, max_rows: int, full: threading.Event
    ) -> None:
        self.dropped = 0
        self._directory = directory
        self._schema = schema
        self._max_rows = max_rows
        self._full = full
        self._lock = threading.Lock()
        self._rows: list[Exposure | Outcome] = []
        self._row_bytes = 0
        self._pending: list[tuple[str, pa.Table]] = []
        self._pending_bytes = 0
        self._is_closed = False
        convert([], schema)  # The first imports pandas, for which no request should wait.

    def append(self, row: Exposure | Outcome, size: int) -> None:
        """Adds a row of some bytes, or drops it where there is no room."""
        with self._lock:
            held = self._row_bytes + self._pending_bytes + size
            if self._is_closed or held > _MAX_BYTES:
                self.dropped += 1
                return
            self._rows.append(row)
            self._row_bytes += size
            is_full = len(self._rows) >= self._max_rows or self._row_bytes > _MAX_BYTES // 4
        if is_full:
            self._full.set()

    def flush(self) -> bool:
        """Writes all rows; False, and they are kept, where the disk fails."""
        try:
            self._convert_rows()
            while self._pending:
                date, table = self._pending[0]
                write_parquet(self._directory / f"date={date}" / self._file_name(), table)
                del self._pending[0]
                with self._lock:
                    self._pending_bytes -= table.nbytes
        except Exception:  # The thread must outlive whatever befalls a disk.
            _logger.warning("cannot write to %s; trying again", self._directory, exc_info=True)
            return False
        return True

    def close(self) -> None:
        """Writes the rows that are left, once, and drops later ones."""
        with self._lock:
            self._is_closed = True
        if not self.flush():
            with self._lock:
                self.dropped += sum(len(table) for _, table in self._pending)
            self._pending.clear()

    def _convert_rows(self) -> None:
        """Moves the rows to tables of one date each, which take less room."""
        with self._lock:
            rows, self._rows = self._rows, []
            self._row_bytes = 0
        steps = (rows[start : start + _STEP] for start in range(0, len(rows), _STEP))
        table = pa.Table.from_batches([to_batch(s, self._schema) for s in steps], self._schema)
        parts = list(by_date(table))
        self._pending += parts
        with self._lock:
            self.dropped += len(rows) - len(table)
            self._pending_bytes += sum(part.nbytes for _, part in parts)

    def _file_name(self) -> str:
        return f"part-{time.time_ns() // 1000}-{os.getpid()}-{next(self._numbers)}.parquet"
