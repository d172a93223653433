"""Figures and intervals as text."""

# `recall@10` is a number, `recall@10_ci` its interval, and a slice's `count` its pairs.
Value = int | float | tuple[float, float] | None


Figures = dict[str, Value]


def number(value: Value) -> str:
    """With three decimals, or a dash."""
    return f"{value:.3f}" if isinstance(value, int | float) else "-"


def interval(bounds: Value) -> str:
    """Low and high, or a dash."""
    return f"{bounds[0]:.3f}-{bounds[1]:.3f}" if isinstance(bounds, tuple) else "-"
