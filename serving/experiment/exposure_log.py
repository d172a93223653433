"""The log of answers (exposures) and of their outcomes, in Parquet.

    exposures/date=YYYY-MM-DD/part-<time>-<pid>-<n>.parquet    see `Exposure`
    events/date=YYYY-MM-DD/part-<time>-<pid>-<n>.parquet       see `Outcome`
    experiment.json                                            only of an A/B test

A file appears whole or not at all. Dates are those of the rows, in UTC.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.errors import UserError
from feature_store.core.files import write_parquet
from feature_store.core.times import DAY
from serving.experiment.experiment import (
    EXPERIMENT_JSON,
    Experiment,
    read_experiment,
    write_experiment,
)

EXPOSURES, EVENTS = "exposures", "events"

_TIME = pa.timestamp("us", "UTC")
EXPOSURE_SCHEMA = pa.schema(
    {
        "timestamp": _TIME,
        "request_id": pa.string(),
        "experiment": pa.string(),
        "variant": pa.string(),
        "query_id": pa.string(),
        "is_override": pa.bool_(),
        "is_fallback": pa.bool_(),
        "k": pa.int32(),
        "item_ids": pa.list_(pa.string()),
        "scores": pa.list_(pa.float32()),
        "model_version": pa.string(),
        "latency_ms": pa.float32(),
    }
)
OUTCOME_SCHEMA = pa.schema(
    {
        "timestamp": _TIME,
        "query_id": pa.string(),
        "item_id": pa.string(),
        "event_type": pa.string(),
        "value": pa.float64(),
        "request_id": pa.string(),
    }
)

# Bytes of a waiting row's objects, and of the id and score of each of its items.
_ROW_BYTES, _ITEM_BYTES = 600, 120
_MAX_BYTES = 256 * 2**20
# Rows that are converted at a time: few, for a request waits for the interpreter meanwhile.
_STEP = 200

# Exceptions of Arrow for a value that a column cannot hold.
_MALFORMED = (pa.ArrowException, ValueError, TypeError, OverflowError)

_logger = logging.getLogger(__name__)


# A tuple, for it is made while a request waits.
class Exposure(NamedTuple):
    """One answer.

    Attributes:
        timestamp: Microseconds since 1970.
        request_id: Id of the request.
        experiment: Name of the experiment; empty where there is none.
        variant: Name of the variant; empty where there is none.
        query_id: Id of the query.
        is_override: Whether the variant was not assigned by the hash.
        is_fallback: Whether the query was unknown.
        k: Number of items in the request.
        item_ids: Ids of the items, best first.
        scores: Scores of the items.
        model_version: Fingerprint of the bundle.
        latency_ms: Latency of the answer in milliseconds.
    """

    timestamp: int
    request_id: str
    experiment: str
    variant: str
    query_id: str
    is_override: bool
    is_fallback: bool
    k: int
    item_ids: Sequence[str]
    scores: Sequence[float]
    model_version: str
    latency_ms: float


class Outcome(NamedTuple):
    """An event of a query and an item.

    Attributes:
        timestamp: Microseconds since 1970.
        query_id: Id of the query.
        item_id: Id of the item.
        event_type: Type, such as `click`.
        value: Value, such as a price; None where it has none.
        request_id: Id of the request that recommended the item; None where it is not known.
    """

    timestamp: int
    query_id: str
    item_id: str
    event_type: str
    value: float | None = None
    request_id: str | None = None


class ExposureLog:
    """Writes the log in the background; any thread may add to it.

    Adding never fails and never waits for the disk. Rows that the disk does not take are kept and
    tried again; those that there is no room for, or that are malformed, are dropped and counted. A
    process that is killed loses rows that it had not yet written: at most `max_rows` of each kind,
    or the rows of `seconds`, and those that came while these were being written.

    Args:
        directory: Directory of the log; several processes may share it.
        experiment: Experiment of the exposures; kept in the directory for the report.
        max_rows: Rows of one kind, after which a file is written. Fewer make more, smaller files.
        seconds: Seconds after which a file is written anyway.

    Raises:
        UserError: The directory cannot be written, or has the log of another experiment.
    """

    def __init__(
        self,
        directory: Path,
        *,
        experiment: Experiment | None = None,
        max_rows: int = 20_000,
        seconds: float = 30.0,
    ) -> None:
        _prepare(directory, experiment)
        self._seconds = seconds
        self._full, self._closing = threading.Event(), threading.Event()
        self._exposures = _Buffer(directory / EXPOSURES, EXPOSURE_SCHEMA, max_rows, self._full)
        self._outcomes = _Buffer(directory / EVENTS, OUTCOME_SCHEMA, max_rows, self._full)
        self._thread = threading.Thread(target=self._run, name="exposure-log", daemon=True)
        self._thread.start()

    def add_exposure(self, exposure: Exposure) -> None:
        """Adds an answer."""
        self._exposures.append(exposure, _ROW_BYTES + _ITEM_BYTES * len(exposure.item_ids))

    def add_outcome(self, outcome: Outcome) -> None:
        """Adds an outcome."""
        self._outcomes.append(outcome, _ROW_BYTES)

    @property
    def dropped(self) -> int:
        """Number of rows that are lost."""
        return self._exposures.dropped + self._outcomes.dropped

    def close(self) -> None:
        """Writes the rows that are left, once; others, and those that come later, are dropped."""
        self._closing.set()
        self._full.set()
        self._thread.join()
        for buffer in (self._exposures, self._outcomes):
            buffer.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._full.wait(self._seconds)
            self._full.clear()
            # A list, for a disk that refuses the one kind need not refuse the other.
            if not all([self._exposures.flush(), self._outcomes.flush()]):
                self._closing.wait(self._seconds)


class _Buffer:
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
        _convert([], schema)  # The first imports pandas, for which no request should wait.

    def append(self, row: Exposure | Outcome, size: int) -> None:
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
        table = pa.Table.from_batches([_to_batch(s, self._schema) for s in steps], self._schema)
        parts = list(_by_date(table))
        self._pending += parts
        with self._lock:
            self.dropped += len(rows) - len(table)
            self._pending_bytes += sum(part.nbytes for _, part in parts)

    def _file_name(self) -> str:
        return f"part-{time.time_ns() // 1000}-{os.getpid()}-{next(self._numbers)}.parquet"


def log_files(path: Path, columns: Sequence[str]) -> list[Path]:
    """Lists the Parquet files of a directory, by name, or the one file that the path is.

    Raises:
        UserError: One of them is torn, lacks a column, or its `timestamp` is no timestamp.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    # A leading dot is of a writer that is at work, or was killed.
    files = [file for file in files if not file.name.startswith(".")]
    for file in files:
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(
                f"{file} is not a whole Parquet file; remove it, or put it in place again."
            ) from error
        missing = [name for name in columns if name not in schema.names]
        if missing:
            raise UserError(
                f"{file} has no column {missing[0]!r}, expected: {', '.join(columns)}; remove it "
                "if it does not belong to the log."
            )
        if not pa.types.is_timestamp(schema.field("timestamp").type):
            raise UserError(
                f"the timestamp of {file} is {schema.field('timestamp').type}, expected a "
                "timestamp; convert it, or remove the file if it does not belong to the log."
            )
    return files


