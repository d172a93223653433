"""From examples to the arrays of a batch: features, history, masks, dropout and negatives' hits.

Every random choice is a hash of the seed, the step and the row's place in the global batch, so that
a step is the same whatever the number of ranks, and whether or not training was interrupted.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.columns import Column, Dense, Ints, Jagged
from feature_store.history import hash64, hash_uniform
from feature_store.schema import Feature, IdFeature, is_sparse, qualified, takes_several_values
from pipelines.prepared import Prepared
from recsys.config import Config, NoSelfSupervision
from recsys.masking import build_masking

Bools = npt.NDArray[np.bool_]
# By name: what a batch is made of. No tensors, so that the tasks that build them need no torch.
Arrays = dict[str, npt.NDArray[Any]]

_ID_DROPOUT, _HISTORY_DROPOUT, _VALUE_DROPOUT, _VIEW_ITEMS = 11, 12, 13, 14


@dataclass(frozen=True)
class Window:
    """The examples of one global batch.

    Attributes:
        step: Counted from 0 over the whole training.
        query: [rows] int32.
        item: [rows] int32.
        history: [rows] items, oldest first.
        weight: [rows] float32.
    """

    step: int
    query: Ints
    item: Ints
    history: Jagged
    weight: npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Views:
    """Rows of the two views: `group` [features] is hidden in A, the rest in B."""

    items: Ints
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
        self._item_columns = prepared.item_columns
        self._query_columns = prepared.query_columns
        self._known = prepared.query_state.train
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
        return sparse_keys(self._item_features, self._query_features)

    def training(self, window: Window, rank: int, world_size: int) -> Arrays:
        """One rank's share of a global batch."""
        rows = len(window.query) // world_size
        own = np.arange(rank * rows, (rank + 1) * rows)
        query, item = window.query[own], window.item[own]
        history = window.history.take(own)
        if self._loss.history_dropout:
            place, position = _places(history, own)
            draws = hash_uniform(self._seed, _HISTORY_DROPOUT, window.step, place, position)
            history = history.keep(draws >= self._loss.history_dropout)
        draws = hash_uniform(self._seed, _ID_DROPOUT, window.step, own)
        shows_id = draws >= self._loss.id_dropout
        views = self._views(window.step, rank, world_size)
        arrays = self._arrays(item, query, history, shows_id, views)
        arrays["weight"] = window.weight[own]
        arrays["hits"] = accidental_hits(self._known, query, window.item, own)
        return arrays

    def items(self, items: Ints) -> Arrays:
        """To encode items: each is an example's positive, and there are no queries."""
        nobody = np.full(len(items), -1)
        empty = Jagged(_NO_ITEMS, np.zeros(len(items) + 1, np.int64))
        return self._arrays(items, nobody, empty, np.ones(len(items), bool), None)

    def queries(self, queries: Ints, history: Jagged) -> Arrays:
        """To encode queries: the examples have no positives."""
        nothing = np.full(len(queries), -1)
        return self._arrays(nothing, queries, history, np.ones(len(queries), bool), None)

    def view_items(self, step: int) -> Ints:
        """The global batch's items of the self-supervised task, uniform over the catalogue."""
        if isinstance(self._ssl, NoSelfSupervision):
            return _NO_ITEMS
        count = self._ssl.batch_size or self._batch_size
        draws = hash64(self._seed, _VIEW_ITEMS, step, np.arange(count))
        return (draws % np.uint64(self.num_items)).astype(np.int64)

    def _views(self, step: int, rank: int, world_size: int) -> _Views | None:
        if self._masking is None:
            return None
        items = self.view_items(step)
        size = len(items) // world_size
        own = np.arange(rank * size, (rank + 1) * size)
        return _Views(items[own], own, self._masking.group(step), step)

    def _arrays(
        self, items: Ints, queries: Ints, history: Jagged, shows_id: Bools, views: _Views | None
    ) -> Arrays:
        distinct, inverse = np.unique(history.values, return_inverse=True)
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
            bags.append(_weighted(column, len(rows)))
        query_dense: list[Dense] = []
        for feature in self._query_features:
            column = _take(self._query_columns[feature.name], queries, queries >= 0)
            if isinstance(column, Dense):
                query_dense.append(column)
            else:
                bags.append(_weighted(column, len(rows)))
        return {
            "values": np.concatenate([bag[0] for bag in bags]).astype(np.int64),
            "weights": np.concatenate([bag[1] for bag in bags]),
            "lengths": np.concatenate([bag[2] for bag in bags]).astype(np.int32),
            "item_dense": _side_by_side([column.values for column in dense], len(rows)),
            "item_dense_present": _side_by_side([c.present[:, None] for c in dense], len(rows)),
            "query_dense": _side_by_side([c.values for c in query_dense], len(queries)),
            "query_dense_present": _side_by_side(
                [c.present[:, None] for c in query_dense], len(queries)
            ),
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
            visible[examples:middle] = not views.group[index]
            visible[middle:end] = views.group[index]
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


def sparse_keys(items: tuple[Feature, ...], queries: tuple[Feature, ...]) -> list[str]:
    """Keys of the sparse features of both sides."""
    return [qualified("item", feature) for feature in items if is_sparse(feature)] + [
        qualified("query", feature) for feature in queries if is_sparse(feature)
    ]


def accidental_hits(known: Jagged, query: Ints, columns: Ints, own: Ints) -> Ints:
    """The in-batch negatives that are the query's own training positives, [n, 2] row and column.

    Args:
        known: Training items of every query.
        query: [rows] this rank's queries.
        columns: [columns] items of the global batch.
        own: [rows] each row's own column, which is never a hit.
    """
    order = np.argsort(columns, kind="stable")
    ordered = columns[order]
    items = known.take(query)
    # Most known items are in no column: a small table of hashes sorts them out before the search.
    buckets = 8 << len(columns).bit_length()
    is_used = np.zeros(buckets, bool)
    is_used[columns % buckets] = True
    items = items.keep(is_used[items.values % buckets])
    first = np.searchsorted(ordered, items.values, side="left")
    counts = np.searchsorted(ordered, items.values, side="right") - first
    found = Jagged.from_lengths(np.zeros(0, np.int64), counts)
    row = np.repeat(items.row_of_value(), counts)
    steps = np.arange(len(row)) - np.repeat(found.offsets[:-1], counts)
    column = order[np.repeat(first, counts) + steps]
    is_hit = column != own[row]
    return np.stack([row[is_hit], column[is_hit]], axis=1).astype(np.int64)


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
    lengths = np.where(visible, column.lengths[rows], 0)
    return Jagged.from_lengths(column.take(rows[visible]).values, lengths)


def _weighted(column: Jagged, rows: int) -> tuple[Ints, npt.NDArray[np.float32], Ints]:
    """Values, their weights (1 over the bag's length) and lengths, padded to [rows]."""
    weights = (1.0 / column.lengths[column.row_of_value()]).astype(np.float32)
    return column.values, weights, np.pad(column.lengths, (0, rows - len(column)))


def _side_by_side(columns: list[npt.NDArray[np.generic]], rows: int) -> npt.NDArray[np.generic]:
    return np.concatenate(columns, axis=1) if columns else np.zeros((rows, 0), np.float32)
