"""Curves of a training, diagnostics of its self-supervision, and its masks."""

from math import isfinite

from pipelines.reports.format import count_of
from pipelines.reports.parts import Chart, Entry, Part, Section, Table, Text
from pipelines.reports.plots import Axis, Bars, Graph, Heat, Mark, Series
from recsys.evaluation.results import SHOWN
from recsys.reports.run.run_data import Curves, Masks, RunData
from recsys.training.diagnostics import PREFIX

# Names beside losses and validation in the lines of a training.
_SPEEDS = ("step", "examples_per_second", "loader_wait")
_MOST_NUMBERS = 100
# Title, and what is good and what to look for; those that tell most come first.
_DIAGNOSTICS = {
    "effective_rank": (
        "Effective rank of the item vectors",
        "Higher is better: vectors use more directions. Look for a fall, which is a collapse.",
    ),
    "view_similarity": (
        "Cosine of an item's two views",
        "Good is a value below 1 that rises slowly. Near 1 from the start, masks hide too little "
        "to learn from.",
    ),
    "gradient_cosine": (
        "Cosine of the losses' gradients",
        "Above 0 the two losses help each other in the item tower, below 0 they work against each "
        "other: then lower ssl.alpha.",
    ),
    "alignment.positives": (
        "Alignment of queries and their items",
        "Lower is better: queries are closer to their items.",
    ),
    "uniformity.items": (
        "Uniformity of the item vectors",
        "Lower is better: vectors cover the sphere more evenly.",
    ),
    "uniformity.views": (
        "Uniformity of the views",
        "Lower is better: views of different items are apart.",
    ),
    "alignment.views": (
        "Alignment of an item's two views",
        "Lower is better, as long as the uniformity of the views does not rise.",
    ),
    "gradient_ratio": (
        "Length of the gradients, SSL over main",
        "Far below 1, self-supervision hardly matters; far above, it drowns the main loss.",
    ),
}
_FIRST = 3
_NOTE = "Measured at each validation, on the catalogue and on one batch with other masks each time."
_LOSSES = {"main": "Main loss", "ssl": "Self-supervised loss"}
_LOSS, _VALIDATED = "Lower is better.", "Higher is better."
_LOOK_FOR = (
    "Look for the step from which a loss falls no more, and whether the metrics of validation "
    "still rise at the end (train longer) or fell from their best (overfitting)."
)


def training_section(curves: Curves, best_step: int | None = None) -> Section:
    """Returns losses and validation metrics by step.

    Args:
        curves: Lines of the training's metrics.
        best_step: Step of the checkpoint that was kept; None where it is unknown.
    """
    names = _drawn(curves)
    others = ("validation.", PREFIX)
    losses = [name for name in names if name not in _SPEEDS and not name.startswith(others)]
    charts = [
        _curve(curves, name, _LOSSES.get(name, f"{name} loss"), _LOSS, best_step) for name in losses
    ]
    charts += [
        _curve(curves, f"validation.{name}", f"Validation {title}", _VALIDATED, best_step)
        for name, title in SHOWN.items()
        if f"validation.{name}" in names
    ]
    if not charts:
        return Section("training", "Training", [Text("This run has no training curves.")])
    note = _LOOK_FOR
    if best_step is not None:
        note = f"The dashed line is the checkpoint that was kept, step {best_step:,}. {note}"
    return Section("training", "Training", [Text(note), *charts])


def speed_parts(curves: Curves) -> list[Part]:
    """Returns the examples per second by step, where they are known."""
    name = "examples_per_second"
    if name not in _drawn(curves):
        return []
    note = "Higher is better. Look for dips, in which the training waited for its data."
    return [_curve(curves, name, "Examples per second", note)]


def diagnostics_sections(
    curves: Curves, masks: Masks | None, best_step: int | None = None
) -> list[Section]:
    """Returns the curves of diagnostics, and how often features were masked.

    Args:
        curves: Lines of the training's metrics.
        masks: Counts of masked features; None for a method without masks.
        best_step: Step of the checkpoint that was kept; None where it is unknown.
    """
    names = _drawn(curves)
    charts = [
        _curve(curves, f"{PREFIX}{name}", title, note, best_step)
        for name, (title, note) in _DIAGNOSTICS.items()
        if f"{PREFIX}{name}" in names
    ]
    sections = []
    if charts:
        parts: list[Part] = [Text(_NOTE), *charts[:_FIRST]]
        if more := charts[_FIRST:]:
            parts.append(Entry(count_of(len(more), "more chart"), more))
        sections.append(Section("vectors", "Vectors and gradients", parts))
    if masks is not None:
        steps = int(max((line.get("step") or 0 for line in curves), default=0))
        sections.append(Section("masks", "Masks", _masks(masks, steps)))
    return sections


def ssl_section(run: RunData) -> Section:
    """Returns the diagnostics of a run in one section."""
    method = run.config.get("ssl", {}).get("method")
    parts: list[Part] = [Text(f"Self-supervision of this run: {method or 'unknown'}.")]
    for section in diagnostics_sections(run.curves, run.masks):
        is_first = section.key == "vectors"
        parts += section.parts if is_first else [Entry(section.title, section.parts)]
    return Section("ssl", "Self-supervision", parts)


def _drawn(curves: Curves) -> dict[str, None]:
    """Returns names that have a finite value anywhere, in their order."""
    return dict.fromkeys(
        name
        for line in curves
        for name, value in line.items()
        if value is not None and isfinite(value)
    )


def _curve(curves: Curves, name: str, title: str, note: str, best_step: int | None = None) -> Chart:
    points = [
        (step, value)
        for line in curves
        if (step := line.get("step")) is not None
        and (value := line.get(name)) is not None
        and isfinite(value)
    ]
    rows = [[f"{step:,.0f}", f"{value:.5g}"] for step, value in points]
    is_within = best_step is not None and points[0][0] <= best_step <= points[-1][0]
    marks = [Mark("x", best_step, f"kept: step {best_step:,}")] if is_within and best_step else []
    return Chart(
        title,
        note,
        Graph([Series(title, points)], Axis("step"), Axis(), marks),
        Table(title, ["Step", title], rows) if len(rows) <= _MOST_NUMBERS else None,
    )


def _masks(masks: Masks, steps: int) -> list[Part]:
    together, names = masks.hidden_together_in_view_a, masks.features
    hidden = {name: together[at][at] for at, name in enumerate(names)}
    charts = [_steps("Steps in which view A hides a feature", hidden)]
    if masks.seeds is not None:
        seeds = dict(zip(names, masks.seeds, strict=True))
        charts.insert(0, _steps("Steps in which a feature is the seed", seeds))
    shares = [[value / max(1, steps) for value in row] for row in together]
    texts = [[f"{value:.2f}" for value in row] for row in shares]
    heat = Chart(
        "Features hidden together",
        "Share of the steps in which view A hides both features, and on the diagonal the feature "
        "of its row. Dark pairs tell the model the same, and are hidden together.",
        Heat(names, names, shares, texts, largest=1.0),
        is_wide=True,
    )
    note = f"Counts of each item feature over all {steps:,} steps of the training."
    return [Text(note), *charts, heat]


def _steps(title: str, counts: dict[str, int]) -> Chart:
    return Chart(
        title,
        "Good is a length that is much the same for all. Look for a feature that is never among "
        "them: the views always tell it.",
        Bars(list(counts), {"steps": list(map(float, counts.values()))}, "steps", spec=",.0f"),
    )
