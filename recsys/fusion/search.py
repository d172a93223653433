"""The search for the weights of a fused ranking, on the validation split."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from feature_store.core.columns import Bools
from recsys.evaluation.metrics import Doubles
from recsys.fusion.sample import DIAL, MODEL, STRONGEST_DIAL, TREND, Sample
from recsys.fusion.weights import OF_RARE, Weights

GRID = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, STRONGEST_DIAL)
_OF_MODEL = (1.0, 0.5, 0.2, 0.0)
_SCALES = (0.5, 0.7, 1.4, 2.0)
_SWEEPS = 4
# One-sided quantile of the normal distribution at 5 %.
_SIGNIFICANT = 1.645
# A recall of the model alone below this counts as this, so that a poor model weighs no recall up.
_LEAST_RECALL = 0.01
# A weight that gains less than this is 0: simpler and as good.
_LEAST_GAIN = 0.0005
# Part of an overall recall that may be given up for what is beyond the head, for each unit of its
# weight, where chance explains it: with few queries it explains more than anybody would give.
_MOST_GIVEN_UP = 0.01


@dataclass(frozen=True)
class Outcome:
    """Held-out pairs of a sample that a ranking finds.

    Attributes:
        hits: Whether a pair is among the first 10 and the first 50, [2, pairs].
        recall: Recall@10 and recall@50.
        overall: Their mean, each over that of the model alone: else the greater one would count
            for most.
        beyond_head: Recall@50 of the torso and of the rare items, half each.
        excess: Losses of slices against the best of the model alone and the baselines, beyond what
            chance explains, in standard errors; 0 where no slice loses significantly.
    """

    hits: Bools
    recall: tuple[float, float]
    overall: float
    beyond_head: float
    excess: float


@dataclass(frozen=True)
class Goal:
    """Aim of a climb.

    Attributes:
        tail_weight: Weight of what is found beyond the head, beside the overall recall.
        kept: Outcome whose overall recall is to be kept; None: there is none.
    """

    tail_weight: float = 0.0
    kept: Outcome | None = None

    def sum(self, outcome: Outcome) -> float:
        """Returns what is to be as high as possible."""
        return outcome.overall + self.tail_weight * outcome.beyond_head


class Search:
    """Coordinate search of the weights, in two climbs.

    References are the model alone and each part that is a baseline of its own. First of all, either
    overall recall is to be no less than that of any reference; then no slice is to lose
    significantly against one. What one slice gains from one reference and another slice from
    another can be more than any ranking has: then the overall recalls count, for there is always a
    ranking that has them.

    The first climb looks for the highest overall recall within these bounds. The second one looks
    for what is beyond the head: items of the torso and rare items, those of tail and cold, weigh
    the same, however many held-out pairs each has. It keeps either recall within one
    standard error of what the first climb found, and within 1 %; a tail weight of 3 allows thrice
    as much, and a slice to lose thrice as much against the model alone, but not against a baseline.

    Args:
        sample: Candidates of validation queries.
        slices: Members of each slice of items, [items].
        tail_weight: Weight of what is beyond the head in the second climb.
        baselines: Channels that are baselines of their own; recent popularity is one, too.
    """

    def __init__(
        self,
        sample: Sample,
        slices: Mapping[str, Bools],
        tail_weight: float,
        baselines: Sequence[str] = (),
    ) -> None:
        self._sample = sample
        self._query = sample.query.numpy()
        self._slices = {name: members[sample.item] for name, members in slices.items()}
        groups = (self._slices["torso"], self._slices["tail"] | self._slices["cold"])
        self._beyond_head = [members for members in groups if members.any()]
        self._tail_weight = tail_weight
        self._per_query = np.maximum(np.bincount(self._query, minlength=len(sample.candidates)), 1)
        self._known: dict[str, Outcome] = {}
        self._references: list[tuple[Bools, float]] = []
        self._floor = self._alone = (1.0, 1.0)
        alone = self._measure(sample.scores(Weights()))
        self._alone = max(alone.recall[0], _LEAST_RECALL), max(alone.recall[1], _LEAST_RECALL)
        parts = [_only(name) for name in (*baselines, TREND)]
        found = [sample.found(each, (10, 50)) for each in (Weights(), *parts)]
        # A higher weight of the tail may cost some of the model's head, but nothing to a baseline.
        most = [_SIGNIFICANT * max(1.0, tail_weight), *(_SIGNIFICANT for _ in parts)]
        self._references = [(hits[1], each) for hits, each in zip(found, most, strict=True)]
        at_10, at_50 = (max(self._recall(hits[k]) for hits in found) for k in (0, 1))
        self._floor = at_10, at_50

    def outcome(self, weights: Weights) -> Outcome:
        """Measures weights; those that were measured before are known."""
        key = weights.model_dump_json()
        if key not in self._known:
            self._known[key] = self._measure(self._sample.scores(weights))
        return self._known[key]

    def _measure(self, scores: Tensor) -> Outcome:
        hits = self._sample.among_first(scores, (10, 50))
        at_10, at_50 = (self._recall(row) for row in hits)
        overall = (at_10 / self._alone[0] + at_50 / self._alone[1]) / 2
        found = [float(hits[1][members].mean()) for members in self._beyond_head]
        beyond_head = float(np.mean(found or [0.0]))
        return Outcome(hits, (at_10, at_50), overall, beyond_head, self._excess(hits[1]))

    def _recall(self, hits: Bools) -> float:
        return float(self._of_queries(hits).mean())

    def _of_queries(self, hits: npt.NDArray[Any]) -> Doubles:
        """Returns the share of each query's pairs that is found, [queries]."""
        found = np.bincount(self._query, hits, len(self._per_query))
        return np.asarray(found, np.float64) / self._per_query

    def _measure_along(self, weights: Weights, name: str) -> list[Weights]:
        """Measures the weights with each value of one of them, and returns them.

        The sum of the other parts is taken once for all values.
        """
        tried = list(_with_each(weights, name))
        rest, part = None, None
        for value, each in tried:
            key = each.model_dump_json()
            if key in self._known:
                continue
            if rest is None or part is None:
                rest, part = self._sample.scores(_with(weights, name, 0.0)), self._part(name)
            self._known[key] = self._measure(torch.add(rest, part, alpha=value))
        return [each for _, each in tried]

    def _part(self, name: str) -> Tensor:
        part = self._sample.part(name.removesuffix(OF_RARE))
        if OF_RARE in name:
            return part * self._sample.rarity
        return -part if name == DIAL else part

    def best(self) -> Weights:
        """Returns the best weights of several starts."""
        goal = Goal()
        climbed = [self._climb(start, goal) for start in self._starts()]
        first = self._pick(climbed, goal)
        if self._tail_weight:
            goal = Goal(self._tail_weight, self.outcome(first))
            first = self._pick([self._climb(start, goal) for start in climbed], goal)
        return self._simplified(first, goal)

    def _starts(self) -> list[Weights]:
        """Returns the model alone, and mixtures.

        A channel that is good where the model is may count only together with a stronger dial,
        which no single coordinate finds: so the best one starts high.
        """
        channels = self._channels()
        little, more = dict.fromkeys(channels, 0.1), dict.fromkeys(channels, 0.3)
        starts = [
            Weights(),
            Weights(channels=little, rare=little),
            Weights(channels=little, dial=0.2),
            Weights(channels=more, dial=0.3),
        ]
        if channels:
            best = max(channels, key=lambda name: self.outcome(_only(name)).overall)
            starts.append(Weights(channels={best: 0.8}, dial=0.3))
        return starts

    def _channels(self) -> tuple[str, ...]:
        return tuple(n for n in self._sample.parts if n not in (MODEL, TREND, DIAL))

    def _parts(self) -> tuple[str, ...]:
        """Returns what may have no weight: channels, more of them for rare items, and the rest."""
        channels = self._channels()
        return (*channels, *(name + OF_RARE for name in channels), TREND, DIAL)

    def _climb(self, weights: Weights, goal: Goal) -> Weights:
        for _ in range(_SWEEPS):
            before = weights
            for name in (*self._parts(), MODEL):
                weights = self._pick([weights, *self._measure_along(weights, name)], goal)
            weights = self._pick([weights, *_with_all_scaled(weights)], goal)
            if weights == before:
                break
        return weights

    def _pick(self, candidates: Sequence[Weights], goal: Goal) -> Weights:
        """Returns the weights that the goal prefers; the first of equal ones."""
        best = candidates[0]
        for other in candidates[1:]:
            if self._prefers(goal, self.outcome(other), self.outcome(best)):
                best = other
        return best

    def _simplified(self, weights: Weights, goal: Goal) -> Weights:
        for name in self._parts():
            without = _with(weights, name, 0.0)
            if not self._prefers(goal, self.outcome(weights), self.outcome(without), _LEAST_GAIN):
                weights = without
        return weights

    def _prefers(self, goal: Goal, one: Outcome, other: Outcome, by: float = 0.0) -> bool:
        """Tells whether one outcome should replace another: first the bounds, then the sum."""
        for fault, of_other in (
            (self._missing(goal, one), self._missing(goal, other)),
            (one.excess, other.excess),
        ):
            if abs(fault - of_other) > 1e-9:
                return fault < of_other
        return goal.sum(one) > goal.sum(other) + by

    def _missing(self, goal: Goal, outcome: Outcome) -> float:
        """Returns what the overall recalls lack of the bounds, over those of the model alone."""
        missing = 0.0
        for k, (recall, floor) in enumerate(zip(outcome.recall, self._floor, strict=True)):
            bounds = [floor]
            if goal.kept is not None:
                kept = goal.kept.recall[k]
                lost = self._of_queries(goal.kept.hits[k] * 1.0 - outcome.hits[k])
                error = float(np.sqrt(np.sum(lost**2))) / len(lost)
                bounds.append(kept - goal.tail_weight * min(error, _MOST_GIVEN_UP * kept))
            missing += sum(max(0.0, bound - recall) for bound in bounds) / self._alone[k]
        return missing

    def _excess(self, hits: Bools) -> float:
        """Compares recall@50 with the references, slice by slice, paired by query."""
        total = 0.0
        differences = [(hits.astype(np.float64) - found, most) for found, most in self._references]
        for members in self._slices.values():
            lost = []
            for each, most in differences:
                of_queries = np.bincount(self._query, each * members)
                lost.append(_beyond(np.asarray(of_queries, np.float64), most))
            total += max(lost, default=0.0)
        return total


