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

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from feature_store.core.columns import Bools, Column, Ints, Jagged, read_columns
from feature_store.core.documents import read_record
from feature_store.core.errors import UserError
from feature_store.core.manifests import read_manifest
from feature_store.encoding.encoder import SideEncoder
from feature_store.schema import Side
from pipelines.prepared.examples import CONTEXT, SEQUENCES, SPLITS
from pipelines.prepared.manifest import MutualInformation, PreparedManifest
from pipelines.prepared.query_state import QueryState
from pipelines.settings import Repeats


def _statistics(path: Path, column: str) -> Iterator[pq.Statistics]:
    """Yields the statistics of a column's row groups, from the file's footer."""
    footer = pq.read_metadata(path)
    position = footer.schema.names.index(column)
    for group in range(footer.num_row_groups):
        statistics = footer.row_group(group).column(position).statistics
        if statistics is not None and statistics.has_min_max:
            yield statistics


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
