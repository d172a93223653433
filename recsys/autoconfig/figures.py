"""Figures in sentences for a reader: counts, numbers and fractions."""

from pipelines.profile.columns import TokenCounts


def count(values: TokenCounts, noun: str) -> str:
    """Formats a count: `18 values`, or `about 1,200,000 values` where it is an estimate."""
    if values.distinct != values.seen:
        return f"about {_rounded(values.distinct):,} {noun}s"
    return f"{values.distinct:,} {noun}s"


def _rounded(estimate: int) -> int:
    """Rounds an estimate to two digits, for it has no more."""
    return int(float(f"{estimate:.1e}"))


def number(value: float) -> str:
    """Formats a number for a reader."""
    is_long = value == round(value) or abs(value) >= 1_000
    return f"{value:,.0f}" if is_long and abs(value) < 1e15 else f"{value:.3g}"


def percent(share: float) -> str:
    """Formats a fraction; only all is 100 % and only nothing is 0 %."""
    if 0 < share < 1:
        return f"{min(max(100 * share, 0.1), 99.9):.{0 if 0.01 <= share <= 0.985 else 1}f} %"
    return f"{100 * share:.0f} %"
