"""Builds batches: from a rank's examples to the arrays of their features, histories and views.

    Parquet  --reader-->  LocalBatch  --builder-->  HostBatch  ---->  Batch
             files        examples                  arrays            tensors on the device

Every random choice is a hash of the seed, the step and the row's position in the global batch, so
that a step is the same for any number of ranks, and for a training that was interrupted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Bools, Column, Dense, Floats, Ints, Jagged
from feature_store.core.hashing import hash_uniform
from feature_store.encoding.pooling import bag_weights
from feature_store.kinds import AnyFeature, ContextFeature, Feature
from feature_store.schema import qualified
from pipelines.prepared.examples import context_columns
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.data.candidates import CandidateBuilder, Candidates, only_items
from recsys.data.host_batch import HostBatch
from recsys.data.plan import rows_per_rank
from recsys.data.reader import LocalBatch
from recsys.data.replay import selected_events
from recsys.ssl.views import ViewBuilder, Views, value_positions

# Streams of random choices; 13, 14, 16 and 17 are those of the views.
_ID_DROPOUT, _HISTORY_DROPOUT, _CONTEXT_DROPOUT = 11, 12, 15

_NO_ITEMS = np.zeros(0, np.int64)


class BatchBuilder:
    """Builds the arrays of one rank's batches.

    Args:
        prepared: The prepared data.
        config: Configuration; its features, loss, ssl and seed are used.
        selection: Directory of the examples; None: all of the prepared ones.
        neighbours: Directory of the items' neighbours for the views; see `ViewBuilder`.
    """

    def __init__(
        self,
        prepared: Prepared,
        config: Config,
        selection: Path | None = None,
        neighbours: Path | None = None,
    ) -> None:
        self._item_features = prepared.features.item
        self._query_features = prepared.features.query
        self._context_features = prepared.features.context
        self._item_columns = prepared.item_columns
        self._query_columns = prepared.query_columns
        self._loss = config.loss
        self._seed = config.training.seed
        frequency = prepared.item_frequency if selection is None else selected_events(selection)
        self._has_learnt_id = prepared.has_learnt_id
        # An item without any event counts as one: log 0 would leave it out of every softmax.
        self._log_q = np.log(np.maximum(frequency, 1) / max(1, frequency.sum())).astype(np.float32)
        self.views = ViewBuilder(prepared, config, neighbours)
        self.candidates = CandidateBuilder(prepared, config)

    @property
    def num_items(self) -> int:
        """Number of items in the catalogue."""
        return len(self._has_learnt_id)

    def keys(self) -> list[str]:
        """Returns the names of the sparse features, in the order of the arrays."""
        return sparse_keys(self._item_features, self._query_features, self._context_features)

    def training(self, local: LocalBatch, rank: int, world_size: int) -> HostBatch:
        """Builds one rank's part of a global batch, padded to equally many rows on every rank.

        The weights of the examples make up for the padding, so that the mean over all rows is the
        mean over the examples.
        """
        size, count = len(local.global_items), len(local.query)
        rows = rows_per_rank(size, world_size)
        positions = np.arange(rank * rows, (rank + 1) * rows)
        padding = np.full(rows - count, -1)
        candidates = self.candidates.build(local, rank, world_size)
        history, read = self._training_history(local, positions)
        stacked = self._stack(
            candidates,
            np.append(local.query, padding),
            history,
            self._training_context(local, positions),
            self._shown_by_candidates(local.step, candidates.keys),
            self.views.build(local.step, local.global_items, rank, world_size),
        )
        scale = np.float32(rows * world_size / size)
        return replace(
            stacked,
            items=np.append(local.item, padding).astype(np.int64),
            weight=np.pad(local.weight * scale, (0, rows - count)),
            read=np.pad(read, (0, rows - len(read)), constant_values=-1),
        )

    def items(self, items: Ints) -> HostBatch:
        """Builds a batch that encodes items: each is a candidate, and there are no queries."""
        no_queries = np.full(len(items), -1)
        no_history = Jagged(_NO_ITEMS, np.zeros(len(items) + 1, np.int64))
        context = context_columns(self._context_features, {}, len(items))
        candidates = only_items(items, len(items))
        return self._stack(candidates, no_queries, no_history, context, self._all_shown(items))

    def queries(self, queries: Ints, history: Jagged, context: Mapping[str, Column]) -> HostBatch:
        """Builds a batch that encodes queries, without candidates; all arguments [queries]."""
        nothing = only_items(_NO_ITEMS, len(queries))
        return self._stack(nothing, queries, history, context, self._all_shown(_NO_ITEMS))

    def _shown_by_candidates(self, step: int, keys: Ints) -> Bools:
        """Returns which features each candidate shows, [features, candidates].

        Negatives hide their features as often as positives do, or the model could tell them apart
        by that.
        """
        shown = self.views.shown_in_main(step, keys)
        draws = hash_uniform(self._seed, _ID_DROPOUT, step, keys)
        is_id = np.array([feature.is_id for feature in self._item_features])
        shown[is_id] &= draws >= self._loss.id_dropout
        return shown

    def _all_shown(self, rows: Ints) -> Bools:
        return np.ones((len(self._item_features), len(rows)), bool)

    def _training_history(self, local: LocalBatch, positions: Ints) -> tuple[Jagged, Ints]:
        """Applies dropout to the histories; returns them and what is read; see `HostBatch`."""
        if local.reads is None:
            history, read = _padded(local.history, len(positions)), None
        else:
            history, positions = local.history, local.reads.positions
            read = local.reads.element
        if self._loss.history_dropout:
            row, index = value_positions(history, positions)
            draws = hash_uniform(self._seed, _HISTORY_DROPOUT, local.step, row, index)
            kept = draws >= self._loss.history_dropout
            read = None if read is None else _read_after_dropout(history, read, kept)
            history = history.keep(kept)
        return history, _last_elements(history) if read is None else read

    def _training_context(self, local: LocalBatch, positions: Ints) -> dict[str, Column]:
        """Returns the context columns after dropout, padded to the positions in the batch."""
        count = len(local.query)
        if not count:
            return context_columns(self._context_features, {}, len(positions))
        columns = context_columns(self._context_features, local.context, count)
        rows = np.pad(np.arange(count), (0, len(positions) - count), constant_values=-1)
        for index, (name, column) in enumerate(columns.items()):
            draws = hash_uniform(self._seed, _CONTEXT_DROPOUT, local.step, index, positions)
            visible = (rows >= 0) & (draws >= self._loss.context_dropout)
            columns[name] = _take(column, rows, visible)
        return columns

    def _stack(
        self,
        candidates: Candidates,
        queries: Ints,
        history: Jagged,
        context: Mapping[str, Column],
        shown: Bools,
        views: Views | None = None,
    ) -> HostBatch:
        """Builds the arrays of stacked candidates, views and history items."""
        views = views or self.views.none()
        view_items = views.items
        distinct, inverse = _distinct(history.values)
        blocks = [candidates.items, view_items.reshape(-1), distinct]
        spare = len(queries) - sum(map(len, blocks))  # Queries need rows too.
        rows = np.concatenate([*blocks, np.full(max(0, spare), -1)]).astype(np.int64)
        item = _Side(self._item_features, self._item_rows(rows, shown, views), len(rows))
        query = _Side(self._query_features, self._query_rows(queries), len(rows))
        of_context = [context[feature.name] for feature in self._context_features]
        asked = _Side(self._context_features, of_context, len(rows))
        bags = [*item.bags, *query.bags, *asked.bags]
        item_dense, item_dense_present = item.dense(len(rows))
        query_dense, query_dense_present = query.dense(len(queries))
        context_dense, context_dense_present = asked.dense(len(queries))
        return HostBatch(
            values=np.concatenate([values for values, _, _ in bags]).astype(np.int64),
            weights=np.concatenate([weights for _, weights, _ in bags]),
            lengths=np.stack([lengths for _, _, lengths in bags]).astype(np.int32),
            item_dense=item_dense,
            item_dense_present=item_dense_present,
            query_dense=query_dense,
            query_dense_present=query_dense_present,
            context_dense=context_dense,
            context_dense_present=context_dense_present,
            history=inverse.astype(np.int64),
            history_offsets=history.offsets.astype(np.int64),
            read=_last_elements(history),
            items=np.full(len(queries), -1),
            weight=np.ones(len(queries), np.float32),
            candidates=candidates.items.astype(np.int64),
            log_q=self._log_q[candidates.items],
            uniform=np.array(candidates.uniform, np.float32),
            targets=candidates.targets,
            accidental_hits=candidates.accidental_hits,
            view_items=view_items.astype(np.int64),
            view_hidden=views.hidden,
            view_key=views.key,
        )

    def _item_rows(self, rows: Ints, shown: Bools, views: Views) -> Iterable[Column]:
        """Yields the column of each item feature, [rows], without what is hidden or dropped."""
        for index, feature in enumerate(self._item_features):
            visible = self._visible(index, feature, rows, shown[index], views)
            column = _take(self._item_columns[feature.name], rows, visible)
            if isinstance(column, Jagged) and feature.has_several_values:
                column = views.drop_values(index, column, shown.shape[1])
            yield column

    def _query_rows(self, queries: Ints) -> Iterable[Column]:
        """Yields the column of each query feature, [queries]; -1 is padding."""
        for feature in self._query_features:
            yield _take(self._query_columns[feature.name], queries, queries >= 0)

    def _visible(
        self, index: int, feature: Feature, rows: Ints, shown: Bools, views: Views
    ) -> Bools:
        """Returns which rows show the feature, [rows]."""
        visible = rows >= 0
        candidates = len(shown)
        if feature.is_id:
            visible &= self._has_learnt_id[rows]
        visible[:candidates] &= shown
        # To the paper's letter: every item of the corpus shows its id.
        in_views = views.shows(index, is_id=feature.is_id)
        visible[candidates : candidates + len(in_views)] = in_views
        return visible


def sparse_keys(
    items: tuple[Feature, ...],
    queries: tuple[Feature, ...],
    context: tuple[ContextFeature, ...] = (),
) -> list[str]:
    """Returns the names of the sparse features of both sides and of the context."""
    return [
        *(qualified("item", feature) for feature in items if feature.is_sparse),
        *(qualified("query", feature) for feature in queries if feature.is_sparse),
        *(qualified("context", feature) for feature in context if feature.is_sparse),
    ]


class _Side:
    """Columns of one side's features, or of the context's, sorted into bags and numbers.

    Attributes:
        bags: Values, weights and lengths [rows] of each sparse feature; the weights of a bag sum to
            1.

    Args:
        features: Features of the side.
        columns: One column for each feature.
        rows: Number of stacked rows, to which bags are padded with empty ones.
    """

    def __init__(
        self, features: Sequence[AnyFeature], columns: Iterable[Column], rows: int
    ) -> None:
        self.bags: list[tuple[Ints, Floats, Ints]] = []
        self._dense: list[Dense] = []
        for feature, column in zip(features, columns, strict=True):
            if isinstance(column, Dense):
                self._dense.append(column)
                continue
            weights = bag_weights(column, feature.recency_half_life)
            lengths = np.pad(column.lengths, (0, rows - len(column)))
            self.bags.append((column.values, weights, lengths))

    def dense(self, rows: int) -> tuple[Floats, Bools]:
        """Returns the dense features' numbers and presence, each side by side."""
        if not self._dense:
            return np.zeros((rows, 0), np.float32), np.zeros((rows, 0), bool)
        numbers = np.concatenate([column.values for column in self._dense], axis=1)
        return numbers, np.stack([column.present for column in self._dense], axis=1)


