"""What a search leaves to read: the best configuration with its changes, and a page."""

import json
import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pipelines.reports.page import render_page
from recsys.config.config import Config
from recsys.config.load import changed_document
from recsys.config.tuning import Choices
from recsys.config.yaml_writer import Entry, Note, Row, Section, Setting, render, scalar
from recsys.tuning.journal import Trial
from recsys.tuning.space import Axis, leaves

if TYPE_CHECKING:
    from recsys.tuning.result import TuningResult
    from recsys.tuning.search import Search

# The plot within a chart, in SVG units.
_WIDTH, _HEIGHT = 480, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 26


def render_best(config: Config, result: "TuningResult") -> str:
    """The configuration with the best settings, as YAML with what was changed.

    Args:
        config: That the search began with.
        result: Of the search.
    """
    best = result.best
    document = changed_document(config, best.values)
    document.pop("tuning", None)
    before = leaves(config)
    whys = {
        path: f"tuned; {scalar(before[path])} before" if path in before else "tuned"
        for path, value in best.values.items()
        if before.get(path) != value
    }
    entries: list[Entry] = [
        Note(
            f"By `recsys tune`: validation {result.metric} {best.mean:.4f}, the mean of "
            f"{1 + len(best.confirmed)} seeds; trial {best.trial} of "
            f"{sum(result.trials.values())}, MLflow run {best.mlflow_run_id}."
        ),
        *_entries(document, "", whys),
    ]
    return render(entries)


def _entries(document: dict[str, Any], prefix: str, whys: dict[str, str]) -> list[Entry]:
    entries: list[Entry] = []
    for key, value in document.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            entries.append(Section(key, _entries(value, f"{path}.", whys)))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            entries.append(Section(key, [Row(row) for row in value]))
        else:
            entries.append(Setting(key, value, whys.get(path, "")))
    return entries


def render_tuning_report(search: "Search", result: "TuningResult") -> str:
    """The page of a search: one file, without scripts and without the network."""
    trials = search.journal.searched
    sections = [
        ("best", "Best settings", _best(search.config, result)),
        ("importance", "What matters", _importance(result)),
        ("settings", "Each setting", _scatters(search, trials)),
        ("curves", "Validation of all trials", _curves(search, trials)),
        ("trials", "Trials", _trials(search, trials)),
    ]
    counts = ", ".join(f"{count} {status}" for status, count in result.trials.items())
    return render_page(
        title="Search for better settings",
        subtitle=f"{len(trials)} trials by validation {result.metric} ({counts}); MLflow run "
        f"{result.mlflow_run_id}",
        warnings=[],
        sections=sections,
        style=(files("recsys.reports") / "report.css").read_text(encoding="utf-8"),
    )


def _best(config: Config, result: "TuningResult") -> str:
    before, best = leaves(config), result.best
    own = (
        "" if result.own_value is None else f"; the configuration as it was: {result.own_value:.4f}"
    )
    rows = [[path, _shown(before.get(path)), _shown(value)] for path, value in best.values.items()]
    settings = _table("Best settings", ["Setting", "Before", "Best"], rows)
    seeds = max(len(candidate.confirmed) for candidate in result.candidates)
    candidates = [
        [
            f"trial {candidate.trial}",
            f"{candidate.value:.4f}",
            *(f"{value:.4f}" for value in candidate.confirmed),
            *[""] * (seeds - len(candidate.confirmed)),
            f"{candidate.mean:.4f}",
        ]
        for candidate in result.candidates
    ]
    heads = ["Settings", "In the search", *(f"Seed +{i + 1}" for i in range(seeds)), "Mean"]
    note = (
        "The first of many noisy values is partly luck: its figure in the search is too high. So "
        "the best are trained anew with further seeds, and the mean decides. The test split is not "
        "looked at."
        if seeds
        else "The best of many noisy values is partly luck: its figure is too high. "
        "tuning.confirm_seeds trains the best anew with further seeds."
    )
    return (
        f"<p>{escape(result.metric)} on the validation split: {best.mean:.4f}{own}.</p>{settings}"
        f'<p class="soft">{note}</p>{_table("Candidates", heads, candidates)}'
    )


def _importance(result: "TuningResult") -> str:
    if not result.importance:
        return "<p>Too few trials to tell what matters.</p>"
    longest = max([*result.importance.values(), 1e-9])
    bars = "".join(
        f'<div class="group" style="grid-row: auto">{escape(path)}</div>'
        f'<div class="bar" style="--bar: var(--model); --share: {share / longest:.4f}">'
        f'<i role="img" aria-label="share"></i>{share:.2f}</div>'
        '<div class="gap"></div>'
        for path, share in result.importance.items()
    )
    note = (
        "The share of the variation over trials that each setting explains by itself (fANOVA, "
        "Hutter et al. 2014). Trials that were stopped count with what they had reached."
    )
    return f'<p class="soft">{note}</p><div class="bars">{bars}</div>'


def _scatters(search: "Search", trials: Sequence[Trial]) -> str:
    charts = "".join(_scatter(search, axis, trials) for axis in search.axes)
    note = (
        f"Each trial's {search.metric} over the setting's value; hollow: stopped early. The dashed "
        "line is the best trial of the search."
    )
    return f'<p class="soft">{escape(note)}</p><div class="two">{charts}</div>'


