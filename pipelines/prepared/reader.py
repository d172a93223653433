"""The prepared directory: what `prepare` writes and every later stage reads.

manifest.json                        written last
vocabulary/                          see `SideEncoder.save`
items/features.arrow                 encoded features, row = item index
queries/features.arrow               encoded features, row = query index
queries/state.arrow                  each query's items by split and its history, see QueryState
queries/context-<split>.arrow        encoded context of each query's request, see `context_of`;
                                     where there are context features
queries/latest.npy                   time of each query's latest event, see `latest_event`; where a
                                     feature is the recency
train/ validation/ test/ part-*.parquet      shuffled examples, see `example_schema`
statistics/item_frequency.parquet    item_id, train, validation, test: events of each item
statistics/mutual_information.json   see `MutualInformation`
statistics/<side>.hashing.json       see `Collisions`; of a side with hashed features
rejected/<table>/part-*.parquet      every dropped row as it was in its table, and a reason
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from feature_store.core.columns import Bools, Column, Dense, Ints, Jagged, read_columns
from feature_store.core.documents import read_record
from feature_store.core.errors import UserError
from feature_store.core.manifests import read_manifest
from feature_store.core.settings import Frozen
from feature_store.encoding.encoder import SideEncoder
from feature_store.kinds import ContextFeature
from feature_store.schema import FeatureSchema, Side
from pipelines.prepared.query_state import QueryState
from pipelines.settings import DataConfig, Repeats

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


def _statistics(path: Path, column: str) -> Iterator[pq.Statistics]:
    """Yields the statistics of a column's row groups, from the file's footer."""
    footer = pq.read_metadata(path)
    position = footer.schema.names.index(column)
    for group in range(footer.num_row_groups):
        statistics = footer.row_group(group).column(position).statistics
        if statistics is not None and statistics.has_min_max:
            yield statistics


class Counts(Frozen):
    """Number of rows, examples and ids."""

    events_read: int
    train: int
    validation: int
    test: int
    items: int
    queries: int
    items_in_training: int
    rejected: dict[str, int]  # by reason, `<table>: <reason>`


class PreparedManifest(Frozen):
    """The manifest of a prepared directory: its inputs and its contents."""

    version: int = 1
    fingerprint: str  # of the configuration and the source files: equal means nothing to redo
    schema_fingerprint: str
    data: DataConfig
    features: FeatureSchema
    sources: dict[str, list[str]]  # table -> files
    # file of the events that was put aside -> reason
    rejected_files: dict[str, str] = Field(default_factory=dict)
    # marks of files of the events that were passed over without being read
    passed_over: tuple[str, ...] = ()
    as_of: str  # ISO-8601; events after it were rejected
    first_event: str | None
    last_event: str | None
    counts: Counts


class InformationMatrices(Frozen):
    """Mutual information of each pair of features; symmetric, [features, features].

    See `pipelines.statistics.mutual_information`.
    """

    raw: tuple[tuple[float, ...], ...]
    normalised: tuple[tuple[float, ...], ...]
    corrected: tuple[tuple[float, ...], ...]


class MutualInformation(Frozen):
    """Mutual information of item features, in the schema's order; in nats, except `normalised`."""

    features: tuple[str, ...]
    items: InformationMatrices  # every item counts the same
    interactions: InformationMatrices  # an item counts by its training events


