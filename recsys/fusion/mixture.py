"""Scores of a sample as a function of the weights, with its gradient."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Bools, Floats
from recsys.evaluation.metrics import Doubles
from recsys.fusion.sample import DIAL, MODEL, STRONGEST_DIAL, TREND, Sample
from recsys.fusion.weights import Weights

CUTOFFS = (10, 50)
# Difference of scores at which a pair that is not found counts as found by a quarter, about.
_SOFTNESS = 0.02
# Decimals of a weight.
_DECIMALS = 3

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """Pairs of a sample that weights find.

    Attributes:
        hits: Whether a pair is among the first of each cutoff, [cutoffs, pairs].
        margins: Score of the pair over that of its rival, [cutoffs, pairs].
        rivals: Position of the pair's rival among the scores of all candidates, [cutoffs, pairs]:
            the best candidate beyond the cutoff, or the last one within, where the pair is not.
    """

    hits: Bools
    margins: Floats
    rivals: Positions


class Mixture:
    """Scores of a sample's candidates by weights, as a vector: of each part, then for rare items.

    The highest of the weights of the model, the channels and the trend is 1, and none is above 1.2:
    a ranking stays the same where all are multiplied.

    Args:
        sample: Candidates of sampled queries.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self.channels = tuple(n for n in sample.parts if n not in (MODEL, TREND, DIAL))
        parts, self._width = len(sample.parts), sample.candidates.shape[1]
        self._parts = sample.values.reshape(parts, -1).numpy()
        self._of_channels = self._parts[1 : 1 + len(self.channels)]
        self._sign = np.ones(parts + len(self.channels))
        self._sign[parts - 1] = -1  # The dial is taken off.
        self._is_scale = np.arange(len(self._sign)) < parts - 1
        self._rarity = sample.rarity.reshape(-1).numpy()
        self._padding = np.where(sample.is_padding, np.float32(-np.inf), np.float32(0))
        self._query = sample.query.numpy()
        self._pairs = self._query * self._width + sample.position.numpy()
        self._of_pairs = self._at(self._pairs)

    def __len__(self) -> int:
        return len(self._sign)

    def scaled(self, vector: Doubles) -> Doubles:
        """Returns the same weights with 1 as the highest of parts, rounded as they are stored."""
        of_highest: Doubles = np.minimum(vector / self._scale(vector), STRONGEST_DIAL)
        return of_highest.round(_DECIMALS)

    def _scale(self, vector: Doubles) -> float:
        return max(float(vector[self._is_scale].max()), 1e-9)

    def scores(self, vector: Doubles) -> Floats:
        """Returns the score of each candidate, [queries, candidates]; -inf is padding."""
        weights = (vector * self._sign).astype(np.float32)
        scores = weights[len(self._parts) :] @ self._of_channels
        scores *= self._rarity
        scores += weights[: len(self._parts)] @ self._parts
        scores = scores.reshape(self._padding.shape)
        scores += self._padding
        return scores

    def found(self, vector: Doubles) -> Found:
        """Ranks the candidates.

        Args:
            vector: Weights, scaled, [weights].
        """
        scores = self.scores(vector)
        own = scores.reshape(-1)[self._pairs]
        most = min(CUTOFFS[-1] + 1, self._width)
        best = np.partition(scores, self._width - most, axis=1)[:, self._width - most :]
        best.sort(axis=1)
        hits, margins, rivals = [], [], []
        for cutoff in CUTOFFS:
            within = best[:, max(most - cutoff, 0)]
            # A query with fewer candidates has every one among the first.
            few = np.full_like(within, -np.inf)
            beyond = best[:, most - cutoff - 1] if cutoff < self._width else few
            is_hit = own > beyond[self._query]
            at_within, at_beyond = (
                (scores == score[:, None]).argmax(axis=1)[self._query] for score in (within, beyond)
            )
            hits.append(is_hit)
            margins.append(own - np.where(is_hit, beyond[self._query], within[self._query]))
            rivals.append(self._query * self._width + np.where(is_hit, at_beyond, at_within))
        return Found(np.stack(hits), np.stack(margins), np.stack(rivals))

    def gradient(self, vector: Doubles, found: Found, worth: Doubles) -> Doubles:
        """Returns how much is gained by each weight, [weights], before they are scaled.

        A pair counts as found by the logistic function of its margin, so that those near a cutoff
        count for most (the hits themselves have no gradient).

        Args:
            vector: Weights before they are scaled, [weights].
            found: Pairs that they find.
            worth: Worth of finding each pair, [cutoffs, pairs].
        """
        half = np.tanh(found.margins / (2 * _SOFTNESS))
        slope = worth * (1 - half**2) / (4 * _SOFTNESS)
        counted = slope > 0
        gradient = np.zeros(len(self))
        for cutoff in range(len(CUTOFFS)):
            pairs = np.flatnonzero(counted[cutoff])
            apart = self._of_pairs[:, pairs] - self._at(found.rivals[cutoff, pairs])
            gradient += apart @ slope[cutoff, pairs]
        gradient *= self._sign
        scale = self._scale(vector)
        # The scale is the highest weight, which so gains nothing by itself.
        of_scale = float(gradient @ vector) / scale
        gradient[int(np.flatnonzero(self._is_scale)[vector[self._is_scale].argmax()])] -= of_scale
        return gradient / scale

    def _at(self, positions: Positions) -> Doubles:
        """Returns what each weight is multiplied by at positions of the scores, [weights, n]."""
        parts = self._parts[:, positions].astype(np.float64)
        rare = parts[1 : 1 + len(self.channels)] * self._rarity[positions]
        return np.concatenate([parts, rare])

    def weights(self, vector: Doubles) -> Weights:
        """Returns scaled weights by name."""
        values = dict(zip(self._sample.parts, vector.tolist(), strict=False))
        rare = dict(zip(self.channels, vector[len(self._parts) :].tolist(), strict=True))
        return Weights(
            model=values[MODEL],
            channels={name: values[name] for name in self.channels if values[name]},
            rare={name: weight for name, weight in rare.items() if weight},
            trend=values[TREND],
            dial=values[DIAL],
        )

    def vector(self, weights: Weights) -> Doubles:
        """Returns weights as a vector, [weights]."""
        of_parts = {MODEL: weights.model, TREND: weights.trend, DIAL: weights.dial}
        of_parts |= {name: weights.channels.get(name, 0.0) for name in self.channels}
        rare = [weights.rare.get(name, 0.0) for name in self.channels]
        return np.array([*(of_parts[name] for name in self._sample.parts), *rare])
