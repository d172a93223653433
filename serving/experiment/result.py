"""The result of an A/B test."""

from datetime import datetime
from typing import Literal

from feature_store.core.settings import Frozen
from pipelines.reports.words import QUERY
from serving.experiment.statistics import Lift, RailCheck

Verdict = Literal["do not trust", "guard-rail broken", "better", "worse", "mixed", "no difference"]


# A sample ratio with a lower p is no accident (Fabijan et al. 2019).
_MISMATCH_P = 0.001


class Comparison(Frozen):
    """A variant against the control."""

    variant: str
    verdict: Verdict
    lifts: tuple[Lift, ...]
    guard_rails: tuple[RailCheck, ...]


class Sample(Frozen):
    """The sample of a variant: its share, and its queries, answers and outcomes."""

    variant: str
    share: float
    queries: int
    answers: int
    events: int


class AbReport(Frozen):
    """The result of an A/B test.

    Attributes:
        experiment: Name of the experiment.
        window_hours: Hours from an answer to its outcomes.
        event_type: Type of the events that count; None: all.
        level: Level of significance; intervals have the confidence 1 - level.
        first_exposure: Time of the first answer.
        last_exposure: Time of the last answer.
        samples: Sample of each variant, the control first.
        sample_ratio_p: Chi-square test of the numbers of queries against the shares; None where
            there are too few.
        contaminated: Number of queries with several variants, which are left out.
        overridden: Number of queries with an override, which are left out.
        comparisons: Comparison of each variant but the control.
        query: Word of the log for a query.
    """

    experiment: str
    window_hours: float
    event_type: str | None
    level: float
    first_exposure: datetime
    last_exposure: datetime
    samples: tuple[Sample, ...]
    sample_ratio_p: float | None
    contaminated: int
    overridden: int
    comparisons: tuple[Comparison, ...]
    query: str = QUERY

    @property
    def is_trusted(self) -> bool:
        """Whether the numbers of queries agree with the shares."""
        return not is_mismatch(self.sample_ratio_p)


def is_mismatch(sample_ratio_p: float | None) -> bool:
    """Tells whether a sample ratio is too unlikely to be chance; None was not tested."""
    return sample_ratio_p is not None and sample_ratio_p < _MISMATCH_P
