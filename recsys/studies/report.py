"""A study to read: Markdown with plots beside it, and one page that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.core.files import write_text
from pipelines.reports.format import as_sentence
from pipelines.reports.html import svg_file
from pipelines.reports.opening import Judged, Mark, Verdict, summed_up
from pipelines.reports.parts import (
    Cell,
    Cells,
    Chart,
    Facts,
    Page,
    Part,
    Row,
    Section,
    Table,
    Text,
    Tone,
)
from pipelines.reports.plots import Range, Ranges
from recsys.evaluation.results import SHOWN
from recsys.evaluation.rivals import FEW_PAIRS, LEVEL
from recsys.studies import analysis
from recsys.studies.analysis import AT_LOSS, STUDY_METRICS, ArmResult

if TYPE_CHECKING:
    from recsys.studies.result import StudyResult

_JUDGED = ("recall@50", *(f"{name} recall@50" for name in ("head", "torso", "tail", "cold")))
_PLOTTED = ("recall@50", "tail recall@50")
_TITLES = {
    **SHOWN,
    **{n: n.replace("recall", "Recall").capitalize() for n in STUDY_METRICS if n not in SHOWN},
    # In a row of ten headings there is room for few words; the note says what they mean.
    **dict(zip(AT_LOSS, ("Tail at 1 % loss", "Same, towers"), strict=True)),
}


def render_markdown(result: "StudyResult") -> str:
    """Returns the study as Markdown, which shows the files of `write_plots`."""
    parts = [f"# Study of {result.name}", _design(result)]
    for fraction in _fractions(result):
        arms = _of(result, fraction)
        metrics = [name for name in STUDY_METRICS if name in arms[0].cells]
        parts.append(f"## {_labels(fraction)}")
        head = ["", *(f"{_TITLES[n]} ({arms[0].pairs[n]:,} pairs)" for n in metrics)]
        lines = [_line(head), _line(["---", *["---:"] * len(metrics)])]
        for arm in arms:
            cells = [_text(arm, name) for name in metrics]
            lines.append(_line([arm.arm, *cells]))
        parts.append("\n".join(lines))
        parts += _bounds(arms)
        parts += [f"![{_TITLES[n]}]({_plot_name(n, fraction)})" for n in _PLOTTED if n in metrics]
        parts.append(_settings(arms))
    return "\n\n".join(parts) + "\n"


def study_page(result: "StudyResult") -> Page:
    """Returns the study as a page."""
    return Page(
        title=f"Study of {result.name}",
        query=result.query,
        lead=_design(result),
        opening=[_verdict(result, fraction) for fraction in _fractions(result)],
        sections=[
            Section(f"labels-{fraction:g}", _labels(fraction), _parts(result, fraction))
            for fraction in _fractions(result)
        ],
    )


def _verdict(result: "StudyResult", fraction: float) -> Verdict:
    """Returns the verdict on the best arm against the baseline, with some of the labels."""
    arms = _of(result, fraction)
    others = [arm for arm in arms if arm.arm != result.baseline]
    own = next((arm for arm in arms if arm.arm == result.baseline), None)
    labels = _labels(fraction)
    if own is None or not others:
        return Verdict("cannot tell", f"{labels}: there is nothing to hold against each other.")
    best = max(others, key=lambda arm: arm.cells["recall@50"].mean)
    groups = [
        Judged(
            name.removesuffix(" recall@50") if name != "recall@50" else "overall",
            _mark_of(best, name),
            f"{_TITLES[name]} {best.cells[name].mean:.4f} against {own.cells[name].mean:.4f}",
        )
        for name in _JUDGED
        if name in best.cells
    ]
    mark, words = summed_up(groups)
    against = f"{best.arm} against {result.baseline}"
    if len(others) > 1:
        against = f"{best.arm}, the best of {len(others)} arms against {result.baseline},"
    sentence = f"{labels}: {against} has {groups[0].text}."
    todo = {
        "better": f"Train with the settings of {best.arm}, below.",
        "worse": f"Keep {result.baseline}, or weigh what {best.arm} gains and loses.",
        "no different": f"Keep {result.baseline}; more seeds (study.seeds) show smaller effects.",
        "cannot tell": "Hold out more pairs, or add seeds (study.seeds).",
    }[mark]
    return Verdict(mark, sentence, groups, todo, words)


def _mark_of(arm: ArmResult, metric: str) -> Mark:
    """Returns the judgement on an arm against the baseline; few pairs allow none."""
    cell = arm.cells[metric]
    if arm.pairs[metric] < FEW_PAIRS or cell.adjusted_p is None or cell.difference is None:
        return "cannot tell"
    if cell.adjusted_p >= LEVEL:
        return "no different"
    return "better" if cell.difference > 0 else "worse"


def _parts(result: "StudyResult", fraction: float) -> list[Part]:
    arms = _of(result, fraction)
    metrics = [name for name in STUDY_METRICS if name in arms[0].cells]
    rows: list[Row | Cells] = [
        Row([arm.arm, *(_cell(arm, name) for name in metrics)], arm.arm == result.baseline)
        for arm in arms
    ]
    rows.append(["held-out pairs", *(f"{arms[0].pairs[name]:,}" for name in metrics)])
    table = Table(
        _labels(fraction),
        ["Arm", *(_TITLES[name] for name in metrics)],
        rows,
        note=f"Means over {result.seeds} seeds, with 95 % intervals of the mean. ▲ and ▼: "
        f"significantly better or worse than {result.baseline} (shaded); fewer than {FEW_PAIRS} "
        "pairs allow no conclusion. "
        "At 1 % loss: Recall@50 of the tail where the popularity dial costs 1 % of the overall "
        "one; the same of the towers alone.",
    )
    settings: list[Part] = [
        Text("Settings that validation chose:"),
        Facts([(arm.arm, _values(arm)) for arm in arms]),
    ]
    return [
        table,
        *map(Text, _bounds(arms)),
        *(plot(arms, name, fraction) for name in _PLOTTED if name in metrics),
        *([] if result.trials == 1 else settings),
    ]


def _bounds(arms: Sequence[ArmResult]) -> list[str]:
    """Returns the bounds of the slices, which are those of the training log with these labels."""
    bounds = arms[0].slice_bounds
    return [] if bounds is None else [as_sentence(bounds.sentence())]


def write_plots(directory: Path, result: "StudyResult") -> None:
    """Writes SVG files, which the Markdown shows."""
    for fraction in _fractions(result):
        arms = _of(result, fraction)
        for name in _PLOTTED:
            if name in arms[0].cells:
                svg = svg_file(plot(arms, name, fraction))
                write_text(directory / _plot_name(name, fraction), svg)


def plot(arms: Sequence[ArmResult], metric: str, fraction: float) -> Chart:
    """Returns each arm's mean with its interval, and small dots for its seeds.

    Args:
        arms: Arms to show.
        metric: Metric to show.
        fraction: Share of the labels that they were trained with.
    """
    cells = {arm.arm: arm.cells[metric] for arm in arms}
    rows = [Range(arm, c.mean, c.low, c.high, c.seeds) for arm, c in cells.items()]
    best = max(cells, key=lambda arm: cells[arm].mean)
    return Chart(
        f"{_TITLES[metric]}, {_labels(fraction).lower()}",
        f"Mean of each arm, its 95 % interval, and small dots for single seeds. The highest mean "
        f"is that of {best}, {cells[best].mean:.4f}; intervals that overlap say little.",
        Ranges(rows, _TITLES[metric]),
    )


def _design(result: "StudyResult") -> str:
    sizes = ", ".join(f"{number:,} {what}" for what, number in result.counts.items())
    settings = f"the best of {result.trials} settings by validation {result.metric}"
    if result.trials == 1:
        settings = "the settings as configured"
    return (
        f"{sizes}. Of each arm {settings}, "
        f"then {result.seeds} trainings with other seeds, each tested once. Figures are means over "
        f"seeds and 95 % intervals of the mean; ▲ and ▼: better or worse than {result.baseline}, "
        f"p < {LEVEL:g} of a paired permutation test over queries, adjusted by Holm's method over "
        "the arms."
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


def _text(arm: ArmResult, metric: str) -> str:
    cell = arm.cells[metric]
    return f"{cell.mean:.4f} {_half(cell)}".rstrip() + _sign(arm, metric)


def _cell(arm: ArmResult, metric: str) -> Cell:
    cell, mark = arm.cells[metric], _sign(arm, metric)
    half = [_half(cell)] if _half(cell) else []
    tones: dict[str, Tone] = {"": "", " ▲": "good", " ▼": "bad"}
    return Cell(f"{cell.mean:.4f}{mark}", half, tone=tones[mark])


def _half(cell: analysis.Cell) -> str:
    """Returns half the width of the interval; one seed has none."""
    return "" if cell.high is None else f"± {cell.high - cell.mean:.4f}"


def _sign(arm: ArmResult, metric: str) -> str:
    return {"better": " ▲", "worse": " ▼"}.get(_mark_of(arm, metric), "")


def _fractions(result: "StudyResult") -> list[float]:
    return list(dict.fromkeys(arm.label_fraction for arm in result.arms))


def _of(result: "StudyResult", fraction: float) -> list[ArmResult]:
    return [arm for arm in result.arms if arm.label_fraction == fraction]


def _labels(fraction: float) -> str:
    return f"{100 * fraction:g} % of the labels"


def _plot_name(metric: str, fraction: float) -> str:
    return f"{metric.replace(' ', '-').replace('@', '-')}-{fraction:g}.svg"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
