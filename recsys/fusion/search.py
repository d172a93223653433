"""The search for the weights of a fused ranking, on the validation split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from feature_store.core.columns import Bools
from recsys.evaluation.metrics import Doubles
from recsys.fusion.mixture import CUTOFFS, Mixture
from recsys.fusion.sample import TREND, Sample
from recsys.fusion.weights import Weights
from recsys.fusion.yardstick import Goal, Outcome, Yardstick

# Steps of an ascent, and its learning rate, which falls to a fiftieth of it.
_STEPS, _RATE = 150, 0.1
# A weight that gains less than this is 0: simpler and as good.
_LEAST_GAIN = 0.0005


@dataclass(frozen=True)
class _Measured:
    """Weights with their outcome.

    Attributes:
        vector: Weights, scaled, [weights].
        outcome: Outcome of their ranking.
    """

    vector: Doubles
    outcome: Outcome


class Search:
    """Gradient search of the weights, in two stages.

    The first one looks for the highest overall recall within the bounds of `Yardstick`. The second
    one looks for what is beyond the head, too: items of the torso and rare items, those of tail and
    cold, weigh the same, however many held-out pairs each has. For a tail weight of 1 it keeps
    either recall within two standard errors of what the first stage found, and within 2 %.

    An ascent follows the gradient of smooth hits, and the outcome of every step is measured by the
    hits themselves; the best one counts, or a reference, where that is better.

    Args:
        sample: Candidates of validation queries.
        slices: Members of each slice of items, [items].
        tail_weight: Weight of what is beyond the head in the second stage.
        baselines: Channels that are baselines of their own; recent popularity is one, too.
    """

    def __init__(
        self,
        sample: Sample,
        slices: Mapping[str, Bools],
        tail_weight: float,
        baselines: Sequence[str] = (),
    ) -> None:
        self._mixture = Mixture(sample)
        self._tail_weight = tail_weight
        references = [Weights(), *(_only(name) for name in (*baselines, TREND))]
        alone, *others = [sample.found(each, CUTOFFS) for each in references]
        self._yardstick = Yardstick(sample, slices, tail_weight, alone, others)
        self._references = [self._measured(self._mixture.vector(each)) for each in references]

    def outcome(self, weights: Weights) -> Outcome:
        """Measures weights."""
        return self._measured(self._mixture.vector(weights)).outcome

    def best(self) -> Weights:
        """Returns the best weights of several starts."""
        goal = Goal()
        starts = [self._measured(self._mixture.vector(each)) for each in self._starts()]
        ascents = [self._ascended(start, goal) for start in starts]
        found = [*self._references, *ascents]
        best = self._best(found, goal)
        if self._tail_weight:
            goal = Goal(self._tail_weight, best.outcome)
            # All go on, for the best so far need not be the nearest to what is best now.
            others = [each for each in ascents if each is not best]
            found += [self._ascended(each, goal) for each in (best, *others)]
            best = self._best(found, goal)
        return self._mixture.weights(self._simplified(best, goal).vector)

    def _starts(self) -> list[Weights]:
        """Returns mixtures: the model with little and with more of all others, and these alone."""
        little, more, all_of = (dict.fromkeys(self._mixture.channels, w) for w in (0.1, 0.3, 1.0))
        return [
            Weights(channels=little, rare=little, trend=0.05, dial=0.1),
            Weights(channels=more, rare=little, trend=0.05, dial=0.3),
            Weights(model=0.0, channels=all_of, rare=little, trend=0.05, dial=0.3),
        ]

    def _ascended(self, start: _Measured, goal: Goal) -> _Measured:
        """Follows the gradient from a start, and returns the best of all steps."""
        best = start
        weights = torch.from_numpy(start.vector.copy())
        optimizer = torch.optim.Adam([weights], lr=_RATE, betas=(0.9, 0.95))
        for step in range(_STEPS):
            vector = self._mixture.scaled(weights.numpy())
            found = self._mixture.found(vector)
            outcome = self._yardstick.outcome(found.hits)
            best = self._best([best, _Measured(vector, outcome)], goal)
            worth = self._yardstick.worth(goal, outcome)
            gradient = self._mixture.gradient(weights.numpy(), found, worth)
            weights.grad = torch.from_numpy(-gradient)
            for group in optimizer.param_groups:
                group["lr"] = _RATE * max(1 - step / _STEPS, 0.02)
            optimizer.step()
            weights.clamp_(min=0)
        return best

    def _measured(self, vector: Doubles) -> _Measured:
        return _Measured(vector, self._yardstick.outcome(self._mixture.found(vector).hits))

    def _best(self, found: Sequence[_Measured], goal: Goal) -> _Measured:
        """Returns what the goal prefers; the first of equal ones."""
        best = found[0]
        for other in found[1:]:
            if self._yardstick.prefers(goal, other.outcome, best.outcome):
                best = other
        return best

    def _simplified(self, found: _Measured, goal: Goal) -> _Measured:
        """Returns the weights without those that gain next to nothing."""
        for place in np.flatnonzero(found.vector):
            vector = found.vector.copy()
            vector[place] = 0
            without = self._measured(vector)
            gains = self._yardstick.prefers(goal, found.outcome, without.outcome, _LEAST_GAIN)
            if vector.any() and not gains:
                found = without
        return found


def _only(part: str) -> Weights:
    """Returns the weights of a part alone."""
    if part == TREND:
        return Weights(model=0.0, trend=1.0)
    return Weights(model=0.0, channels={part: 1.0})
