"""A study in words: Markdown with plots beside it, and one page that needs nothing else."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.core.files import write_text
from pipelines.reports.page import render_page
from pipelines.reports.parts import table
from recsys.evaluation.results import SHOWN
from recsys.studies.analysis import STUDY_METRICS, ArmResult, Cell

if TYPE_CHECKING:
    from recsys.studies.result import StudyResult

_LEVEL = 0.05
_PLOTTED = ("recall@50", "tail recall@50")
_TITLES = {
    **SHOWN,
    **{n: n.replace("recall", "Recall").capitalize() for n in STUDY_METRICS if n not in SHOWN},
}
# A plot, in SVG units; at each end of its axis there is room for half a number.
_WIDTH, _ROW, _LABEL, _TOP, _END = 640, 28, 170, 30, 24


def render_markdown(result: "StudyResult") -> str:
    """The study as Markdown, which shows the files of `write_plots`."""
    parts = [f"# Study of {result.name}", _design(result)]
    for fraction in _fractions(result):
        arms = _of(result, fraction)
        metrics = [name for name in STUDY_METRICS if name in arms[0].cells]
        parts.append(f"## {_labels(fraction)}")
        head = ["", *(f"{_TITLES[n]} ({arms[0].pairs[n]:,} pairs)" for n in metrics)]
        lines = [_line(head), _line(["---", *["---:"] * len(metrics)])]
        for arm in arms:
            cells = [_text(arm.cells[name]) for name in metrics]
            lines.append(_line([arm.arm, *cells]))
        parts.append("\n".join(lines))
        parts += [f"![{_TITLES[n]}]({_plot_name(n, fraction)})" for n in _PLOTTED if n in metrics]
        parts.append(_settings(arms))
    return "\n\n".join(parts) + "\n"


def render_page_of(result: "StudyResult") -> str:
    """The study as one page of HTML."""
    sections = []
    for fraction in _fractions(result):
        arms = _of(result, fraction)
        metrics = [name for name in STUDY_METRICS if name in arms[0].cells]
        rows = [
            f'<tr><th scope="row">{escape(arm.arm)}</th>'
            f"{''.join(_html(arm.cells[name]) for name in metrics)}</tr>"
            for arm in arms
        ]
        pairs = "".join(f"<td>{arms[0].pairs[name]:,}</td>" for name in metrics)
        rows.append(f'<tr><th scope="row">held-out pairs</th>{pairs}</tr>')
        heads = [_TITLES[name] for name in metrics]
        note = (
            f"Means over {result.seeds} seeds, with 95 % intervals of the mean. Bold: different "
            f"from {result.baseline}, by a paired permutation test over queries, with p adjusted "
            "by Holm's method over the arms."
        )
        plots = "".join(f"<div>{plot(arms, n, fraction)}</div>" for n in _PLOTTED if n in metrics)
        body = table(_labels(fraction), note, ["Arm"], heads, rows)
        chosen = "".join(
            f"<div><dt>{escape(arm.arm)}</dt><dd>{escape(_values(arm))}</dd></div>" for arm in arms
        )
        sections.append(
            (
                f"labels-{fraction:g}",
                _labels(fraction),
                f'{body}<div class="two">{plots}</div><h3>Settings that validation chose</h3>'
                f'<dl class="wide">{chosen}</dl>',
            )
        )
    return render_page(
        title=f"Study of {result.name}",
        subtitle=_design(result),
        warnings=[],
        sections=sections,
        style=(files("recsys.reports") / "report.css").read_text(encoding="utf-8"),
    )


def write_plots(directory: Path, result: "StudyResult") -> None:
    """SVG files, which the Markdown shows."""
    for fraction in _fractions(result):
        arms = _of(result, fraction)
        for name in _PLOTTED:
            if name in arms[0].cells:
                svg = plot(arms, name, fraction)
                write_text(directory / _plot_name(name, fraction), svg)


def plot(arms: Sequence[ArmResult], metric: str, fraction: float) -> str:
    """SVG: each arm's mean with its interval, and small dots for its seeds."""
    cells = {arm.arm: arm.cells[metric] for arm in arms}
    values = [v for c in cells.values() for v in (*c.seeds, c.low, c.high) if v is not None]
    low, high = min(values), max(values)
    span = max(high - low, 1e-6)

    def x(value: float) -> float:
        return _LABEL + _END + (_WIDTH - _LABEL - 2 * _END) * (value - low) / span

    title = f"{_TITLES[metric]}, {_labels(fraction).lower()}"
    height = _TOP + _ROW * len(cells) + 24
    style = "font-family='system-ui, sans-serif' font-size='13'"
    parts = [f'<text x="0" y="16" font-weight="600" fill="currentColor">{escape(title)}</text>']
    for place, (name, cell) in enumerate(cells.items()):
        y = _TOP + _ROW * (place + 0.5)
        parts.append(f'<text x="0" y="{y + 4}" fill="currentColor">{escape(name)}</text>')
        parts += [
            f'<circle cx="{x(value):.1f}" cy="{y}" r="2.5" fill="#7d8794"/>' for value in cell.seeds
        ]
        if cell.low is not None and cell.high is not None:
            parts.append(
                f'<line x1="{x(cell.low):.1f}" x2="{x(cell.high):.1f}" y1="{y}" y2="{y}" '
                'stroke="#1f62c4" stroke-width="2"/>'
            )
        parts.append(f'<circle cx="{x(cell.mean):.1f}" cy="{y}" r="5" fill="#1f62c4"/>')
    for value in (low, (low + high) / 2, high):
        parts.append(
            f'<text x="{x(value):.1f}" y="{height - 4}" text-anchor="middle" '
            f'fill="currentColor">{value:.3f}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}" {style} color="#4a5361">{"".join(parts)}</svg>'
    )


