"""From examples to the arrays of a batch: features, history, masks, dropout and negatives' hits.

Every random choice is a hash of the seed, the step and the row's place in the global batch, so that
a step is the same whatever the number of ranks, and whether or not training was interrupted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.columns import Bools, Column, Dense, Ints, Jagged
from feature_store.history import hash64, hash_uniform
from feature_store.pooling import bag_weights
from feature_store.schema import (
    AnyFeature,
    ContextFeature,
    Feature,
    IdFeature,
    half_life_of,
    is_sparse,
    qualified,
    takes_several_values,
)
from pipelines.prepared import Prepared, context_columns
from recsys.config import Config
from recsys.hits import accidental_hits, padding_hits
from recsys.masking import build_masking
from recsys.ssl_settings import NoSelfSupervision

# By name: what a batch is made of. No tensors, so that the tasks that build them need no torch.
Arrays = dict[str, npt.NDArray[Any]]

_ID_DROPOUT, _HISTORY_DROPOUT, _VALUE_DROPOUT, _VIEW_ITEMS, _CONTEXT_DROPOUT = 11, 12, 13, 14, 15


@dataclass(frozen=True)
class Share:
    """One rank's examples of a global batch; the last ranks may have fewer, or none.

    Attributes:
        step: Counted from 0 over the whole training.
        query: [rows] int32.
        item: [rows] int32.
        history: [rows] items, oldest first.
        weight: [rows] float32.
        columns: Items of the whole global batch, int32.
        context: [rows] by feature name, as of `context_lists`.
    """

    step: int
    query: Ints
    item: Ints
    history: Jagged
    weight: npt.NDArray[np.float32]
    columns: Ints
    context: dict[str, Jagged] = field(default_factory=dict)


@dataclass(frozen=True)
class _Views:
    """Rows of the two views: `group` [features] is hidden in A, the rest in B."""

    items: Ints  # -1 is padding
    places: Ints  # in the global batch
    group: Bools
    step: int


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
        self._known = prepared.query_state.train
        self._current = np.flatnonzero(prepared.is_current_item)
        self._loss = config.loss
        self._ssl = config.ssl
        self._seed = config.training.seed
        self._batch_size = config.training.batch_size
        frequency = prepared.item_frequency
        # An id that no training event has cannot have been learnt: its random row would be noise.
        self._has_learnt_id = frequency > 0
        self._log_q = np.log(np.maximum(frequency, 1) / max(1, frequency.sum())).astype(np.float32)
        self._masking = build_masking(config.ssl, prepared.mutual_information, self._seed)

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
        history = _padded(share.history, rows)
        if self._loss.history_dropout:
            place, position = _places(history, own)
            draws = hash_uniform(self._seed, _HISTORY_DROPOUT, share.step, place, position)
            history = history.keep(draws >= self._loss.history_dropout)
        draws = hash_uniform(self._seed, _ID_DROPOUT, share.step, own)
        shows_id = draws >= self._loss.id_dropout
        views = self._views(share.step, rank, world_size)
        nobody = np.full(rows - count, -1)
        item, query = np.append(share.item, nobody), np.append(share.query, nobody)
        context = self._training_context(share, own)
        arrays = self._arrays(item, query, history, context, shows_id, views)
        scale = np.float32(rows * world_size / size)
        arrays["weight"] = np.pad(share.weight * scale, (0, rows - count))
        hits = accidental_hits(self._known, share.query, share.columns, own[:count])
        padding = padding_hits(own, np.arange(size, rows * world_size))
        arrays["hits"] = np.concatenate([hits, padding])
        return arrays

    def items(self, items: Ints) -> Arrays:
        """To encode items: each is an example's positive, and there are no queries."""
        nobody = np.full(len(items), -1)
        empty = Jagged(_NO_ITEMS, np.zeros(len(items) + 1, np.int64))
        context = context_columns(self._context_features, {}, len(items))
        return self._arrays(items, nobody, empty, context, np.ones(len(items), bool), None)

    def queries(self, queries: Ints, history: Jagged, context: Mapping[str, Column]) -> Arrays:
        """To encode queries: the examples have no positives; all [queries]."""
        nothing = np.full(len(queries), -1)
        shows_id = np.ones(len(queries), bool)
        return self._arrays(nothing, queries, history, context, shows_id, None)

    def view_items(self, step: int) -> Ints:
        """The global batch's items of the self-supervised task, uniform over the catalogue."""
        if isinstance(self._ssl, NoSelfSupervision):
            return _NO_ITEMS
        count = self._ssl.batch_size or self._batch_size
        draws = hash64(self._seed, _VIEW_ITEMS, step, np.arange(count))
        return self._current[(draws % np.uint64(len(self._current))).astype(np.int64)]

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

    def _views(self, step: int, rank: int, world_size: int) -> _Views | None:
        if self._masking is None:
            return None
        items = self.view_items(step)
        size = -(-len(items) // world_size)
        own = np.arange(rank * size, (rank + 1) * size)
        items = np.append(items, np.full(size * world_size - len(items), -1))
        return _Views(items[own], own, self._masking.group(step), step)

    def _arrays(
        self,
        items: Ints,
        queries: Ints,
        history: Jagged,
        context: Mapping[str, Column],
        shows_id: Bools,
        views: _Views | None,
    ) -> Arrays:
        distinct, inverse = _distinct(history.values)
        view_items = views.items if views is not None else _NO_ITEMS
        rows = np.concatenate([items, view_items, view_items, distinct]).astype(np.int64)
        bags: list[tuple[Ints, npt.NDArray[np.float32], Ints]] = []
        dense: list[Dense] = []
        for index, feature in enumerate(self._item_features):
            visible = self._visible(index, feature, rows, shows_id, views)
            column = _take(self._item_columns[feature.name], rows, visible)
            if isinstance(column, Dense):
                dense.append(column)
                continue
            if views is not None and takes_several_values(feature):
                column = self._drop_values(index, column, len(items), views)
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
            "items": items.astype(np.int64),
            "log_q": self._log_q[items],
            "weight": np.ones(len(items), np.float32),
            "hits": np.zeros((0, 2), np.int64),
            "view_items": view_items,
        }

    def _visible(
        self, index: int, feature: Feature, rows: Ints, shows_id: Bools, views: _Views | None
    ) -> Bools:
        """Which rows show the feature, [rows]."""
        visible = rows >= 0
        examples = len(shows_id)
        if isinstance(feature, IdFeature):
            visible &= self._has_learnt_id[rows]
            visible[:examples] &= shows_id
        if views is not None:  # To the paper's letter: every item of the corpus shows its id.
            middle, end = examples + len(views.items), examples + 2 * len(views.items)
            is_item = views.items >= 0
            visible[examples:middle] = is_item & (not views.group[index])
            visible[middle:end] = is_item & views.group[index]
        return visible

    def _drop_values(self, index: int, column: Jagged, examples: int, views: _Views) -> Jagged:
        """Value dropout, independently in each view."""
        rate = 0.0 if isinstance(self._ssl, NoSelfSupervision) else self._ssl.value_dropout
        size = len(views.items)
        start, end = column.offsets[examples], column.offsets[examples + 2 * size]
        if rate == 0.0 or start == end:
            return column
        # Place i of view A and of view B differ in the row that goes into the hash.
        row, position = _places(
            column.take(np.arange(examples, examples + 2 * size)),
            np.concatenate([2 * views.places, 2 * views.places + 1]),
        )
        draws = hash_uniform(self._seed, _VALUE_DROPOUT, views.step, index, row, position)
        kept = np.ones(len(column.values), bool)
        kept[start:end] = draws >= rate
        return column.keep(kept)


