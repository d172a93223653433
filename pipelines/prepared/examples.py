"""The files of examples: schemas, names, and how a context is kept in them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Column, Dense, Jagged
from feature_store.kinds import ContextFeature
from feature_store.schema import FeatureSchema

SPLITS = ("train", "validation", "test")

# Directory of the training examples in sequences.
SEQUENCES = "train_sequences"

# Prefix of context features in the names of columns.
CONTEXT = "context."

EXAMPLE_SCHEMA = pa.schema(
    [
        pa.field("query", pa.int32(), nullable=False),
        pa.field("item", pa.int32(), nullable=False),
        pa.field("history", pa.list_(pa.int32()), nullable=False),  # oldest first
        pa.field("timestamp", pa.timestamp("us", "UTC")),  # null where the log has no time
        pa.field("weight", pa.float32(), nullable=False),
    ]
)


# A sequence is a run of a query's training events: examples that share a history. There are none
# with histories of `others`, or with a context.
SEQUENCE_SCHEMA = pa.schema(
    [
        pa.field("query", pa.int32(), nullable=False),
        pa.field("history", pa.list_(pa.int32()), nullable=False),  # oldest first
        pa.field("items", pa.list_(pa.int32()), nullable=False),  # of the examples
        # Number of items of the history that each example sees, from the oldest on.
        pa.field("seen", pa.list_(pa.int32()), nullable=False),
        pa.field("weights", pa.list_(pa.float32()), nullable=False),
    ]
)


def example_schema(features: FeatureSchema) -> pa.Schema:
    """Returns the schema of the examples' files, with the encoded context; see `context_lists`."""
    schema = EXAMPLE_SCHEMA
    for feature in features.context:
        kind = pa.list_(pa.int32() if feature.is_sparse else pa.float32())
        schema = schema.append(pa.field(f"{CONTEXT}{feature.name}", kind, nullable=False))
    return schema


def part_file(directory: Path, part: int) -> Path:
    """Returns the file of a part of a table that is written in parts."""
    return directory / f"part-{part:05d}.parquet"


def context_lists(column: Column) -> pa.Array:
    """Converts an encoded feature to lists, because Parquet has no fixed-size lists with nulls.

    An absent value is an empty list, and a dense value the list of its numbers.
    """
    if isinstance(column, Jagged):
        return pa.LargeListArray.from_arrays(column.offsets, pa.array(column.values, pa.int32()))
    lengths = column.present * column.values.shape[1]
    numbers = pa.array(column.values[column.present].reshape(-1), pa.float32())
    return pa.LargeListArray.from_arrays(Jagged.from_lengths(numbers, lengths).offsets, numbers)


def context_columns(
    features: tuple[ContextFeature, ...], lists: Mapping[str, Jagged], rows: int
) -> dict[str, Column]:
    """Returns the encoded context by feature name; the inverse of `context_lists`.

    Args:
        features: Features of the context.
        lists: Lists by feature name, [rows]; may be empty if there are no rows.
        rows: Number of rows.
    """
    columns: dict[str, Column] = {}
    for feature in features:
        empty = Jagged(np.zeros(0, np.int32), np.zeros(rows + 1, np.int64))
        bags = lists.get(feature.name, empty)
        if feature.is_sparse:
            columns[feature.name] = bags
            continue
        present = bags.lengths > 0
        values = np.zeros((rows, feature.dense_width), np.float32)
        values[present] = bags.values.reshape(-1, values.shape[1])
        columns[feature.name] = Dense(values, present)
    return columns
