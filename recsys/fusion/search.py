"""The search for the weights of a fused ranking, on the validation split."""

from collections.abc import Mapping, Sequence

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
        parts = [_only(name) for name in (*baselines, TREND)]
        alone, *of_parts = [sample.found(each, CUTOFFS) for each in (Weights(), *parts)]
        self._yardstick = Yardstick(sample, slices, tail_weight, alone, of_parts)
        self._measured: dict[bytes, tuple[Doubles, Outcome]] = {}
        for each in (Weights(), *parts):
            self._measure(self._mixture.vector(each))

    def outcome(self, weights: Weights) -> Outcome:
        """Measures weights."""
        return self._measure(self._mixture.vector(weights))

    def best(self) -> Weights:
        """Returns the best weights of several starts."""
        goal = Goal()
        for start in self._starts():
            self._ascend(self._mixture.vector(start), goal)
        best = self._best(goal)
        if self._tail_weight:
            goal = Goal(self._tail_weight, self._measure(best))
            self._ascend(best, goal)
            best = self._best(goal)
        return self._mixture.weights(self._simplified(best, goal))

    def _starts(self) -> list[Weights]:
        """Returns mixtures: the model with little and with more of all others, and these alone."""
        little, more, all_of = (dict.fromkeys(self._mixture.channels, w) for w in (0.1, 0.3, 1.0))
        return [
            Weights(channels=little, rare=little, trend=0.05, dial=0.1),
            Weights(channels=more, rare=little, trend=0.05, dial=0.3),
            Weights(model=0.0, channels=all_of, rare=little, trend=0.05, dial=0.3),
        ]

    def _ascend(self, start: Doubles, goal: Goal) -> None:
        """Follows the gradient from a start, and measures every step."""
        weights = torch.from_numpy(start.copy())
        optimizer = torch.optim.Adam([weights], lr=_RATE, betas=(0.9, 0.95))
        for step in range(_STEPS):
            vector = self._mixture.scaled(weights.numpy())
            found = self._mixture.found(vector)
            outcome = self._measured_as(vector, self._yardstick.outcome(found.hits))
            worth = self._yardstick.worth(goal, outcome)
            gradient = self._mixture.gradient(weights.numpy(), found, worth)
            weights.grad = torch.from_numpy(-gradient)
            for group in optimizer.param_groups:
                group["lr"] = _RATE * max(1 - step / _STEPS, 0.02)
            optimizer.step()
            weights.clamp_(min=0)

    def _measure(self, vector: Doubles) -> Outcome:
        known = self._measured.get(vector.tobytes())
        if known is not None:
            return known[1]
        return self._measured_as(vector, self._yardstick.outcome(self._mixture.found(vector).hits))

    def _measured_as(self, vector: Doubles, outcome: Outcome) -> Outcome:
        self._measured[vector.tobytes()] = vector, outcome
        return outcome

    def _best(self, goal: Goal) -> Doubles:
        """Returns the weights that the goal prefers among all that were measured."""
        (best, outcome), *others = self._measured.values()
        for vector, other in others:
            if self._yardstick.prefers(goal, other, outcome):
                best, outcome = vector, other
        return best

    def _simplified(self, vector: Doubles, goal: Goal) -> Doubles:
        """Returns the weights without those that gain next to nothing."""
        for place in np.flatnonzero(vector):
            without = vector.copy()
            without[place] = 0
            one, other = self._measure(vector), self._measure(without)
            if without.any() and not self._yardstick.prefers(goal, one, other, _LEAST_GAIN):
                vector = without
        return vector


def _only(part: str) -> Weights:
    """Returns the weights of a part alone."""
    if part == TREND:
        return Weights(model=0.0, trend=1.0)
    return Weights(model=0.0, channels={part: 1.0})
