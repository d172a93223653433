"""Bounded reads of Parquet tables of any size: whole if small, otherwise a sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_store.core.arrow import as_type, plain_array
from pipelines.logs.columns import Partition, stored_columns, take_columns, widths
from pipelines.logs.files import Layout, layouts_of, read_footers, union_of
from pipelines.logs.filesystems import open_rows, reading
from pipelines.logs.listing import find_files
from pipelines.logs.tables import Source
from pipelines.urls import shown

# Row groups of a sample, spread evenly over the table.
_SAMPLE_GROUPS = 32
# Files whose footers are read; the rows of the others are estimated from their number.
_MAX_FOOTERS = 1000
# Greatest numbers of rows and uncompressed bytes of a column that is read whole.
_MAX_ROWS = 5_000_000
_MAX_BYTES = 1 << 28
# Compressed strings can be far longer than their file states; Arrow's arrays end at 2 GiB.
_MAX_MEMORY = 1 << 29


@dataclass(frozen=True)
class _Group:
    file: str
    indices: tuple[int, ...]
    rows: int
    partition: Partition


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet table whose rows are read only on demand.

    Args:
        what: Name in errors: `events`, `items` or `queries`.
        path: Path as the user gave it.
        schema: All columns that can be named, in types that are common to all files.
        partition: Names of the columns that the directories of the files give.
        files: Number of files.
        rows: Number of rows; an estimate where `rows_are_exact` is false.
        rows_are_exact: Whether the footers of all files were read.
        groups: Row groups with rows.
        bytes_per_row: Uncompressed bytes of a row by column.
        partial: Columns that some files lack, and the first of these files.
        notes: Sentences for the user on what was not read.
        index: Names of the columns that are the index of a pandas data frame.
        conflicts: Reasons why other columns cannot be read, by name; see `Union`.
    """

    what: str
    path: str
    schema: pa.Schema
    partition: tuple[str, ...]
    files: int
    rows: int
    rows_are_exact: bool
    groups: tuple[_Group, ...]
    bytes_per_row: dict[str, float]
    partial: dict[str, str]
    notes: tuple[str, ...]
    index: tuple[str, ...]
    conflicts: dict[str, str]

    @property
    def is_large(self) -> bool:
        """Whether columns are read only in part."""
        return self.rows > _MAX_ROWS or not self.rows_are_exact

    def sample(self, columns: Sequence[str], max_rows: int) -> Iterator[pa.Table]:
        """Reads all rows if there are at most `max_rows`, otherwise a sample.

        Args:
            columns: Columns to read.
            max_rows: Upper bound on the rows read.

        Yields:
            One table for each row group read, in order; only the beginning of large groups.
        """
        groups, quota = self.groups, max(1, max_rows)
        if sum(group.rows for group in groups) > max_rows:
            groups = _spread(groups)
            quota = max(1, max_rows // len(groups))
        for group in groups:
            yield self._read(group, columns, quota)

    def read(self, column: str, max_rows: int = _MAX_ROWS) -> tuple[pa.Array, bool]:
        """Reads a column as one array; also returns whether it is complete."""
        width = max(1.0, self.bytes_per_row.get(column, 1.0))
        chunks: list[pa.Array] = []
        for part in self.sample([column], min(max_rows, int(_MAX_BYTES / width) + 1)):
            chunks.extend(part[column].chunks)
            if sum(chunk.nbytes for chunk in chunks) > _MAX_MEMORY:
                break
        array = pa.concat_arrays(chunks) if chunks else pa.array([], self.schema.field(column).type)
        return array, self.rows_are_exact and len(array) == self.rows

    def _read(self, group: _Group, columns: Sequence[str], quota: int) -> pa.Table:
        names = list(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        parts: list[pa.Table] = []
        missing, size = min(quota, group.rows), 0
        with reading(group.file, self.what), open_rows(group.file) as (file, schema_of_file):
            for batch in file.iter_batches(
                batch_size=min(quota, 1 << 16),
                row_groups=group.indices,
                columns=stored_columns(file, names),
            ):
                taken = take_columns(batch, names, schema_of_file, group.partition)
                taken = taken.slice(0, missing)
                arrays = [as_type(plain_array(taken[field.name]), field.type) for field in schema]
                parts.append(pa.table(arrays, schema=schema))
                missing -= len(parts[-1])
                size += parts[-1].nbytes
                if missing <= 0 or size > _MAX_MEMORY:
                    break
        return pa.concat_tables([schema.empty_table(), *parts])


def table_of(source: Source) -> ParquetTable:
    """Returns a table of open files, whose row groups are read piece by piece."""
    return ParquetTable(
        what=source.table,
        path="",
        schema=source.schema,
        partition=tuple(dict(source.pieces[0].partition)) if source.pieces else (),
        files=len(source.files),
        rows=source.rows,
        rows_are_exact=True,
        groups=tuple(_Group(p.file, p.groups, p.rows, p.partition) for p in source.pieces),
        bytes_per_row={},
        partial={},
        notes=(),
        index=(),
        conflicts=source.conflicts,
    )


def _spread(groups: tuple[_Group, ...]) -> tuple[_Group, ...]:
    """Chooses at most `_SAMPLE_GROUPS` groups, at equal distances in rows."""
    ends = np.cumsum([group.rows for group in groups])
    positions = (np.arange(_SAMPLE_GROUPS) + 0.5) * ends[-1] / _SAMPLE_GROUPS
    chosen = np.unique(np.searchsorted(ends, positions, side="right"))
    return tuple(groups[i] for i in chosen)


def open_table(path: str, what: str) -> ParquetTable:
    """Finds the files of a table and reads their footers.

    Raises:
        UserError: A file is missing, empty or corrupt, or files do not match.
    """
    listing = find_files(path)
    sampled = files = listing.files
    if len(files) > _MAX_FOOTERS:
        positions = np.linspace(0, len(files) - 1, _MAX_FOOTERS).astype(int)
        sampled = tuple(files[i] for i in positions)
    footers = read_footers(sampled, what)
    layouts = layouts_of(footers, what)
    union = union_of(layouts)
    groups = tuple(
        _Group(file, (index,), footer.metadata.row_group(index).num_rows, footer.partition)
        for file, footer in footers.items()
        for index in range(footer.metadata.num_row_groups)
    )
    rows = sum(group.rows for group in groups)
    partition = next(footer.partition for footer in footers.values() if footer.metadata.num_rows)
    largest = max(footers.values(), key=lambda footer: footer.metadata.num_rows)
    notes = [*listing.notes, *_left_out(union.conflicts), *_same_but_for_case(layouts)]
    return ParquetTable(
        what=what,
        path=path,
        schema=union.schema,
        partition=tuple(dict(partition)),
        files=len(files),
        rows=round(rows * len(files) / len(sampled)),
        rows_are_exact=len(files) == len(sampled),
        groups=tuple(group for group in groups if group.rows),
        bytes_per_row=widths(largest.schema, largest.metadata),
        partial={
            name: shown(layout.files[0])
            for layout in layouts
            for name in union.schema.names
            if name not in layout.columns.names
        },
        notes=tuple(f"{what}: {note}" for note in notes),
        index=_index(largest.schema),
        conflicts=union.conflicts,
    )


def _index(schema: pa.Schema) -> tuple[str, ...]:
    """Returns the columns that pandas wrote its index to; an index without a column has no name."""
    try:
        columns = (schema.pandas_metadata or {}).get("index_columns", [])
    except ValueError:  # Metadata that is no JSON; nothing else needs it.
        return ()
    return tuple(name for name in columns if isinstance(name, str))


def _left_out(conflicts: dict[str, str]) -> Iterator[str]:
    for name, reason in conflicts.items():
        yield f"column {name!r} is left out, because {reason}"


def _same_but_for_case(layouts: Sequence[Layout]) -> Iterator[str]:
    """Yields sentences on names that may be the same column, because no file has both."""
    files: dict[str, dict[str, set[str]]] = {}
    for layout in layouts:
        for name in layout.columns.names:
            files.setdefault(name.lower(), {}).setdefault(name, set()).update(layout.files)
    for spellings in files.values():
        (first, having), *others = spellings.items()
        for name, also in others:
            if not having & also:
                yield (
                    f"column {first!r} is called {name!r} in {shown(min(also))}: these are two "
                    "columns here; give them one name if they are one"
                )
