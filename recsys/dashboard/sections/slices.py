"""The slices of a run, held against another run or against the best baseline."""

from pipelines.reports.format import Figures, Value, interval
from pipelines.reports.parts import Cell, Chart, Part, Section, Table, Text, shown
from recsys.dashboard.data.run_data import RunData
from recsys.dashboard.sections import figures
from recsys.evaluation.metrics import Measured
from recsys.evaluation.results import METHOD_TITLES, SHOWN, EvaluationResult

# What a slice of fewer pairs says is mostly chance.
_FEW_PAIRS = 30


def slices_section(run: RunData, against: RunData | None = None) -> Section:
    """A heat map of differences, and the figures by slice."""
    result = run.result
    if result is None:
        return Section("slices", "Slices", [Text("This run has no evaluation.")])
    parts: list[Part] = []
    if against is not None and against.result is not None:
        other, name = _groups(against.result), f"run {against.name}"
        if against.result.prepared_fingerprint != result.prepared_fingerprint:
            parts.append(
                Text(f"{name} was evaluated on other data: differences mix both.", is_warning=True)
            )
    else:
        best = _best_baseline(result)
        other = _groups(result.baselines[best])
        name = METHOD_TITLES[best]
    parts.append(_heat_map(_groups(result), other, name))
    parts.append(_figures(result))
    return Section("slices", "Slices", parts)


def _heat_map(ours: dict[str, Figures], theirs: dict[str, Figures], name: str) -> Chart:
    names, values, recalls = [], [], []
    largest = 0.0
    for group, found in ours.items():
        if group not in theirs:
            continue
        changes = [_change(found[m], theirs[group][m]) for m in SHOWN]
        count = found.get("count")
        is_small = isinstance(count, int) and count < _FEW_PAIRS
        names.append(f"{group} ({count:,})" if isinstance(count, int) else group)
        values.append(changes)
        if not is_small:
            known = [change for change in changes if change is not None]
            largest = max([largest, *map(abs, known)])
            recalls += [(changes[1], group)] if changes[1] is not None else []
    summary = (
        f"Metrics of this run minus those of {name}, and held-out pairs; above 0 this run is "
        f"better. Shades are scaled without slices of fewer than {_FEW_PAIRS} pairs."
    )
    if recalls:
        low, high = min(recalls), max(recalls)
        summary += f" Recall@50: {low[0]:+.3f} ({low[1]}) to {high[0]:+.3f} ({high[1]})."
    texts = [["-" if c is None else f"{c:+.3f}" for c in changes] for changes in values]
    numbers = [[row, *cells] for row, cells in zip(names, texts, strict=True)]
    figure = figures.heat_map(
        names, list(SHOWN.values()), values, texts=texts, is_signed=True, largest=largest
    )
    table = Table(f"This run minus {name}", ["Slice", *SHOWN.values()], numbers)
    return Chart(f"Difference to {name}", summary, figure, table, is_wide=True)


def _change(ours: Value, theirs: Value) -> float | None:
    return ours - theirs if isinstance(ours, float) and isinstance(theirs, float) else None


def _figures(result: EvaluationResult) -> Table:
    rows: list[list[Cell]] = []
    for group, found in _groups(result).items():
        count = found.get("count", result.counts["held_out"])
        cells = [f"{shown(found[m])} ({interval(found[f'{m}_ci'])})" for m in SHOWN]
        rows.append([group, shown(count), *cells])
    caption = "By slice, with 95 % intervals; pairs are of a query and an item to be found"
    return Table(caption, ["Slice", "Pairs", *SHOWN.values()], rows)


def _groups(measured: Measured) -> dict[str, Figures]:
    """By name: overall, by frequency, and further slices."""
    further = {
        f"{kind}: {name}": found
        for kind, parts in measured.by.items()
        for name, found in parts.items()
    }
    return {"overall": measured.overall, **measured.slices, **further}


def _best_baseline(result: EvaluationResult) -> str:
    """By Recall@50."""

    def recall(name: str) -> float:
        value = result.baselines[name].overall["recall@50"]
        return value if isinstance(value, float) else 0.0

    return max(result.baselines, key=recall)
