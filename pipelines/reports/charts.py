"""Small charts of plain HTML and SVG, which follow the page's colours and need no script."""

from collections.abc import Sequence
from html import escape

from pipelines.reports.format import Value, number
from recsys.evaluation.results import METHOD_TITLES, SHOWN, EvaluationResult

Matrix = Sequence[Sequence[float]]

# The plot within a line chart, in SVG units.
_WIDTH, _HEIGHT = 480, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 26


def slice_bars(result: EvaluationResult, metric: str) -> str:
    """A bar for each method in each group that has anything to find."""
    groups = {name: group for name, group in result.groups().items() if result.pairs(name)}
    values = [_share(f[metric]) for methods in groups.values() for f in methods.values()]
    longest = max([*values, 1e-9])
    rows = []
    for group, methods in groups.items():
        label = f"{escape(group)}<small>{result.pairs(group):,}</small>"
        rows.append(f'<div class="group">{label}</div>')
        for name, figures in methods.items():
            share = _share(figures[metric]) / longest
            rows.append(
                f'<div class="bar" style="--bar: var(--{name}); --share: {share:.4f}">'
                f'<i role="img" aria-label="{METHOD_TITLES[name]}"></i>'
                f"{number(figures[metric])}</div>"
            )
        rows.append('<div class="gap"></div>')
    legend = "".join(
        f'<li style="--bar: var(--{name})">{METHOD_TITLES[name]}</li>' for name in result.methods
    )
    return (
        f"<figure><h3>{SHOWN[metric]}</h3>"
        f'<ul class="legend" aria-label="Colours">{legend}</ul>'
        f'<div class="bars" style="--methods: {len(result.methods)}">{"".join(rows)}</div></figure>'
    )


def line_chart(title: str, points: list[tuple[float, float]], best_step: int) -> str:
    """A curve over steps.

    Args:
        title: What is drawn.
        points: (step, value), by step.
        best_step: Marked.
    """
    steps, values = [point[0] for point in points], [point[1] for point in points]
    first, last = min(steps), max(steps)
    low, high = min(values), max(values)

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step - first) / max(last - first, 1)

    def y(value: float) -> float:
        span = high - low
        share = (value - low) / span if span else 0.5
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    zero = ""
    if low < 0 < high:
        zero = f'<path class="axis" d="M{_LEFT},{y(0):.1f}H{_WIDTH - _RIGHT}"/>'
    line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    dots = "".join(
        f'<circle class="dot" cx="{x(step):.1f}" cy="{y(value):.1f}" r="3"/>'
        for step, value in (points if len(points) <= 40 else [])
    )
    best = ""
    if first <= best_step <= last:
        best = f'<path class="best" d="M{x(best_step):.1f},{_TOP}V{_HEIGHT - _BOTTOM}"/>'
    spoken = (
        f"{title}: {_short(values[0])} at step {first:,.0f}, {_short(values[-1])} at step "
        f"{last:,.0f}, lowest {_short(low)}, highest {_short(high)}"
    )
    bottom = _HEIGHT - _BOTTOM
    return (
        f"<figure><h3>{escape(title)}</h3>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(spoken)}">'
        f'<path class="axis" d="M{_LEFT},{_TOP}V{bottom}H{_WIDTH - _RIGHT}"/>{zero}{best}'
        f'<polyline class="curve" points="{line}"/>{dots}'
        f'<text x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{_short(high)}</text>'
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">{_short(low)}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">step {first:,.0f}</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">{last:,.0f}</text>'
        "</svg></figure>"
    )


def simple_bars(title: str, values: dict[str, int]) -> str:
    """A bar for each name, with its number."""
    longest = max([*values.values(), 1])
    rows = "".join(
        f'<div class="name">{escape(name)}</div>'
        f'<div class="bar" style="--bar: var(--model); --share: {value / longest:.4f}">'
        f"<i></i>{value:,}</div>"
        for name, value in values.items()
    )
    return f'<figure><h3>{escape(title)}</h3><div class="bars">{rows}</div></figure>'


def heat_table(label: str, names: Sequence[str], cells: Matrix, shades: Matrix) -> str:
    """A table of pairs of features, whose cells are the darker, the higher their shade.

    Args:
        label: What is shown, for those who cannot see it.
        names: Of the features.
        cells: [features, features] numbers to show.
        shades: [features, features] from 0 to 1.
    """
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    rows = []
    for name, numbers, of_row in zip(names, cells, shades, strict=True):
        row = "".join(
            f'<td style="--share: {min(1.0, max(0.0, shade)):.3f}">{value:.2f}</td>'
            for value, shade in zip(numbers, of_row, strict=True)
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{row}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(label)}">'
        f'<table class="heat"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _share(value: Value) -> float:
    return value if isinstance(value, float) else 0.0


def _short(value: float) -> str:
    """Four significant digits where there is room, without an exponent for large numbers."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 0.01 else f"{value:.2g}"
