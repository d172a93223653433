"""Figures and intervals as text."""

# `recall@10` is a number, `recall@10_ci` its interval, and a slice's `count` its pairs.
Value = int | float | tuple[float, float] | None


Figures = dict[str, Value]


def number(value: Value) -> str:
    """Returns a number with three decimals, or a dash."""
    return f"{value:.3f}" if isinstance(value, int | float) else "-"


def interval(bounds: Value) -> str:
    """Returns the low and the high end, or a dash."""
    return f"{bounds[0]:.3f}-{bounds[1]:.3f}" if isinstance(bounds, tuple) else "-"


def as_sentence(text: str) -> str:
    """Returns a statement as a sentence, with its first letter in upper case and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def shown(value: Value, digits: int = 3) -> str:
    """Returns a count with separators, another number with some decimals, or a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def short(value: float) -> str:
    """Returns about four significant digits, without an exponent for large numbers."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def count_of(total: int, noun: str, plural: str = "") -> str:
    """Returns a number with its noun, such as `1 query` or `2,000 items`."""
    return f"{total:,} {noun if total == 1 else plural or f'{noun}s'}"