def _distinct(values: Ints) -> tuple[Ints, Ints]:
    """Returns `np.unique` with the inverse, by hashing: several times as fast as sorting."""
    encoded = pa.array(values).dictionary_encode()
    distinct = encoded.dictionary.to_numpy()
    order = np.argsort(distinct)
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    return distinct[order], position[encoded.indices.to_numpy()]


def _padded(column: Jagged, rows: int) -> Jagged:
    """Appends empty rows."""
    return Jagged(column.values, np.pad(column.offsets, (0, rows - len(column)), mode="edge"))


def _last_elements(column: Jagged) -> Ints:
    """Returns the last value of each bag, -1 where it is empty."""
    return np.where(column.lengths > 0, column.offsets[1:] - 1, -1)


def _read_after_dropout(column: Jagged, read: Ints, kept: Bools) -> Ints:
    """Returns the latest kept value up to each read one, counted among the kept values alone."""
    bag = np.searchsorted(column.offsets, read, side="right") - 1
    before = np.concatenate([[0], np.cumsum(kept)])
    left = before[read + 1] - 1
    return np.where((read >= 0) & (left >= before[column.offsets[np.maximum(bag, 0)]]), left, -1)


def _take(column: Column, rows: Ints, visible: Bools) -> Column:
    """Returns the rows of a column, where those that are not visible are absent."""
    if isinstance(column, Dense):
        dense = column.take(rows)
        present = dense.present & visible
        return Dense(np.where(present[:, None], dense.values, np.float32(0)), present)
    starts = column.offsets[rows]
    lengths = np.where(visible, column.offsets[rows + 1] - starts, 0)
    ends = np.cumsum(lengths)
    if lengths.max(initial=0) <= 1:
        positions = starts[lengths > 0]
    else:
        positions = np.repeat(starts - (ends - lengths), lengths)
        positions += np.arange(len(positions))
    return Jagged(column.values[positions], np.concatenate([[0], ends]))