def _prepare(directory: Path, experiment: Experiment | None) -> None:
    """Makes the directory and records the experiment."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        is_noted = (directory / EXPERIMENT_JSON).exists()
        before = read_experiment(directory) if is_noted else None
        is_begun = is_noted or (directory / EXPOSURES).exists()
        if is_begun and division(before) != division(experiment):
            raise UserError(
                f"{directory} has the log of {_named(before)}, not of {_named(experiment)} with "
                "the same salt and shares; give a new directory, for a report is of one division "
                "of the queries."
            )
        if experiment is not None:
            write_experiment(directory, experiment)
    except OSError as error:
        raise UserError(
            f"cannot write to {directory} ({error.strerror}); give a directory that can be written."
        ) from error


def division(experiment: Experiment | None) -> object:
    """Returns the keys by which queries are divided; a log is of one division."""
    if experiment is None:
        return None
    shares = [(variant.name, variant.share) for variant in experiment.variants]
    return experiment.name, experiment.salt, shares


def _named(experiment: Experiment | None) -> str:
    return "no experiment" if experiment is None else f"experiment {experiment.name!r}"


def _to_batch(rows: Sequence[Exposure | Outcome], schema: pa.Schema) -> pa.RecordBatch:
    """Converts rows, without those that Arrow does not take: they must not hold up the others."""
    try:
        return _convert(rows, schema)
    except _MALFORMED:
        return _convert([row for row in rows if _is_convertible(row, schema)], schema)


def _is_convertible(row: Exposure | Outcome, schema: pa.Schema) -> bool:
    try:
        _convert([row], schema)
    except _MALFORMED:
        return False
    return True


def _convert(rows: Sequence[Exposure | Outcome], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [[]] * len(schema)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _by_date(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    days = table["timestamp"].cast(pa.int64()).to_numpy() // DAY
    for day in np.unique(days):
        yield str(np.datetime64(int(day), "D")), table.filter(pa.array(days == day))
