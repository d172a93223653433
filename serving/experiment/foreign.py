"""Outcomes from elsewhere, with times and ids read as `recsys prepare` reads those of a log."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.calendar.reading import is_time_type
from feature_store.core.arrow import id_strings
from feature_store.core.errors import UserError
from pipelines.logs.clock import UNDERSTOOD, Clock, recognise
from pipelines.logs.columns import plain_type

_TIME = pa.timestamp("us", "UTC")
_IDS = ("query_id", "item_id")
# Values that show how times are written, and those that are read where the first do not tell.
_GLANCE, _MOST = 20_000, 2_000_000


def with_timestamps(files: Sequence[Path], columns: Sequence[str], scratch: Path) -> list[Path]:
    """Returns the files; those whose times or ids are of another type than a log's are copied.

    In a copy, times are Arrow's, and ids strings; events without a time are left out.

    Args:
        files: Parquet files with a column `timestamp`.
        columns: Columns to copy, where a file has them.
        scratch: Directory of the copies.

    Raises:
        UserError: The times of a file cannot be read.
    """
    return [
        file if _is_plain(file) else _copy(file, columns, scratch / f"outcomes-{n}.parquet")
        for n, file in enumerate(files)
    ]


def _is_plain(file: Path) -> bool:
    schema = pq.read_schema(file)
    ids = [plain_type(schema.field(name).type) for name in _IDS if name in schema.names]
    are_plain = all(pa.types.is_string(kind) or pa.types.is_integer(kind) for kind in ids)
    return are_plain and bool(pa.types.is_timestamp(schema.field("timestamp").type))


def _copy(file: Path, columns: Sequence[str], copy: Path) -> Path:
    clock = _clock(file)
    with pq.ParquetFile(file) as source:
        names = [name for name in columns if name in source.schema_arrow.names]
        fields = [
            pa.field(name, pa.string()) if name in _IDS else source.schema_arrow.field(name)
            for name in names
            if name != "timestamp"
        ]
        schema = pa.schema([pa.field("timestamp", _TIME), *fields])
        with pq.ParquetWriter(copy, schema) as target:
            for batch in source.iter_batches(columns=names):
                times = clock.read(_plain(batch["timestamp"])).cast(_TIME)
                rest = [
                    id_strings(batch[field.name]) if field.name in _IDS else batch[field.name]
                    for field in fields
                ]
                table = pa.table([times, *rest], schema=schema)
                target.write_table(table.filter(times.is_valid()))
    return copy


def _clock(file: Path) -> Clock:
    kind = plain_type(pq.read_schema(file).field("timestamp").type)
    if not is_time_type(kind):
        raise UserError(f"the timestamp of {file} is {kind}, expected a time; convert it.")
    now, values = datetime.now(UTC), _first(file, kind)
    found = recognise(values.slice(0, _GLANCE), now)
    if found.needs_more:
        found = recognise(values, now)
    reason = found.problem or found.doubt
    if found.problem is None and not found.clock.is_real:
        reason = f"holds numbers that are no dates, such as {found.example}"
    if reason:
        raise UserError(
            f"the timestamp of {file}: {reason}; expected {UNDERSTOOD}; convert it to a timestamp."
        )
    return found.clock


def _first(file: Path, kind: pa.DataType) -> pa.Array:
    chunks = [pa.array([], kind)]
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(columns=["timestamp"]):
            chunks.append(_plain(batch["timestamp"]))
            if sum(map(len, chunks)) >= _MOST:
                break
    return pa.concat_arrays(chunks)


def _plain(column: pa.Array) -> pa.Array:
    return column.cast(plain_type(column.type))
