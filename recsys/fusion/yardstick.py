"""Measures of what a ranking finds of a sample's held-out pairs, and the bounds it is to keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Bools
from recsys.evaluation.metrics import Doubles
from recsys.fusion.sample import Sample

# One-sided quantile of the normal distribution at 5 %.
_SIGNIFICANT = 1.645
# A recall of the model alone below this counts as this, so that a poor model weighs no recall up.
_LEAST_RECALL = 0.01
# Meaning of each unit of the tail's weight: the weight of what is found beyond the head, beside the
# overall recall; the standard errors of either overall recall that may be given up, each at most
# 1 % of it, for with few queries chance explains more than anybody would give; and how many times
# what is significant a slice may lose against the model alone.
_BEYOND_HEAD, _GIVEN_UP, _MOST_GIVEN_UP, _LOST = 4.0, 2.0, 0.01, 3.0
# Worth of a bound that is broken: of each unit that is missing, and how it grows. Overall recalls
# count in shares of those of the model alone, slices in standard errors.
_OF_OVERALL, _OF_SLICE = (5.0, 500.0), (0.025, 0.05)


@dataclass(frozen=True)
class Outcome:
    """Held-out pairs of a sample that a ranking finds.

    Attributes:
        hits: Whether a pair is among the first 10 and the first 50, [2, pairs].
        recall: Recall@10 and recall@50.
        overall: Their mean, each over that of the model alone: else the greater one would count
            for most.
        beyond_head: Recall@50 of the torso and of the rare items, half each.
        lost: Losses of each slice against its strictest reference beyond what is allowed, in
            standard errors; 0 where it loses no more.
    """

    hits: Bools
    recall: tuple[float, float]
    overall: float
    beyond_head: float
    lost: tuple["Loss", ...]

    @property
    def excess(self) -> float:
        """Losses of slices beyond what is allowed, in standard errors; 0 where none is."""
        return sum(loss.excess for loss in self.lost)


@dataclass(frozen=True)
class Loss:
    """Loss of a slice against a reference, beyond what is allowed.

    Attributes:
        members: Whether a pair is of the slice, [pairs].
        excess: Standard errors beyond what is allowed.
        error: Standard error of the sum of differences, in pairs.
    """

    members: Bools
    excess: float
    error: float


@dataclass(frozen=True)
class Goal:
    """Aim of a search.

    Attributes:
        tail_weight: Weight of what is found beyond the head.
        kept: Outcome whose overall recalls are to be kept; None: there is none.
    """

    tail_weight: float = 0.0
    kept: Outcome | None = None

    def sum(self, outcome: Outcome) -> float:
        """Returns what is to be as high as possible."""
        return outcome.overall + _BEYOND_HEAD * self.tail_weight * outcome.beyond_head


class Yardstick:
    """Measures rankings of a sample against references: the model alone, and baselines.

    First of all, either overall recall is to be no less than that of any reference; then no slice
    is to lose against a baseline, nor significantly against the model alone. What one slice gains
    from one reference and another slice from another can be more than any ranking has: then the
    overall recalls count, for there is always a ranking that has them.

    Args:
        sample: Candidates of validation queries.
        slices: Members of each slice of items, [items].
        tail_weight: Weight of what is beyond the head. It lets slices lose more against the model
            alone, but nothing against a baseline.
        alone: Hits of the model alone among the first 10 and 50, [2, pairs].
        baselines: Hits of each baseline, the same.
    """

    def __init__(
        self,
        sample: Sample,
        slices: Mapping[str, Bools],
        tail_weight: float,
        alone: Bools,
        baselines: Sequence[Bools],
    ) -> None:
        self._query = sample.query.numpy()
        self._per_query = np.maximum(np.bincount(self._query, minlength=len(sample.candidates)), 1)
        self._of_pair = 1 / self._per_query[self._query] / len(self._per_query)
        of_pairs = {name: members[sample.item] for name, members in slices.items()}
        self._slices = tuple(of_pairs.values())
        groups = (of_pairs["torso"], of_pairs["tail"] | of_pairs["cold"])
        self._beyond_head = [members for members in groups if members.any()]
        allowed = _SIGNIFICANT * max(1.0, _LOST * tail_weight)
        self._references = [(alone[1], allowed), *((hits[1], 0.0) for hits in baselines)]
        self._alone = [max(self._recall(hits), _LEAST_RECALL) for hits in alone]
        self._floor = [
            max(self._recall(found[cutoff]) for found in (alone, *baselines)) for cutoff in (0, 1)
        ]

    def outcome(self, hits: Bools) -> Outcome:
        """Measures a ranking.

        Args:
            hits: Whether a pair is among the first 10 and the first 50, [2, pairs].
        """
        at_10, at_50 = (self._recall(row) for row in hits)
        overall = (at_10 / self._alone[0] + at_50 / self._alone[1]) / 2
        found = [float(hits[1][members].mean()) for members in self._beyond_head]
        lost = tuple(self._loss(hits[1], members) for members in self._slices)
        return Outcome(hits, (at_10, at_50), overall, float(np.mean(found or [0.0])), lost)

    def prefers(self, goal: Goal, one: Outcome, other: Outcome, by: float = 0.0) -> bool:
        """Tells whether one outcome is better than another: first the bounds, then the sum.

        Args:
            goal: Aim of the search.
            one: Outcome that may be better.
            other: Outcome that it is compared with.
            by: Least difference of sums that counts.
        """
        faults = [(sum(self._missing(goal, each)), each.excess) for each in (one, other)]
        for fault, of_other in zip(*faults, strict=True):
            if abs(fault - of_other) > 1e-9:
                return fault < of_other
        return goal.sum(one) > goal.sum(other) + by

    def worth(self, goal: Goal, outcome: Outcome) -> Doubles:
        """Returns what it is worth to find each pair among the first 10 and 50, [2, pairs].

        It is the gradient of the goal's sum, and of how far the bounds are kept, by the hits.

        Args:
            goal: Aim of the search.
            outcome: Outcome of the ranking as it is.
        """
        worth = np.empty(outcome.hits.shape)
        for cutoff, missing in enumerate(self._missing(goal, outcome)):
            of_recall = 0.5 + (_growing(_OF_OVERALL, missing) if missing > 0 else 0.0)
            worth[cutoff] = of_recall / self._alone[cutoff] * self._of_pair
        for members in self._beyond_head:
            of_each = _BEYOND_HEAD * goal.tail_weight / len(self._beyond_head) / members.sum()
            worth[1] += of_each * members
        for loss in outcome.lost:
            if loss.excess > 0:
                worth[1] += _growing(_OF_SLICE, loss.excess) / loss.error * loss.members
        return worth

    def _recall(self, hits: Bools) -> float:
        return float(self._of_queries(hits).mean())

    def _of_queries(self, hits: npt.NDArray[np.generic]) -> Doubles:
        """Returns the share of each query's pairs that is found, [queries]."""
        found = np.bincount(self._query, hits, len(self._per_query))
        return np.asarray(found, np.float64) / self._per_query

    def _missing(self, goal: Goal, outcome: Outcome) -> tuple[float, float]:
        """Returns what either overall recall lacks of its bounds, over that of the model alone."""
        missing = []
        for cutoff, (recall, bound) in enumerate(zip(outcome.recall, self._floor, strict=True)):
            least = bound
            if goal.kept is not None:
                kept = goal.kept.recall[cutoff]
                lost = self._of_queries(goal.kept.hits[cutoff] * 1.0 - outcome.hits[cutoff])
                error = float(np.sqrt(np.sum(lost**2))) / len(lost)
                given_up = _GIVEN_UP * goal.tail_weight * min(error, _MOST_GIVEN_UP * kept)
                least = kept - given_up
            missing.append(max(0.0, bound - recall, least - recall) / self._alone[cutoff])
        return missing[0], missing[1]

    def _loss(self, hits: Bools, members: Bools) -> Loss:
        """Compares recall@50 with the reference against which most is lost, paired by query."""
        worst = Loss(members, 0.0, 1.0)
        for found, allowed in self._references:
            difference = (hits.astype(np.float64) - found) * members
            of_queries = np.bincount(self._query, difference)
            error = float(np.sqrt(np.sum(of_queries**2)))
            excess = -float(of_queries.sum()) / error - allowed if error > 0 else 0.0
            if excess > worst.excess:
                worst = Loss(members, excess, error)
        return worst


def _growing(of_unit: tuple[float, float], units: float) -> float:
    at_first, more = of_unit
    return at_first + more * units
