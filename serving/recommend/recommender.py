"""Recommendations from a bundle's parts."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Bools, Floats, Ints, Jagged
from feature_store.core.errors import UserError
from feature_store.encoding.context import request_table
from feature_store.encoding.encoder import SideEncoder
from feature_store.schema import FeatureSchema
from recsys.channels.sources import Sources
from serving.bundle.manifest import BundleManifest
from serving.index.index import ItemIndex
from serving.recommend.answers import (
    ExplainedRecommendation,
    Explanation,
    Item,
    Recommendation,
    Recommendations,
    SimilarItems,
)
from serving.recommend.catalogue import Catalogue
from serving.recommend.eligible import Eligible
from serving.recommend.fused.asked import Asked
from serving.recommend.fused.explain import explanation_of
from serving.recommend.fused.fused_search import FusedSearch
from serving.recommend.late_parts import LateParts
from serving.recommend.options import DEFAULTS, RecommendOptions
from serving.recommend.popularity import Popularity
from serving.recommend.queries import CurrentState, Queries
from serving.recommend.samples import Samples, samples_of
from serving.recommend.timing import StageTimer

MAX_K = 1000

# Queries of one forward pass and one search.
_BLOCK = 256


@dataclass(frozen=True)
class _Best:
    """The best items of queries, [queries].

    Attributes:
        state: State of the queries.
        asked: Question of the search.
        items: Best items.
        scores: Score of each of them, [total].
    """

    state: CurrentState
    asked: Asked
    items: Jagged
    scores: Floats


class Recommender:
    """Answers from the contents of a bundle; see `serving.recommend.load.load`.

    Several threads may use it at a time.

    Args:
        manifest: Manifest of the bundle.
        catalogue: Items of the bundle.
        queries: State of queries.
        late: Function that returns the parts that known queries are answered without.
        context_encoder: Encoder of the context.
        index: Index of the catalogue's indexed items.
        fused: Search by the fused ranking; None: the model ranks alone.
    """

    def __init__(
        self,
        manifest: BundleManifest,
        catalogue: Catalogue,
        queries: Queries,
        late: Callable[[], LateParts],
        context_encoder: SideEncoder,
        index: ItemIndex,
        fused: FusedSearch | None = None,
    ) -> None:
        self.manifest = manifest
        self._catalogue = catalogue
        self._queries = queries
        self.late = late
        self._context_encoder = context_encoder
        self._index = index
        self._fused = fused
        self._eligible = Eligible(catalogue, len(index), manifest.repeats)
        self._popularity = Popularity(catalogue.frequency[catalogue.indexed])

    @property
    def is_exact(self) -> bool:
        """Whether the index misses no item."""
        return self._index.kind.is_exact

    @property
    def filterable(self) -> tuple[str, ...]:
        """Names of the item features that answers can be filtered by."""
        return self._eligible.features

    def recommend(
        self,
        query_id: str,
        k: int = 10,
        options: RecommendOptions = DEFAULTS,
        timer: StageTimer | None = None,
    ) -> Recommendations:
        """Recommends the k best items for a query; fewer where no more are left.

        Args:
            query_id: Id of the query. An unknown query is answered from the given features and
                history, else by popularity.
            k: Number of items, 1 to `MAX_K`.
            options: Circumstances and filters.
            timer: Timer of the stages.

        Raises:
            UserError: k is out of range, or a value or a filter is not one of this model's.
        """
        return self.recommend_each([query_id], k, options, timer)[0]

    def recommend_each(
        self,
        query_ids: Sequence[str],
        k: int = 10,
        options: RecommendOptions = DEFAULTS,
        timer: StageTimer | None = None,
    ) -> list[Recommendations]:
        """Recommends as `recommend` does, for several queries with the same options."""
        timer = timer or StageTimer()
        best = self._best_items(query_ids, k, options, timer)
        state, items, scores = best.state, best.items, best.scores
        answers = []
        for row, query_id in enumerate(query_ids):
            of_query = slice(items.offsets[row], items.offsets[row + 1])
            named = self._with_titles(items.values[of_query], scores[of_query])
            is_fallback = bool(state.is_blank[row])
            is_explained = options.explain and not is_fallback
            answers.append(
                Recommendations.model_construct(
                    query_id=query_id,
                    items=self._explained(best, row, named, options) if is_explained else named,
                    fallback=is_fallback,
                    source="popularity" if is_fallback else "model",
                )
            )
        timer.end("answer")
        return answers

    def recommend_batch(
        self,
        query_ids: Sequence[str],
        k: int = 10,
        options: RecommendOptions = DEFAULTS,
        timer: StageTimer | None = None,
    ) -> pa.Table:
        """Recommends the k best items for many queries, in their order.

        Returns:
            Columns query_id, rank (from 1), item_id, score and fallback.

        Raises:
            UserError: As `recommend`.
        """
        timer = timer or StageTimer()
        parts = [
            self._best_items(query_ids[start : start + _BLOCK], k, options, timer)
            for start in range(0, max(1, len(query_ids)), _BLOCK)
        ]
        items = Jagged.concatenate([part.items for part in parts])
        scores = np.concatenate([part.scores for part in parts])
        is_fallback = np.concatenate([part.state.is_blank for part in parts])
        rank = np.arange(len(items.values)) - np.repeat(items.offsets[:-1], items.lengths) + 1
        rows = items.row_of_value()
        return pa.table(
            {
                "query_id": pa.array(query_ids, pa.string()).take(pa.array(rows)),
                "rank": pa.array(rank, pa.int32()),
                "item_id": self._catalogue.ids.ids.take(pa.array(items.values, pa.int64())),
                "score": pa.array(scores, pa.float32()),
                "fallback": pa.array(is_fallback[rows]),
            }
        )

    def similar_items(
        self, item_id: str, k: int = 10, options: RecommendOptions = DEFAULTS
    ) -> SimilarItems:
        """Finds the k items nearest to one; fewer where no more are left.

        Args:
            item_id: Item of the catalogue; it is not in the answer.
            k: Number of items, 1 to `MAX_K`.
            options: Filters `where`, `allow` and `deny`; others have no effect.

        Raises:
            UserError: The item is not in the catalogue, k is out of range, or there is no such
                filter.
        """
        _require_k(k)
        items = self._catalogue.ids.rows([item_id])
        positions = np.where(items < 0, -1, self._catalogue.positions[items])
        if positions[0] < 0:
            raise UserError(f"the catalogue has no item {item_id!r}; ask for one of its items.")
        excluded = self._eligible.excluded(Jagged(items, np.array([0, 1])), options)
        vectors, allowed = self._index.vectors_of(positions), self._eligible.allowed(options)
        if self._fused is None:
            nearest, scores = self._index.search(vectors, k, excluded, allowed)
        else:
            itself = Jagged(items, np.array([0, 1]))
            asked = Asked(vectors, Sources(itself, itself, itself), excluded, allowed)
            weights = self._fused.weights().model_copy(update={"trend": 0.0, "dial": 0.0})
            nearest, scores = self._fused.search(asked, k, weights)
        similar = self._with_titles(self._catalogue.indexed[nearest.values], scores)
        return SimilarItems(item_id=item_id, items=similar)

    def encode(self, query_ids: Sequence[str], options: RecommendOptions = DEFAULTS) -> Floats:
        """Computes L2-normalised query vectors, [queries, dim]."""
        return self._encode(self._queries.state(query_ids, options), options)

    def liked(self, query_id: str, n: int = 10) -> tuple[Item, ...]:
        """Returns the latest n items of a query's history, latest first; none if it is unknown."""
        items = self._queries.history(query_id)[::-1][:n]
        ids = self._catalogue.ids
        return tuple(Item(item_id=ids[i], title=self._catalogue.title(i)) for i in items.tolist())

    def samples(self) -> Samples:
        """Returns ids and values that the bundle knows, for those who try it."""
        return samples_of(self._catalogue, self._queries.ids, self._queries.lengths)

    def as_evaluated(self) -> "Recommender":
        """Copies the recommender without what happened since the evaluation.

        It knows neither the online state nor the test events, whose items it may recommend.
        """
        plain = copy.copy(self)
        plain._queries = self._queries.as_evaluated()
        return plain

    def unknown_items(self, item_ids: Sequence[str]) -> tuple[str, ...]:
        """Returns the ids that are not in the catalogue."""
        rows = self._catalogue.ids.rows(item_ids).tolist()
        return tuple(i for i, row in zip(item_ids, rows, strict=True) if row < 0)

    def fault_of_store(self, schema: FeatureSchema) -> str | None:
        """Returns why an online store's features are none of this model's; None if they are."""
        return self._queries.fault_of_store(schema)

    def _best_items(
        self, query_ids: Sequence[str], k: int, options: RecommendOptions, timer: StageTimer
    ) -> _Best:
        _require_k(k)
        self._require_tail(options.tail)
        state = self._queries.state(query_ids, options)
        if self._fused is not None and self._fused.reads_own_item:  # Channels go by that alone.
            state = replace(state, is_blank=state.is_blank & (state.own.lengths == 0))
        timer.end("features")
        items = state.own
        if self._eligible.excludes_seen(options):
            items = state.had.beside(items) if len(items.values) else state.had
        excluded, allowed = self._eligible.excluded(items, options), self._eligible.allowed(options)
        timer.end("filter")
        if state.is_blank.all() and len(query_ids):
            vectors = np.zeros((len(query_ids), self.manifest.dim), np.float32)
        else:
            vectors = self._encode(state, options)
            timer.end("tower")
        sources = Sources(state.history, state.read, state.own)
        asked = Asked(vectors, sources, excluded, allowed)
        best, scores = self._search(asked, k, state.is_blank, options.tail)
        timer.end("search")
        items = Jagged(self._catalogue.indexed[best.values], best.offsets)
        return _Best(state, asked, items, scores)

    def _search(self, asked: Asked, k: int, is_blank: Bools, tail: float) -> tuple[Jagged, Floats]:
        """Finds positions by the ranking, or by popularity for queries that it cannot go by."""
        if not is_blank.any():
            return self._ranked(asked, k, tail)
        all_positions, all_scores = [], []
        for row, blank in enumerate(is_blank.tolist()):
            one = asked.take(np.array([row]))
            if blank:
                positions, scores = self._popularity.top(k, one.excluded.values, asked.allowed)
            else:
                nearest, scores = self._ranked(one, k, tail)
                positions = nearest.values
            all_positions.append(positions)
            all_scores.append(scores)
        lengths = np.array([len(positions) for positions in all_positions], np.int64)
        best = Jagged.from_lengths(np.concatenate(all_positions), lengths)
        return best, np.concatenate(all_scores)

    def _ranked(self, asked: Asked, k: int, tail: float) -> tuple[Jagged, Floats]:
        if self._fused is None:
            return self._index.search(asked.vectors, k, asked.excluded, asked.allowed)
        return self._fused.search(asked, k, self._fused.weights(tail))

    def _encode(self, state: CurrentState, options: RecommendOptions) -> Floats:
        if state.vectors is not None and not options.context:
            return state.vectors
        features = self._context_encoder.features
        raw = request_table(features, options.context, options.time, state.latest)
        context = self._context_encoder.encode(raw)
        return self.late().tower(state.columns, len(state.latest), state.history, context)

    def _require_tail(self, tail: float) -> None:
        if not 0 <= tail <= 1:
            raise UserError(f"tail is {tail:g}, expected 0 to 1; 0 ranks as it was evaluated.")
        if tail and self._fused is None:
            raise UserError(
                f"tail is {tail:g}, but the model of this bundle ranks alone; leave it out, or "
                "export with ranking.channels."
            )

    def _explained(
        self,
        best: _Best,
        row: int,
        named: tuple[Recommendation, ...],
        options: RecommendOptions,
    ) -> tuple[ExplainedRecommendation, ...]:
        if self._fused is None:
            explanations = [Explanation(each.score, {}, 0.0, 0.0, (), ()) for each in named]
        else:
            items = best.items.take(np.array([row])).values
            one = next(best.asked.take(np.array([row])).each())
            weights = self._fused.weights(options.tail)
            positions = self._catalogue.positions[items]
            parts = self._fused.explain(one, positions, weights, self.late().content)
            explanations = [explanation_of(each, self._catalogue) for each in parts]
        return tuple(
            ExplainedRecommendation(each.item_id, each.score, each.title, explanation)
            for each, explanation in zip(named, explanations, strict=True)
        )

    def _with_titles(self, items: Ints, scores: Floats) -> tuple[Recommendation, ...]:
        ids, titles = self._catalogue.named(items)
        return tuple(map(Recommendation, ids, scores.tolist(), titles))


def _require_k(k: int) -> None:
    if not 1 <= k <= MAX_K:
        raise UserError(f"k is {k}, expected 1 to {MAX_K}; ask for fewer items.")
