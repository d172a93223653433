"""Validation queries with the candidates among which a search compares weights."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from feature_store.core.columns import Bools, Ints, Jagged
from feature_store.core.hashing import hash64
from recsys.fusion.best import Allowed, best_by_item, best_by_scores, best_by_vectors, scores_at
from recsys.fusion.fused import Fused
from recsys.fusion.queries import FusedQueries
from recsys.fusion.weights import Weights

MODEL, TREND, DIAL = "model", "trend", "dial"

# Highest weight of the dial that is tried.
STRONGEST_DIAL = 1.2

# Most queries of a sample, and the best of each part that are candidates.
_QUERIES, _BEST = 5_000, 100
_SEED = 11
# Queries whose candidates are scored at a time, which bounds the memory.
_QUERIES_AT_ONCE = 128

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Candidates of sampled queries, and what each part of the score says of them.

    Attributes:
        parts: Names of the parts: the model, the channels, trend and dial.
        values: Score of each candidate by each part, [parts, queries, candidates] float32.
        rarity: Rarity of each candidate, [queries, candidates] float32.
        candidates: Items, [queries, candidates]; -1 is padding.
        query: Query of each held-out pair, [pairs] int64.
        position: Position of the pair's item among the candidates, [pairs] int64.
        item: Item of each pair, [pairs].
    """

    parts: tuple[str, ...]
    values: Tensor
    rarity: Tensor
    candidates: Tensor
    query: Tensor
    position: Tensor
    item: Ints

    def found(self, weights: Weights, cutoffs: tuple[int, ...]) -> Bools:
        """Tells which pairs' items are among the first of their query, [cutoffs, pairs]."""
        return self.among_first(self.scores(weights), cutoffs)

    def among_first(self, scores: Tensor, cutoffs: tuple[int, ...]) -> Bools:
        """Tells which pairs' items are among the first of their query, [cutoffs, pairs].

        Items of equal scores that do not all fit are not found: weights must tell them apart.

        Args:
            scores: Score of each candidate, [queries, candidates]; -inf is padding.
            cutoffs: Numbers of first candidates.
        """
        own, width = scores[self.query, self.position].numpy(), scores.shape[1]
        # The best candidate beyond each cutoff; a query with fewer has every one among the first.
        places = np.array([width - 1 - each for each in cutoffs if each < width], np.int64)
        ordered = np.partition(scores.numpy(), places, axis=1)[:, places]
        beyond = np.full((len(scores), len(cutoffs)), -np.inf, np.float32)
        beyond[:, [cutoff < width for cutoff in cutoffs]] = ordered
        return own > beyond[self.query.numpy()].T

    def scores(self, weights: Weights) -> Tensor:
        """Returns the score of each candidate, [queries, candidates]; -inf is padding."""
        said = torch.zeros_like(self.values[0])
        for name, factor in weights.rare.items():
            if factor:
                said.add_(self.part(name), alpha=factor)
        if weights.rare:
            said.mul_(self.rarity)
        others = {MODEL: weights.model, TREND: weights.trend, DIAL: -weights.dial}
        for name, factor in (weights.channels | others).items():
            if factor:
                said.add_(self.part(name), alpha=factor)
        return said.masked_fill_(self.is_padding, -torch.inf)

    def part(self, name: str) -> Tensor:
        """Returns what a part says of each candidate, [queries, candidates]."""
        return self.values[self.parts.index(name)]

    @cached_property
    def is_padding(self) -> Tensor:
        """Whether a candidate is padding, [queries, candidates]."""
        return self.candidates < 0


def sampled_rows(queries: Ints) -> Ints:
    """Returns the positions of the queries that a sample has, ascending; of few, all.

    Args:
        queries: Indices of the queries to draw from.
    """
    return np.sort(np.argsort(hash64(_SEED, queries), kind="stable")[:_QUERIES])


def draw_sample(fused: Fused, queries: FusedQueries) -> Sample:
    """Draws queries of a split and builds their candidates.

    Candidates are the best of each part alone, those of the model with the strongest dial, and the
    held-out items, without items that the query excludes. Of a channel and of the recent popularity
    those of a score above 0 count. Memory is bounded for any number of items.

    Args:
        fused: Channels; the weights are not used.
        queries: Queries to draw from.
    """
    task = queries.task
    rows = sampled_rows(task.queries)
    allowed = Allowed(queries.is_ranked, task.excluded.take(rows))
    vectors, held_out = queries.query_vectors[rows], task.held_out.take(rows)
    strongest = np.float32(STRONGEST_DIAL) * fused.dial
    of_model = best_by_vectors(vectors, queries.item_vectors, (None, strongest), allowed, _BEST)
    names = (MODEL, *fused.info.channels, TREND, DIAL)
    blocks: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(rows), _QUERIES_AT_ONCE):
        block = np.arange(start, min(start + _QUERIES_AT_ONCE, len(rows)))
        sources, may_be = queries.sources.take(rows[block]), allowed.take(block)
        said = [fused.channel(name, sources) for name in fused.info.channels]
        best = [ranking[block] for ranking in of_model]
        best += [best_by_scores(items, scores, may_be, _BEST) for items, scores in said]
        best.append(best_by_item(fused.trend, may_be, _BEST))
        candidates = _distinct([*best, _rectangle(held_out.take(block))])
        at = np.maximum(candidates, 0)
        values = [
            np.einsum("qd,qcd->qc", vectors[block], queries.item_vectors[at]),
            *(scores_at(items, scores, candidates) for items, scores in said),
            fused.trend[at],
            fused.dial[at],
        ]
        blocks.append((torch.from_numpy(candidates), torch.from_numpy(np.stack(values))))
    return _joined(names, blocks, held_out, torch.from_numpy(fused.rarity.copy()))


def _rectangle(bags: Jagged) -> Rows:
    """Returns bags as rows of equal length, padded with -1."""
    width = int(bags.lengths.max(initial=0))
    rows = np.full((len(bags), width), -1, np.int64)
    rows[np.arange(width) < bags.lengths[:, None]] = bags.values
    return rows


def _distinct(items: list[Rows]) -> Rows:
    """Returns the distinct items of each row, ascending, with -1 for what is left of a row."""
    ordered = np.sort(np.concatenate(items, axis=1), axis=1)
    is_new = ordered >= 0
    is_new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    return _rectangle(Jagged.from_lengths(ordered[is_new], is_new.sum(axis=1)))


def _joined(
    names: tuple[str, ...], blocks: list[tuple[Tensor, Tensor]], held_out: Jagged, rarity: Tensor
) -> Sample:
    width = max((candidates.shape[1] for candidates, _ in blocks), default=1)
    count = len(held_out)
    candidates = torch.full((count, width), -1)
    values = torch.zeros((len(names), count, width))
    start = 0
    for items, scores in blocks:
        rows, columns = items.shape
        candidates[start : start + rows, :columns] = items
        values[:, start : start + rows, :columns] = scores
        start += rows
    query = held_out.row_of_value()
    position = torch.from_numpy(_positions(candidates.numpy(), query, held_out.values))
    rare = rarity[candidates.clamp(min=0)]
    return Sample(
        names, values, rare, candidates, torch.from_numpy(query), position, held_out.values
    )


def _positions(candidates: Rows, query: Ints, item: Ints) -> Rows:
    """Returns where each pair's item is in its query's row of ascending candidates, [pairs].

    There may be far more pairs than queries, so that no array has a row for each of them.
    """
    row, column = np.nonzero(candidates >= 0)
    width = 1 + int(candidates.max(initial=0))
    keys = row * width + candidates[row, column]
    return column[np.searchsorted(keys, query * width + item)]