class Prepared:
    """Reads a prepared directory; tables are memory-mapped when they are first needed.

    Args:
        directory: Directory that `prepare` wrote.

    Raises:
        UserError: There is no finished directory.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        manifest = read_manifest(self.directory, PreparedManifest)
        if manifest is None:
            raise UserError(f"{self.directory} holds no prepared data; run `recsys prepare` first.")
        self.manifest = manifest
        self.features = manifest.features

    def require_repeats(self, repeats: Repeats) -> None:
        """Checks that the data were prepared with a setting of `data.repeats`.

        Raises:
            UserError: They were prepared with the other one.
        """
        if repeats != self.manifest.data.repeats:
            raise UserError(
                f"{self.directory} was prepared with data.repeats: {self.manifest.data.repeats}, "
                f"and the configuration has {repeats}; run `recsys prepare` again."
            )

    @property
    def num_items(self) -> int:
        """Items of the catalogue."""
        return self.manifest.counts.items

    @property
    def num_queries(self) -> int:
        """Queries of the catalogue."""
        return self.manifest.counts.queries

    @cached_property
    def item_encoder(self) -> SideEncoder:
        """Vocabularies of the items; `.ids.tokens[i]` is the id of item i."""
        return SideEncoder.load(self.directory / "vocabulary", self.features, "item")

    @cached_property
    def query_encoder(self) -> SideEncoder:
        """Vocabularies of the queries."""
        return SideEncoder.load(self.directory / "vocabulary", self.features, "query")

    def encoder(self, side: Side) -> SideEncoder:
        """Returns the encoder of one side."""
        return self.item_encoder if side == "item" else self.query_encoder

    @cached_property
    def item_columns(self) -> dict[str, Column]:
        """Encoded features of the items by name, row = item index."""
        return read_columns(self.directory / "items" / "features.arrow")

    @cached_property
    def query_columns(self) -> dict[str, Column]:
        """Encoded features of the queries by name, row = query index."""
        return read_columns(self.directory / "queries" / "features.arrow")

    @cached_property
    def query_state(self) -> QueryState:
        """Items and histories of each query."""
        return QueryState.load(self.directory / "queries" / "state.arrow")

    @cached_property
    def own_items(self) -> Jagged:
        """Item that each query is itself, [queries], if queries' ids share the items' rows."""
        for feature in self.features.query:
            if feature.is_id and feature.shared_table is not None:
                column = self.query_columns[feature.name]
                assert isinstance(column, Jagged)
                return column
        return Jagged(np.empty(0, np.int32), np.zeros(self.num_queries + 1, np.int64))

    def excluded(self, split: str) -> Jagged:
        """Returns items that no answer holds in a split, [queries].

        They are the query itself and, unless `data.repeats` is allow, the items that it has.
        """
        if self.manifest.data.repeats == "allow":
            return self.own_items
        return self.query_state.known(split).beside(self.own_items)

    def latest_before_test(self) -> datetime | None:
        """Returns the time of the latest event before the test split; None without times."""
        return self._latest(SPLITS[:-1])

    def latest_training_event(self) -> datetime | None:
        """Returns the time of the latest training event; None without times."""
        return self._latest(SPLITS[:1])

    def _latest(self, splits: Iterable[str]) -> datetime | None:
        files = [path for split in splits for path in self.examples(split)]
        latest = (each.max for path in files for each in _statistics(path, "timestamp"))
        return max(latest, default=None)

    @cached_property
    def context_encoder(self) -> SideEncoder:
        """Vocabularies of the context."""
        return SideEncoder.load(self.directory / "vocabulary", self.features, "context")

    def context_of(self, queries: Ints, split: str) -> dict[str, Column]:
        """Returns the encoded context of requests for the held-out items of a split.

        It is that of the earliest of these items' events; a query without any has none. Values that
        are known only in training are absent.

        Args:
            queries: Indices of the queries, [queries].
            split: `validation` or `test`.

        Returns:
            Columns by feature name, [queries].
        """
        if not self.features.context:
            return {}
        columns = read_columns(self.directory / "queries" / f"context-{split}.arrow")
        return {f.name: columns[f"{CONTEXT}{f.name}"].take(queries) for f in self.features.context}

    @cached_property
    def latest_event(self) -> Ints | None:
        """Time of the latest event of each test history, [queries], microseconds since 1970.

        `NO_TIME` where there is none; None if no feature uses it.
        """
        path = self.directory / "queries" / "latest.npy"
        return np.load(path, mmap_mode="r") if path.exists() else None

    @cached_property
    def is_current_item(self) -> npt.NDArray[np.bool_]:
        """Whether each item is still in the log, [items]; others are no answers."""
        return self.item_encoder.ids.counts.to_numpy() > 0

    @cached_property
    def item_frequency(self) -> npt.NDArray[np.int64]:
        """Training events of each item, [items]."""
        table = pq.read_table(self.directory / "statistics" / "item_frequency.parquet")
        return table["train"].to_numpy()

    @cached_property
    def has_learnt_id(self) -> Bools:
        """Whether training reads each item's id, [items]: as an item, or as a query of that id.

        The random row of any other id would be noise.
        """
        learnt = self.item_frequency > 0
        asked = np.flatnonzero(self.query_state.train.lengths)
        learnt[self.own_items.take(asked).values] = True
        return learnt

    @cached_property
    def mutual_information(self) -> MutualInformation:
        """Mutual information of the item features."""
        path = self.directory / "statistics" / "mutual_information.json"
        return read_record(path, MutualInformation)

    def examples(self, split: str) -> list[Path]:
        """Lists the Parquet files of a split's examples, in order."""
        return sorted((self.directory / split).glob("part-*.parquet"))

    def sequences(self) -> list[Path]:
        """Lists the Parquet files of the training examples in sequences, in order.

        Raises:
            UserError: There are none.
        """
        files = sorted((self.directory / SEQUENCES).glob("part-*.parquet"))
        if not files:
            raise UserError(
                f"{self.directory} holds no sequences, which need data.history.kind past and no "
                "context features; set training.examples: events."
            )
        return files