def _beyond(difference: Doubles, allowed: float) -> float:
    """Returns by how many standard errors more than allowed a sum of differences is below 0."""
    error = float(np.sqrt(np.sum(difference**2)))
    return max(0.0, -float(difference.sum()) / error - allowed) if error > 0 else 0.0


def _only(part: str) -> Weights:
    """Returns the weights of a part alone."""
    if part == TREND:
        return Weights(model=0.0, trend=1.0)
    return Weights(model=0.0, channels={part: 1.0})


def _with(weights: Weights, name: str, value: float) -> Weights:
    if name in (MODEL, TREND, DIAL):
        return weights.model_copy(update={name: value})
    of, channel = ("rare", name.removesuffix(OF_RARE)) if OF_RARE in name else ("channels", name)
    changed = {**getattr(weights, of), channel: value}
    return weights.model_copy(update={of: {n: w for n, w in changed.items() if w}})


def _with_all_scaled(weights: Weights) -> Iterator[Weights]:
    """Yields the weights with all channels scaled alike, which no single coordinate can do."""
    for factor in _SCALES:
        both = {
            of: {name: round(weight * factor, 4) for name, weight in getattr(weights, of).items()}
            for of in ("channels", "rare")
        }
        yield weights.model_copy(update=both)


def _with_each(weights: Weights, name: str) -> Iterator[tuple[float, Weights]]:
    """Yields the values that are tried for a weight, and the weights with each."""
    for value in _OF_MODEL if name == MODEL else GRID:
        yield value, _with(weights, name, value)
