"""Scores that do not depend on the query's known items: popularity and chance."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from feature_store.core.columns import Ints, Jagged
from feature_store.core.hashing import hash64
from recsys.evaluation.ranking import ItemScores, Scorer

_CHANCE_SEED = 0


@dataclass(frozen=True)
class Popularity:
    """Popularity: the number of training events, the same for every query.

    Attributes:
        frequency: Number of training events of each item, [items].
    """

    frequency: Ints

    def scorer(self, known: Jagged) -> Scorer:
        """Returns scores that do not depend on the known items."""
        # Ranks instead of counts: float32 cannot tell counts above 2^24 apart.
        _, rank = np.unique(self.frequency, return_inverse=True)
        scores = torch.from_numpy(rank.astype(np.float64))
        return lambda rows: lambda start, stop: scores[start:stop].expand(len(rows), -1)


@dataclass(frozen=True)
class Chance:
    """Pseudo-random scores, the same in every run."""

    def scorer(self, known: Jagged) -> Scorer:
        """Returns scores that do not depend on the known items."""

        def choose(rows: Ints) -> ItemScores:
            def score(start: int, stop: int) -> Tensor:
                drawn = hash64(_CHANCE_SEED, rows[:, None], np.arange(start, stop))
                return torch.from_numpy(drawn.astype(np.float64))

            return score

        return choose
