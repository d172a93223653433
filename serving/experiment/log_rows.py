"""The rows of the log of an experiment: answers (exposures) and outcomes, in memory and on disk."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.errors import UserError
from feature_store.core.times import DAY

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

# Exceptions of Arrow for a value that a column cannot hold.
_MALFORMED = (pa.ArrowException, ValueError, TypeError, OverflowError)


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
        is_fallback: Whether popularity answered.
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


def log_files(path: Path, columns: Sequence[str], *, is_own: bool = True) -> list[Path]:
    """Lists the Parquet files of a directory, by name, or the one file that the path is.

    Args:
        path: Directory or file.
        columns: Columns that each file must have.
        is_own: Whether a server wrote the log, with timestamps of Arrow.

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
        if is_own and not pa.types.is_timestamp(schema.field("timestamp").type):
            raise UserError(
                f"the timestamp of {file} is {schema.field('timestamp').type}, expected a "
                "timestamp; convert it, or remove the file if it does not belong to the log."
            )
    return files


def to_batch(rows: Sequence[Exposure | Outcome], schema: pa.Schema) -> pa.RecordBatch:
    """Converts rows, without those that Arrow does not take: they must not hold up the others."""
    try:
        return convert(rows, schema)
    except _MALFORMED:
        return convert([row for row in rows if _is_convertible(row, schema)], schema)


def _is_convertible(row: Exposure | Outcome, schema: pa.Schema) -> bool:
    try:
        convert([row], schema)
    except _MALFORMED:
        return False
    return True


def convert(rows: Sequence[Exposure | Outcome], schema: pa.Schema) -> pa.RecordBatch:
    """Converts rows; raises one of Arrow's exceptions where a value does not fit."""
    columns = zip(*rows, strict=True) if rows else [[]] * len(schema)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def by_date(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yields each date with its rows."""
    days = table["timestamp"].cast(pa.int64()).to_numpy() // DAY
    for day in np.unique(days):
        yield str(np.datetime64(int(day), "D")), table.filter(pa.array(days == day))
