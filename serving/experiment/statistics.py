"""Differences, intervals and tests from the moments of each variant."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from feature_store.core.settings import Frozen
from serving.experiment.experiment import OUTCOME_METRICS, GuardRail, Metric

# Probability with which a difference of `detectable` is found.
_POWER = 0.8


@dataclass(frozen=True)
class Moments:
    """Means and sample (co)variances of two numbers y and x of each query of a variant."""

    queries: int
    y: float
    x: float
    var_y: float | None
    var_x: float | None
    covariance: float | None


@dataclass(frozen=True)
class Estimate:
    """A metric of one variant, and the variance of that estimate; None where it is unknown."""

    value: float | None
    variance: float | None
    queries: int


class Change(Frozen):
    """A difference and its interval; None where there is nothing to go by."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Lift(Frozen):
    """One metric of a variant against the control.

    Attributes:
        metric: Name of the metric.
        control: Value of the control.
        treated: Value of the variant.
        absolute: The variant less the control; Welch's interval, with the delta method's variance
            for ratios.
        relative: Change relative to the control's value; the delta method's interval.
        p: Welch's test, two-sided.
        adjusted_p: p by Holm's method, over all outcomes and variants; p itself of other metrics.
        is_significant: Whether the adjusted p is below the level.
        detectable: The absolute difference that such a sample shows with a probability of 0.8, if
            tested alone.
    """

    metric: Metric
    control: float | None
    treated: float | None
    absolute: Change = Change()
    relative: Change = Change()
    p: float | None = None
    adjusted_p: float | None = None
    is_significant: bool = False
    detectable: float | None = None


class RailCheck(Frozen):
    """The check of a guard-rail.

    Attributes:
        rail: The limit.
        state: `kept` or `broken` where the whole interval of the change is on that side of the
            limit, else `open`.
    """

    rail: GuardRail
    state: Literal["kept", "broken", "open"]


def ratio(moments: Moments) -> Estimate:
    """Estimates mean y over mean x, with the delta method's variance (Deng et al. 2018)."""
    if not moments.x:
        return Estimate(None, None, moments.queries)
    value = moments.y / moments.x
    if moments.var_y is None or moments.var_x is None or moments.covariance is None:
        return Estimate(value, None, moments.queries)
    spread = moments.var_y - 2 * value * moments.covariance + value**2 * moments.var_x
    return Estimate(value, max(0.0, spread) / (moments.queries * moments.x**2), moments.queries)


def lift(metric: Metric, control: Estimate, treated: Estimate, level: float) -> Lift:
    """Compares a variant's metric with the control's, before any adjustment of p."""
    before, after = control.value, treated.value
    if before is None or after is None:
        return Lift(metric=metric, control=before, treated=after)
    error, reach, freedom = _spread(control, treated, 1.0, level)
    relative = Change()
    if before > 0:
        error_of_relative = None
        if control.variance is not None and treated.variance is not None:
            variance = treated.variance / before**2 + control.variance * after**2 / before**4
            error_of_relative = variance**0.5
        relative = _change(after / before - 1, error_of_relative, reach)
    p = float(2 * stats.t.sf(abs(after - before) / error, freedom)) if error else None
    return Lift(
        metric=metric,
        control=before,
        treated=after,
        absolute=_change(after - before, error, reach),
        relative=relative,
        p=p,
        detectable=(reach + float(stats.norm.ppf(_POWER))) * error if error else None,
    )


def check_rail(rail: GuardRail, control: Estimate, treated: Estimate, level: float) -> RailCheck:
    """Checks the difference from the limit, whose variance exists even if the control is 0."""
    if control.value is None or treated.value is None:
        return RailCheck(rail=rail, state="open")
    weight = 1 + rail.worst_relative_change
    error, reach, _ = _spread(control, treated, weight, level)
    if error is None:
        return RailCheck(rail=rail, state="open")
    excess = treated.value - weight * control.value
    if rail.metric in OUTCOME_METRICS:
        excess = -excess
    if excess + reach * error <= 0:
        return RailCheck(rail=rail, state="kept")
    return RailCheck(rail=rail, state="broken" if excess - reach * error > 0 else "open")


def _spread(
    control: Estimate, treated: Estimate, weight: float, level: float
) -> tuple[float | None, float, float]:
    """Computes the spread of treated - weight x control.

    Returns:
        Standard error, half-width of the interval in standard errors, and degrees of freedom.
    """
    if control.variance is None or treated.variance is None:
        return None, 0.0, np.inf
    parts = weight**2 * control.variance, treated.variance
    freedom = np.inf
    if sum(parts):
        # Welch and Satterthwaite.
        sizes = control.queries, treated.queries
        freedom = sum(parts) ** 2 / sum(
            part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True)
        )
    return sum(parts) ** 0.5, float(stats.t.ppf(1 - level / 2, freedom)), freedom


def _change(value: float, error: float | None, reach: float) -> Change:
    if error is None:
        return Change(value=value)
    return Change(value=value, low=value - reach * error, high=value + reach * error)
