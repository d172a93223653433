"""Recommendations from a bundle's parts."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Bools, Floats, Ints, Jagged
from feature_store.core.errors import UserError
from feature_store.encoding.context import request_table
from feature_store.encoding.encoder import SideEncoder
from serving.bundle.ids import IdTable
from serving.bundle.manifest import BundleManifest
from serving.index.index import ItemIndex
from serving.recommend.answers import Item, Recommendation, Recommendations, SimilarItems
from serving.recommend.filters import ItemFilters, ValueLists
from serving.recommend.popularity import Popularity
from serving.recommend.queries import NOW, Asking, Known, Queries
from serving.recommend.query_tower import QueryTower
from serving.recommend.timing import Stages

MAX_K = 1000

# Queries of one forward and one search.
_BLOCK = 256


@dataclass(frozen=True)
class Catalogue:
    """Items, [items].

    Attributes:
        ids: Of all that ever were.
        indexed: Those of the index, ascending; others are gone.
        titles: Strings, if there are any.
        frequency: Training events.
        filters: By feature.
    """

    ids: IdTable
    indexed: Ints
    titles: pa.Array | None
    frequency: Ints
    filters: dict[str, ValueLists]

    @cached_property
    def places(self) -> Ints:
        """[items] in the index; -1 of those that are gone."""
        places = np.full(len(self.ids), -1)
        places[self.indexed] = np.arange(len(self.indexed))
        return places


class Recommender:
    """Answers from what a bundle holds; see `serving.recommend.load.load`.

    Several threads may use it at a time.

    Args:
        manifest: Of the bundle.
        catalogue: Its items.
        queries: What is known of queries.
        query_tower: Of queries whose vectors are not known yet.
        context_encoder: Of the context.
        index: Of the catalogue's indexed items.
    """

    def __init__(
        self,
        manifest: BundleManifest,
        catalogue: Catalogue,
        queries: Queries,
        query_tower: QueryTower,
        context_encoder: SideEncoder,
        index: ItemIndex,
    ) -> None:
        self.manifest = manifest
        self._catalogue = catalogue
        self._queries = queries
        self.query_tower = query_tower
        self._context_encoder = context_encoder
        self._index = index
        self._filters = ItemFilters(catalogue.filters, catalogue.places, len(index))
        self._popularity = Popularity(catalogue.frequency[catalogue.indexed])

    @property
    def filterable(self) -> tuple[str, ...]:
        """Item features whose values can be asked for."""
        return self._filters.features

    def recommend(
        self, query_id: str, k: int = 10, asking: Asking = NOW, stages: Stages | None = None
    ) -> Recommendations:
        """The k best items for a query; fewer where no more are left.

        Args:
            query_id: An unknown query is answered from what was given of it, else by popularity.
            k: 1 to `MAX_K`.
            asking: Circumstances and filters.
            stages: Is told where time went.

        Raises:
            UserError: k is out of range, or a value or a filter is not one of this model's.
        """
        return self.recommend_each([query_id], k, asking, stages)[0]

    def recommend_each(
        self,
        query_ids: Sequence[str],
        k: int = 10,
        asking: Asking = NOW,
        stages: Stages | None = None,
    ) -> list[Recommendations]:
        """As `recommend`, of several queries that are asked alike."""
        stages = stages or Stages()
        known, items, scores = self._answer(query_ids, k, asking, stages)
        found = []
        for row, query_id in enumerate(query_ids):
            mine = slice(items.offsets[row], items.offsets[row + 1])
            found.append(
                Recommendations.model_construct(
                    query_id=query_id,
                    items=self._shown(items.values[mine], scores[mine]),
                    fallback=bool(known.is_fallback[row]),
                    source="popularity" if known.is_blank[row] else "model",
                )
            )
        stages.end("answer")
        return found

    def recommend_batch(
        self,
        query_ids: Sequence[str],
        k: int = 10,
        asking: Asking = NOW,
        stages: Stages | None = None,
    ) -> pa.Table:
        """The k best items of many queries, in their order.

        Returns:
            Columns query_id, rank (from 1), item_id, score and fallback.

        Raises:
            UserError: As `recommend`.
        """
        stages = stages or Stages()
        parts = [
            self._answer(query_ids[start : start + _BLOCK], k, asking, stages)
            for start in range(0, max(1, len(query_ids)), _BLOCK)
        ]
        items = Jagged.concatenate([items for _, items, _ in parts])
        fallback = np.concatenate([known.is_fallback for known, _, _ in parts])
        asked = items.row_of_value()
        table = self._table("query_id", query_ids, items, np.concatenate([s for *_, s in parts]))
        return table.append_column("fallback", pa.array(fallback[asked]))

    def similar_items(self, item_id: str, k: int = 10, asking: Asking = NOW) -> SimilarItems:
        """The k items nearest to one; fewer where no more are left.

        Args:
            item_id: Of the catalogue; it is not in the answer.
            k: 1 to `MAX_K`.
            asking: Its filters, `where`, `allow` and `deny`.

        Raises:
            UserError: The item is not in the catalogue, k is out of range, or there is no such
                filter.
        """
        items, scores = self._similar([item_id], k, asking)
        return SimilarItems(item_id=item_id, items=self._shown(items.values, scores))

    def similar_items_batch(
        self, item_ids: Sequence[str], k: int = 10, asking: Asking = NOW
    ) -> pa.Table:
        """The k items nearest to each of many, in their order.

        Returns:
            Columns item_id, rank (from 1), similar_item_id and score.

        Raises:
            UserError: As `similar_items`.
        """
        parts = [
            self._similar(item_ids[start : start + _BLOCK], k, asking)
            for start in range(0, max(1, len(item_ids)), _BLOCK)
        ]
        items = Jagged.concatenate([items for items, _ in parts])
        table = self._table("asked", item_ids, items, np.concatenate([s for _, s in parts]))
        return table.rename_columns(["item_id", "rank", "similar_item_id", "score"])

    def encode(self, query_ids: Sequence[str], asking: Asking = NOW) -> Floats:
        """L2-normalised query vectors, [queries, dim]."""
        return self._encode(self._queries.known(query_ids, asking), asking)

    def liked(self, query_id: str, n: int = 10) -> tuple[Item, ...]:
        """The latest n items of the query's history, latest first; none of an unknown query's."""
        items = self._queries.history(query_id)[::-1][:n]
        ids = self._catalogue.ids
        return tuple(Item(item_id=ids[i], title=self._title(i)) for i in items.tolist())

    def without_online(self) -> "Recommender":
        """The same bundle, as if nothing had happened since it was made."""
        plain = copy.copy(self)
        plain._queries = self._queries.without_online()
        return plain

    def unknown_items(self, item_ids: Sequence[str]) -> tuple[str, ...]:
        """Those that are no items of the catalogue."""
        rows = self._catalogue.ids.rows(item_ids).tolist()
        return tuple(i for i, row in zip(item_ids, rows, strict=True) if row < 0)

    def _answer(
        self, query_ids: Sequence[str], k: int, asking: Asking, stages: Stages
    ) -> tuple[Known, Jagged, Floats]:
        """What is known of queries, their items, and each item's score."""
        _require_k(k)
        known = self._queries.known(query_ids, asking)
        stages.end("features")
        seen = known.excluded if asking.exclude_seen else _none(len(query_ids))
        excluded, allowed = self._excluded(seen, asking), self._allowed(asking)
        stages.end("filter")
        if known.is_blank.all() and len(query_ids):
            vectors = np.zeros((len(query_ids), self.manifest.dim), np.float32)
        else:
            vectors = self._encode(known, asking)
            stages.end("tower")
        places, scores = self._search(vectors, k, excluded, allowed, known.is_blank)
        stages.end("search")
        return known, Jagged(self._catalogue.indexed[places.values], places.offsets), scores

    def _search(
        self, vectors: Floats, k: int, excluded: Jagged, allowed: Bools | None, is_blank: Bools
    ) -> tuple[Jagged, Floats]:
        """Places by the model, and by popularity for queries of which nothing is known."""
        if not is_blank.any():
            return self._index.search(vectors, k, excluded, allowed)
        found, all_scores = [], []
        for row, blank in enumerate(is_blank.tolist()):
            own = excluded.take(np.array([row]))
            if blank:
                values, scores = self._popularity.top(k, own.values, allowed)
            else:
                places, scores = self._index.search(vectors[row : row + 1], k, own, allowed)
                values = places.values
            found.append(values)
            all_scores.append(scores)
        lengths = np.array([len(values) for values in found], np.int64)
        return Jagged.from_lengths(np.concatenate(found), lengths), np.concatenate(all_scores)

    def _similar(self, item_ids: Sequence[str], k: int, asking: Asking) -> tuple[Jagged, Floats]:
        _require_k(k)
        items = self._catalogue.ids.rows(item_ids)
        places = np.where(items < 0, -1, self._catalogue.places[items])
        if (places < 0).any():
            missing = item_ids[int(np.argmax(places < 0))]
            raise UserError(f"the catalogue has no item {missing!r}; ask for one of its items.")
        own = Jagged(items, np.arange(len(items) + 1))
        excluded, allowed = self._excluded(own, asking), self._allowed(asking)
        found, scores = self._index.search(self._index.vectors_of(places), k, excluded, allowed)
        return Jagged(self._catalogue.indexed[found.values], found.offsets), scores

    def _encode(self, known: Known, asking: Asking) -> Floats:
        if known.vectors is not None and not asking.context:
            return known.vectors
        features = self._context_encoder.features
        raw = request_table(features, asking.context, asking.time, known.latest)
        context = self._context_encoder.encode(raw)
        return self.query_tower(known.columns, len(known.latest), known.history, context)

    def _excluded(self, seen: Jagged, asking: Asking) -> Jagged:
        """Places that are no answers."""
        denied = self._catalogue.ids.rows(asking.deny)
        items = seen.beside(_each(denied[denied >= 0], len(seen))) if len(denied) else seen
        places = Jagged(self._catalogue.places[items.values], items.offsets)
        is_there = places.values >= 0
        return places if is_there.all() else places.keep(is_there)

    def _allowed(self, asking: Asking) -> Bools | None:
        """[places] those that the filters leave; None: all."""
        if not asking.where and asking.allow is None:
            return None
        mask = self._filters.mask(asking.where)
        if asking.allow is None:
            return mask
        items = self._catalogue.ids.rows(asking.allow)
        places = self._catalogue.places[items[items >= 0]]
        listed = np.zeros_like(mask)
        listed[places[places >= 0]] = True
        return mask & listed

    def _shown(self, items: Ints, scores: Floats) -> tuple[Recommendation, ...]:
        ids = self._catalogue.ids
        return tuple(
            Recommendation(ids[item], score, self._title(item))
            for item, score in zip(items.tolist(), scores.tolist(), strict=True)
        )

    def _title(self, item: int) -> str | None:
        titles = self._catalogue.titles
        return None if titles is None or item >= len(titles) else titles[item].as_py()

    def _table(self, name: str, asked: Sequence[str], items: Jagged, scores: Floats) -> pa.Table:
        rank = np.arange(len(items.values)) - np.repeat(items.offsets[:-1], items.lengths) + 1
        return pa.table(
            {
                name: pa.array(asked, pa.string()).take(pa.array(items.row_of_value())),
                "rank": pa.array(rank, pa.int32()),
                "item_id": self._catalogue.ids.ids.take(pa.array(items.values, pa.int64())),
                "score": pa.array(scores, pa.float32()),
            }
        )


def _require_k(k: int) -> None:
    if not 1 <= k <= MAX_K:
        raise UserError(f"k is {k}, expected 1 to {MAX_K}; ask for fewer items.")


def _none(rows: int) -> Jagged:
    return Jagged(np.empty(0, np.int64), np.zeros(rows + 1, np.int64))


def _each(values: Ints, rows: int) -> Jagged:
    """The same values in every row."""
    return Jagged(np.tile(values, rows), np.arange(rows + 1) * len(values))
