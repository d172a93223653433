"""Ids and their rows in memory-mapped files, so that millions are looked up without being read.

<name>.arrow         id, in the order of the rows; null where an id was forgotten
<name>.digests.npy   [ids] uint64, ascending
<name>.rows.npy      [ids] int64, the row of each digest
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Ints
from feature_store.core.files import mapped_array, write_array, write_atomically
from feature_store.core.hashing import UInt64s, text_digests, token_digests


class IdTable:
    """Ids by row and rows by id.

    Args:
        ids: [rows] strings, null where there is none.
        digests: [ids] ascending.
        rows: [ids] of each digest.
    """

    def __init__(self, ids: pa.Array, digests: UInt64s, rows: Ints) -> None:
        self.ids = ids
        self._digests = digests
        self._rows = rows

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> str:
        return self.ids[row].as_py()

    @classmethod
    def read(cls, directory: Path, name: str) -> "IdTable":
        """Memory-maps what `write_ids` wrote."""
        with pa.memory_map(str(directory / f"{name}.arrow")) as source:
            ids = pa.ipc.open_file(source).read_all()["id"].combine_chunks()
        digests = mapped_array(directory / f"{name}.digests.npy")
        return cls(ids, digests, mapped_array(directory / f"{name}.rows.npy"))

    def rows(self, ids: Sequence[str]) -> Ints:
        """[ids] int64, -1 where an id is unknown."""
        if not len(ids):
            return np.empty(0, np.int64)
        digests = text_digests(ids)
        places = np.searchsorted(self._digests, digests)
        return np.fromiter(map(self._row, ids, digests, places), np.int64, len(ids))

    def _row(self, text: str, digest: np.uint64, place: int) -> int:
        """UInt64s may be equal where ids are not."""
        while place < len(self._digests) and self._digests[place] == digest:
            row = int(self._rows[place])
            if self[row] == text:
                return row
            place += 1
        return -1


def write_ids(directory: Path, name: str, ids: pa.Array) -> None:
    """Writes what `IdTable.read` maps.

    Args:
        directory: That holds the files.
        name: Of the files.
        ids: [rows] distinct strings, null where there is none.
    """
    write_strings(directory / f"{name}.arrow", "id", ids)
    present = np.flatnonzero(pc.is_valid(ids).to_numpy(zero_copy_only=False))
    digests = token_digests(ids.take(pa.array(present)))
    order = np.argsort(digests, kind="stable")
    write_array(directory / f"{name}.digests.npy", digests[order])
    write_array(directory / f"{name}.rows.npy", present[order])


def write_strings(path: Path, column: str, values: pa.Array) -> None:
    """Writes one column of an Arrow file as one batch, which can be mapped without a copy."""
    table = pa.table({column: values})

    def write(temporary: Path) -> None:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows))

    write_atomically(path, write)
