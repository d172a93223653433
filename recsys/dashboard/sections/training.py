"""How a training went, and what its self-supervision did."""

from pipelines.reports.parts import Chart, Part, Section, Table, Text
from recsys.dashboard.data.run_data import Curves, Masks, RunData
from recsys.dashboard.sections import figures
from recsys.evaluation.results import SHOWN
from recsys.reports.diagnostics import TITLES
from recsys.training.diagnostics import PREFIX

# Of the training's lines, beside losses and validation.
_SPEEDS = ("step", "examples_per_second", "loader_wait")


def training_section(run: RunData) -> Section:
    """Losses and validation by step."""
    names = _drawn(run.curves)
    apart = ("validation.", PREFIX)
    losses = [name for name in names if name not in _SPEEDS and not name.startswith(apart)]
    parts: list[Part] = [
        _curve(run.curves, f"validation.{name}", f"Validation {title}")
        for name, title in SHOWN.items()
        if f"validation.{name}" in names
    ]
    parts += [_curve(run.curves, name, f"{name} loss") for name in losses]
    if "examples_per_second" in names:
        parts.append(_curve(run.curves, "examples_per_second", "Examples per second"))
    if not parts:
        parts.append(Text("This run has no training curves."))
    return Section("training", "Training", parts)


def ssl_section(run: RunData) -> Section:
    """Diagnostics of vectors and gradients, and what was masked."""
    names = _drawn(run.curves)
    parts: list[Part] = [
        _curve(run.curves, f"{PREFIX}{name}", title)
        for name, title in TITLES.items()
        if f"{PREFIX}{name}" in names
    ]
    if run.masks is not None:
        parts += _masks(run.masks)
    method = run.config.get("ssl", {}).get("method")
    parts.insert(0, Text(f"Self-supervision of this run: {method or 'unknown'}."))
    return Section("ssl", "Self-supervision", parts)


def _drawn(curves: Curves) -> dict[str, None]:
    """Names that have a value anywhere, in their order."""
    return dict.fromkeys(n for line in curves for n, value in line.items() if value is not None)


def _curve(curves: Curves, name: str, title: str) -> Chart:
    points = [
        (step, value)
        for line in curves
        if (step := line.get("step")) is not None and (value := line.get(name)) is not None
    ]
    values = [value for _, value in points]
    rows = [[f"{step:,.0f}", f"{value:.5g}"] for step, value in points]
    return Chart(
        title,
        f"{title}: {values[0]:.4g} at step {points[0][0]:,.0f}, {values[-1]:.4g} at step "
        f"{points[-1][0]:,.0f}, lowest {min(values):.4g}, highest {max(values):.4g}.",
        figures.lines({title: points}, x="step", y=""),
        Table(title, ["Step", title], rows) if len(rows) <= 100 else None,
    )


def _masks(masks: Masks) -> list[Part]:
    together = masks.hidden_together_in_view_a
    hidden = {name: float(together[at][at]) for at, name in enumerate(masks.features)}
    counts = {"hidden in view A": hidden}
    if masks.seeds is not None:
        counts = {
            "seed": dict(zip(masks.features, map(float, masks.seeds), strict=True)),
            **counts,
        }
    rows = [[name, *(f"{c[name]:,.0f}" for c in counts.values())] for name in masks.features]
    most = max((max(row) for row in together), default=0) or 1
    texts = [[f"{value:,}" for value in row] for row in together]
    numbers = [[name, *row] for name, row in zip(masks.features, texts, strict=True)]
    return [
        Chart(
            "Steps in which a feature was the seed, or hidden",
            ", ".join(f"{name}: hidden in {value:,.0f} steps" for name, value in hidden.items()),
            figures.bars(counts, x="", y="steps"),
            Table("Steps", ["Feature", *counts], rows),
        ),
        Chart(
            "Features hidden together in view A",
            "In how many steps both features of a row and a column were hidden in view A.",
            figures.heat_map(
                masks.features,
                masks.features,
                [[value / most for value in row] for row in together],
                texts=texts,
                is_signed=False,
            ),
            Table("Steps in which both are hidden", ["Feature", *masks.features], numbers),
        ),
    ]