def _design(result: "StudyResult") -> str:
    sizes = ", ".join(f"{number:,} {what}" for what, number in result.counts.items())
    return (
        f"{sizes}. Of each arm the best of {result.trials} settings by validation {result.metric}, "
        f"then {result.seeds} trainings with other seeds, each tested once. Figures are means over "
        f"seeds and 95 % intervals of the mean; ▲ and ▼: better or worse than {result.baseline}, "
        "p < 0.05 of a paired permutation test over queries, adjusted by Holm's method over the "
        "arms."
    )


def _settings(arms: Sequence[ArmResult]) -> str:
    lines = [f"- {arm.arm}: {_values(arm)}; {arm.seconds:.0f} s a training" for arm in arms]
    return "Settings that validation chose:\n\n" + "\n".join(lines)


def _values(arm: ArmResult) -> str:
    shown = [
        f"{path} {_short(value)}" for path, value in arm.values.items() if path != "ssl.method"
    ]
    return ", ".join(shown) or "as configured"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _text(cell: Cell) -> str:
    return f"{cell.mean:.4f} {_half(cell)}".rstrip() + _mark(cell)


def _html(cell: Cell) -> str:
    mark = _mark(cell)
    value = f"<strong>{cell.mean:.4f}{mark}</strong>" if mark else f"{cell.mean:.4f}"
    return f"<td>{value}<small>{_half(cell)}</small></td>"


def _half(cell: Cell) -> str:
    """Of the interval; of one seed there is none."""
    return "" if cell.high is None else f"± {cell.high - cell.mean:.4f}"


def _mark(cell: Cell) -> str:
    if cell.adjusted_p is None or cell.difference is None or cell.adjusted_p >= _LEVEL:
        return ""
    return " ▲" if cell.difference > 0 else " ▼"


def _fractions(result: "StudyResult") -> list[float]:
    return list(dict.fromkeys(arm.label_fraction for arm in result.arms))


def _of(result: "StudyResult", fraction: float) -> list[ArmResult]:
    return [arm for arm in result.arms if arm.label_fraction == fraction]


def _labels(fraction: float) -> str:
    return f"{fraction:.0%} of the labels".replace("%", " %")


def _plot_name(metric: str, fraction: float) -> str:
    return f"{metric.replace(' ', '-').replace('@', '-')}-{fraction:g}.svg"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
