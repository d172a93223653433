"""Scores of validations, by which checkpoints, trials and baselines are compared."""

from collections.abc import Mapping
from typing import NamedTuple

# Metric that breaks ties: the NDCG of whole rankings.
FINER = "ndcg@all"


class Score(NamedTuple):
    """Figures of a validation by which models are compared, the first one first.

    With few held-out pairs, or a cutoff near the number of items, many models have equal values of
    `evaluation.select_by`: then the finer metric decides.

    Attributes:
        value: Metric of `evaluation.select_by`.
        finer: Metric that breaks ties.
    """

    value: float
    finer: float


# Score where nothing is found, or no model was trained.
NOTHING = Score(0.0, 0.0)


def score_of(metrics: Mapping[str, float | None], select_by: str) -> Score | None:
    """Returns the score of a validation's metrics, by name; None where nothing is held out."""
    value = metrics.get(select_by)
    return None if value is None else Score(value, metrics.get(FINER) or 0.0)
