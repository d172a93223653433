"""From examples to the arrays of a batch: features, history, masks, dropout and negatives' hits.

Every random choice is a hash of the seed, the step and the row's place in the global batch, so that
a step is the same whatever the number of ranks, and whether or not training was interrupted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.core.columns import Bools, Column, Dense, Ints, Jagged
from feature_store.core.hashing import hash_uniform
from feature_store.encoding.pooling import bag_weights
from feature_store.schema import (
    AnyFeature,
    ContextFeature,
    Feature,
    qualified,
)
from pipelines.prepared.reader import Prepared, context_columns
from recsys.config.config import Config
from recsys.data.candidates import CandidateBuilder, Candidates, only_items
from recsys.data.reader import Share
from recsys.ssl.views import ViewBuilder, Views, value_positions

# By name: what a batch is made of. No tensors, so that the tasks that build them need no torch.
Arrays = dict[str, npt.NDArray[Any]]

# 13, 14, 16 and 17 are the views'.
_ID_DROPOUT, _HISTORY_DROPOUT, _CONTEXT_DROPOUT = 11, 12, 15


_NO_ITEMS = np.zeros(0, np.int64)


class BatchBuilder:
    """Builds the arrays of `Batch` for one rank.

    Args:
        prepared: The prepared data.
        config: Its features, loss, ssl and seed are used.
    """

    def __init__(self, prepared: Prepared, config: Config) -> None:
        self._item_features = prepared.features.item
        self._query_features = prepared.features.query
        self._context_features = prepared.features.context
        self._item_columns = prepared.item_columns
        self._query_columns = prepared.query_columns
        self._loss = config.loss
        self._seed = config.training.seed
        frequency = prepared.item_frequency
        self._has_learnt_id = prepared.has_learnt_id
        # An item without any counts as one: log 0 would leave it out of every softmax.
        self._log_q = np.log(np.maximum(frequency, 1) / max(1, frequency.sum())).astype(np.float32)
        self.views = ViewBuilder(prepared, config)
        self.candidates = CandidateBuilder(prepared, config)

    @property
    def num_items(self) -> int:
        """Items of the catalogue."""
        return len(self._has_learnt_id)

    def keys(self) -> list[str]:
        """Of the sparse features, in the order of the arrays."""
        return sparse_keys(self._item_features, self._query_features, self._context_features)

    def training(self, share: Share, rank: int, world_size: int) -> Arrays:
        """One rank's share of a global batch, padded to as many rows as every rank has.

        What is padding has no query, item or history, weighs nothing, and is nobody's negative. The
        other weights make up for it, so that the mean over all rows is that over the examples.
        """
        size, count = len(share.columns), len(share.query)
        rows = -(-size // world_size)
        own = np.arange(rank * rows, (rank + 1) * rows)
        history, read = self._training_history(share, own)
        views = self.views.share(share.step, share.columns, rank, world_size)
        candidates = self.candidates.share(share, rank, world_size)
        shown = self._shown(share.step, candidates.keys)
        nobody = np.full(rows - count, -1)
        query = np.append(share.query, nobody)
        context = self._training_context(share, own)
        arrays = self._arrays(candidates, query, history, context, shown, views)
        arrays["items"] = np.append(share.item, nobody).astype(np.int64)
        scale = np.float32(rows * world_size / size)
        arrays["weight"] = np.pad(share.weight * scale, (0, rows - count))
        arrays["read"] = np.pad(read, (0, rows - len(read)), constant_values=-1)
        return arrays

    def items(self, items: Ints) -> Arrays:
        """To encode items: each is a candidate, and there are no queries."""
        nobody = np.full(len(items), -1)
        empty = Jagged(_NO_ITEMS, np.zeros(len(items) + 1, np.int64))
        context = context_columns(self._context_features, {}, len(items))
        shown = self._all_shown(items)
        return self._arrays(only_items(items, len(items)), nobody, empty, context, shown)

    def queries(self, queries: Ints, history: Jagged, context: Mapping[str, Column]) -> Arrays:
        """To encode queries, without candidates; all [queries]."""
        nothing = only_items(_NO_ITEMS, len(queries))
        return self._arrays(nothing, queries, history, context, self._all_shown(_NO_ITEMS))

    def _shown(self, step: int, keys: Ints) -> Bools:
        """Which features each candidate shows, [features, candidates].

        Negatives hide them as often as positives, or the model could tell them apart by that.
        """
        shown = self.views.shown_in_main(step, keys)
        draws = hash_uniform(self._seed, _ID_DROPOUT, step, keys)
        is_id = np.array([feature.is_id for feature in self._item_features])
        shown[is_id] &= draws >= self._loss.id_dropout
        return shown

    def _all_shown(self, rows: Ints) -> Bools:
        return np.ones((len(self._item_features), len(rows)), bool)

    def _training_history(self, share: Share, own: Ints) -> tuple[Jagged, Ints]:
        """Histories without what dropout takes, and what is read of them; see `Batch`."""
        if share.reads is None:
            history, places, read = _padded(share.history, len(own)), own, None
        else:
            history, places, read = share.history, share.reads.place, share.reads.element
        if self._loss.history_dropout:
            place, position = value_positions(history, places)
            draws = hash_uniform(self._seed, _HISTORY_DROPOUT, share.step, place, position)
            kept = draws >= self._loss.history_dropout
            read = None if read is None else _read_of_kept(history, read, kept)
            history = history.keep(kept)
        return history, _ends(history) if read is None else read

    def _training_context(self, share: Share, own: Ints) -> dict[str, Column]:
        """Each feature hidden now and then, padded to the places `own` in the global batch."""
        count = len(share.query)
        if not count:
            return context_columns(self._context_features, {}, len(own))
        columns = context_columns(self._context_features, share.context, count)
        rows = np.pad(np.arange(count), (0, len(own) - count), constant_values=-1)
        for index, (name, column) in enumerate(columns.items()):
            draws = hash_uniform(self._seed, _CONTEXT_DROPOUT, share.step, index, own)
            visible = (rows >= 0) & (draws >= self._loss.context_dropout)
            columns[name] = _take(column, rows, visible)
        return columns

    def _arrays(
        self,
        candidates: Candidates,
        queries: Ints,
        history: Jagged,
        context: Mapping[str, Column],
        shown: Bools,
        views: Views | None = None,
    ) -> Arrays:
        distinct, inverse = _distinct(history.values)
        views = views or self.views.none()
        items, view_items = candidates.items, views.matrix()
        blocks = [items, view_items.reshape(-1), distinct]
        spare = len(queries) - sum(map(len, blocks))  # Queries need rows too.
        rows = np.concatenate([*blocks, np.full(max(0, spare), -1)]).astype(np.int64)
        bags: list[tuple[Ints, npt.NDArray[np.float32], Ints]] = []
        dense: list[Dense] = []
        for index, feature in enumerate(self._item_features):
            visible = self._visible(index, feature, rows, shown[index], views)
            column = _take(self._item_columns[feature.name], rows, visible)
            if isinstance(column, Dense):
                dense.append(column)
                continue
            if feature.has_several_values:
                column = views.drop_values(index, column, len(items))
            bags.append(_weighted(feature, column, len(rows)))
        query_dense, context_dense = [], []
        for feature in self._query_features:
            column = _take(self._query_columns[feature.name], queries, queries >= 0)
            if isinstance(column, Dense):
                query_dense.append(column)
            else:
                bags.append(_weighted(feature, column, len(rows)))
        for of_context in self._context_features:
            column = context[of_context.name]
            if isinstance(column, Dense):
                context_dense.append(column)
            else:
                bags.append(_weighted(of_context, column, len(rows)))
        return {
            "values": np.concatenate([bag[0] for bag in bags]).astype(np.int64),
            "weights": np.concatenate([bag[1] for bag in bags]),
            "lengths": np.concatenate([bag[2] for bag in bags]).astype(np.int32),
            **_dense_arrays("item", dense, len(rows)),
            **_dense_arrays("query", query_dense, len(queries)),
            **_dense_arrays("context", context_dense, len(queries)),
            "history": inverse.astype(np.int64),
            "history_offsets": history.offsets.astype(np.int64),
            "read": _ends(history),
            "items": np.full(len(queries), -1),
            "weight": np.ones(len(queries), np.float32),
            "candidates": items.astype(np.int64),
            "log_q": self._log_q[items],
            "uniform": np.array(candidates.uniform, np.float32),
            "targets": candidates.targets,
            "hits": candidates.hits,
            "known": candidates.known,
            "view_items": view_items.astype(np.int64),
            "view_hidden": views.hidden,
            "view_key": views.key,
        }

    def _visible(
        self, index: int, feature: Feature, rows: Ints, shown: Bools, views: Views
    ) -> Bools:
        """Which rows show the feature, [rows]."""
        visible = rows >= 0
        candidates = len(shown)
        if feature.is_id:
            visible &= self._has_learnt_id[rows]
        visible[:candidates] &= shown
        # To the paper's letter: every item of the corpus shows its id.
        in_views = views.shows(index)
        visible[candidates : candidates + len(in_views)] = in_views
        return visible


def sparse_keys(
    items: tuple[Feature, ...],
    queries: tuple[Feature, ...],
    context: tuple[ContextFeature, ...] = (),
) -> list[str]:
    """Keys of the sparse features of both sides and of the context."""
    return [
        *(qualified("item", feature) for feature in items if feature.is_sparse),
        *(qualified("query", feature) for feature in queries if feature.is_sparse),
        *(qualified("context", feature) for feature in context if feature.is_sparse),
    ]


def _distinct(values: Ints) -> tuple[Ints, Ints]:
    """As `np.unique` with the inverse; by hashing, which is several times as fast as sorting."""
    encoded = pa.array(values).dictionary_encode()
    distinct = encoded.dictionary.to_numpy()
    order = np.argsort(distinct)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return distinct[order], rank[encoded.indices.to_numpy()]


def _padded(column: Jagged, rows: int) -> Jagged:
    """With empty rows at the end."""
    return Jagged(column.values, np.pad(column.offsets, (0, rows - len(column)), mode="edge"))


def _ends(column: Jagged) -> Ints:
    """The last value of each bag, -1 where it is empty."""
    return np.where(column.lengths > 0, column.offsets[1:] - 1, -1)


def _read_of_kept(column: Jagged, read: Ints, kept: Bools) -> Ints:
    """Of what bags are read up to, the latest value that is kept, after the others are gone."""
    bag = np.searchsorted(column.offsets, read, side="right") - 1
    before = np.concatenate([[0], np.cumsum(kept)])
    left = before[read + 1] - 1
    return np.where((read >= 0) & (left >= before[column.offsets[np.maximum(bag, 0)]]), left, -1)


def _take(column: Column, rows: Ints, visible: Bools) -> Column:
    """The rows, with those that are not visible absent."""
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


def _weighted(
    feature: AnyFeature, column: Jagged, rows: int
) -> tuple[Ints, npt.NDArray[np.float32], Ints]:
    """Values, their weights, which sum to 1 in each bag, and lengths, padded to [rows]."""
    weights = bag_weights(column, feature.recency_half_life)
    return column.values, weights, np.pad(column.lengths, (0, rows - len(column)))


def _dense_arrays(group: str, columns: list[Dense], rows: int) -> Arrays:
    """Side by side: the numbers, and which columns have some."""
    return {
        f"{group}_dense": _side_by_side([column.values for column in columns], rows),
        f"{group}_dense_present": _side_by_side([c.present[:, None] for c in columns], rows),
    }


def _side_by_side(columns: list[npt.NDArray[np.generic]], rows: int) -> npt.NDArray[np.generic]:
    return np.concatenate(columns, axis=1) if columns else np.zeros((rows, 0), np.float32)