def sparse_keys(
    items: tuple[Feature, ...],
    queries: tuple[Feature, ...],
    context: tuple[ContextFeature, ...] = (),
) -> list[str]:
    """Keys of the sparse features of both sides and of the context."""
    return [
        *(qualified("item", feature) for feature in items if is_sparse(feature)),
        *(qualified("query", feature) for feature in queries if is_sparse(feature)),
        *(qualified("context", feature) for feature in context if is_sparse(feature)),
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


def _places(column: Jagged, rows: Ints) -> tuple[Ints, Ints]:
    """Of each value: its row's entry in `rows`, and its position within the bag."""
    row = column.row_of_value()
    return rows[row], np.arange(len(row)) - column.offsets[row]


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
    weights = bag_weights(column, half_life_of(feature))
    return column.values, weights, np.pad(column.lengths, (0, rows - len(column)))


def _dense_arrays(group: str, columns: list[Dense], rows: int) -> Arrays:
    """Side by side: the numbers, and which columns have some."""
    return {
        f"{group}_dense": _side_by_side([column.values for column in columns], rows),
        f"{group}_dense_present": _side_by_side([c.present[:, None] for c in columns], rows),
    }


def _side_by_side(columns: list[npt.NDArray[np.generic]], rows: int) -> npt.NDArray[np.generic]:
    return np.concatenate(columns, axis=1) if columns else np.zeros((rows, 0), np.float32)
