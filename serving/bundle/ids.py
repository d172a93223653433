"""Ids and their rows in memory-mapped files: millions are looked up without being read.

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
from feature_store.core.files import (
    INTEGERS,
    UNSIGNED,
    mapped_numbers,
    write_array,
    write_atomically,
)
from feature_store.core.hashing import UInt64s, text_digests, token_digests
from serving.bundle.files import mapped_table


class IdTable:
    """Ids by row and rows by id.

    Args:
        ids: Strings, [rows], null where there is none.
        digests: Digests of the ids, [ids], ascending.
        rows: Row of each digest, [ids].
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
        """Opens files of `write_ids`, memory-mapped.

        Raises:
            ValueError: They are not of as many ids.
        """
        ids = mapped_table(directory / f"{name}.arrow")["id"].combine_chunks()
        digests = mapped_numbers(directory / f"{name}.digests.npy", UNSIGNED)
        rows = mapped_numbers(directory / f"{name}.rows.npy", INTEGERS)
        is_inside = not len(rows) or 0 <= rows.min() <= rows.max() < len(ids)
        if len(digests) != len(rows) or not is_inside:
            raise ValueError(f"the files of {name} ids are not of {len(ids):,} ids")
        return cls(ids, digests, rows)

    def rows(self, ids: Sequence[str]) -> Ints:
        """Returns the row of each id, [ids] int64; -1 where it is unknown."""
        if not len(ids):
            return np.empty(0, np.int64)
        digests = text_digests(ids)
        positions = np.searchsorted(self._digests, digests)
        return np.fromiter(map(self._row, ids, digests, positions), np.int64, len(ids))

    def _row(self, text: str, digest: np.uint64, position: int) -> int:
        """Compares ids, for different ones may have equal digests."""
        while position < len(self._digests) and self._digests[position] == digest:
            row = int(self._rows[position])
            if self[row] == text:
                return row
            position += 1
        return -1


def write_ids(directory: Path, name: str, ids: pa.Array) -> None:
    """Writes the files that `IdTable.read` opens.

    Args:
        directory: Directory of the files.
        name: Name that the files begin with.
        ids: Distinct strings, [rows], null where there is none.
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