def _scatter(search: "Search", axis: Axis, trials: Sequence[Trial]) -> str:
    points = [
        (_position(axis, trial.started.values[axis.path]), value, trial)
        for trial in trials
        if axis.path in trial.started.values and (value := trial.value(search.metric)) is not None
    ]
    if not points:
        return ""
    low, high = _span([value for _, value, _ in points])
    dots = "".join(
        f'<circle class="{"dot" if trial.status == "finished" else "open"}" '
        f'cx="{_x(share):.1f}" cy="{_y((value - low) / (high - low)):.1f}" r="4">'
        f"<title>trial {trial.number}: {escape(scalar(trial.started.values[axis.path]))}, "
        f"{value:.4f}</title></circle>"
        for share, value, trial in points
    )
    best = max(points, key=lambda point: (point[1], -point[2].number))
    line = f'<path class="best" d="M{_x(best[0]):.1f},{_TOP}V{_HEIGHT - _BOTTOM}"/>'
    spoken = f"{search.metric} over {axis.path}, {len(points)} trials"
    return _chart(axis.path, spoken, line + dots, (low, high), _ticks(axis))


def _curves(search: "Search", trials: Sequence[Trial]) -> str:
    curves = [(trial, trial.values_of(search.metric)) for trial in trials if trial.validations]
    if not curves:
        return "<p>No trial was validated.</p>"
    low, high = _span([value for _, values in curves for value in values])
    longest = max(len(values) for _, values in curves)

    def points(values: list[float]) -> str:
        return " ".join(
            f"{_x((i + 0.5) / longest):.1f},{_y((value - low) / (high - low)):.1f}"
            for i, value in enumerate(values)
        )

    number = search.best_trials()[0].number if search.best_trials() else None
    drawn = "".join(
        f'<polyline class="{"curve" if trial.number == number else "other"}" '
        f'points="{points(values)}"><title>trial {trial.number}</title></polyline>'
        for trial, values in sorted(curves, key=lambda pair: pair[0].number == number)
    )
    ticks = [((0.5) / longest, "1"), ((longest - 0.5) / longest, str(longest))]
    chart = _chart(
        f"{search.metric} over validations",
        f"the best so far of {len(curves)} trials over {longest} validations",
        drawn,
        (low, high),
        ticks if longest > 1 else ticks[:1],
    )
    note = "The best so far of each trial; strong: the best trial."
    return f'<p class="soft">{note}</p><div class="two">{chart}</div>'


def _trials(search: "Search", trials: Sequence[Trial]) -> str:
    ranked = sorted(trials, key=lambda trial: (-(trial.value(search.metric) or -1.0), trial.number))
    rows = []
    for trial in ranked:
        value = trial.value(search.metric)
        error = trial.ended.error if trial.ended else None
        rows.append(
            [
                f"{trial.number} {trial.status}" + (f": {error}" if error else ""),
                "" if value is None else f"{value:.4f}",
                str(len(trial.validations)),
                *(_shown(trial.started.values.get(axis.path)) for axis in search.axes),
            ]
        )
    heads = ["Trial", search.metric, "Validations", *(axis.path for axis in search.axes)]
    return _table("Trials", heads, rows)


def _table(name: str, heads: list[str], rows: list[list[str]]) -> str:
    """The first column names the row; scrolls sideways, by keyboard too."""
    first, *others = (escape(text) for text in heads)
    head = f'<th scope="col" class="text">{first}</th>'
    head += "".join(f'<th scope="col">{text}</th>' for text in others)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(name)}">'
        f'<table aria-label="{escape(name)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _chart(
    title: str,
    spoken: str,
    drawn: str,
    span: tuple[float, float],
    ticks: list[tuple[float, str]],
) -> str:
    bottom = _HEIGHT - _BOTTOM
    anchors = ["start", *["middle"] * (len(ticks) - 2), "end"] if len(ticks) > 1 else ["middle"]
    labels = "".join(
        f'<text x="{_x(share):.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{escape(text)}</text>'
        for (share, text), anchor in zip(ticks, anchors, strict=True)
    )
    return (
        f"<figure><h3>{escape(title)}</h3>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(spoken)}">'
        f'<path class="axis" d="M{_LEFT},{_TOP}V{bottom}H{_WIDTH - _RIGHT}"/>{drawn}'
        f'<text x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{span[1]:.4f}</text>'
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">{span[0]:.4f}</text>'
        f"{labels}</svg></figure>"
    )


def _position(axis: Axis, value: Any) -> float:
    """From 0 to 1 along the axis."""
    dimension = axis.dimension
    if isinstance(dimension, Choices):
        return (list(dimension.choices).index(value) + 0.5) / len(dimension.choices)
    low, high = dimension.low, dimension.high
    if dimension.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    dimension = axis.dimension
    if isinstance(dimension, Choices):
        return [(_position(axis, value), scalar(value)) for value in dimension.choices]
    suffix = " (log)" if dimension.log else ""
    return [(0.0, f"{dimension.low:.4g}"), (1.0, f"{dimension.high:.4g}{suffix}")]


def _span(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _x(share: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else json.dumps(value)
