"""The slices of a run, held against another run or against the best baseline."""

from pipelines.reports.format import Figures, Value, number
from pipelines.reports.parts import Band, Cell, Chart, Part, Row, Section, Table, Text
from pipelines.reports.plots import Bars, Heat
from recsys.evaluation.metrics import Measured
from recsys.evaluation.results import METHOD_TITLES, MODEL, SHOWN, EvaluationResult
from recsys.evaluation.rivals import FEW_PAIRS
from recsys.reports.results import NO_EVALUATION, best_baseline, known, metric_cells
from recsys.reports.run.run_data import RunData

_COMPARED = "recall@50"
_TITLES = {"history_length": "Length of the query's history", "item_age": "Age of the item"}


def slices_section(run: RunData, against: RunData | None = None) -> Section:
    """Returns differences to another run or baseline, and the figures of all methods by slice.

    Args:
        run: Run to show.
        against: Run to hold it against; None: the best baseline.
    """
    result = run.result
    if result is None:
        return Section("slices", "Slices", [NO_EVALUATION])
    parts: list[Part] = []
    if against is not None and against.result is not None:
        other, name = _groups(against.result), f"run {against.name}"
        if against.result.prepared_fingerprint != result.prepared_fingerprint:
            text = f"{name} was evaluated on other data: differences mix both."
            if against.result.repeats != result.repeats:
                text = (
                    f"{name} was evaluated with data.repeats: {against.result.repeats}, this one "
                    f"with {result.repeats}: they rank other items, and differences say nothing."
                )
            parts.append(Text(text, "warning"))
    else:
        best = best_baseline(result)
        other, name = _groups(result.baselines[best]), METHOD_TITLES[best]
    parts.append(_differences(_groups(result), other, name))
    parts += [_bars(result, metric) for metric in ("recall@10", "recall@50")]
    parts.append(_table(result))
    parts += [_further(result, kind) for kind in result.by]
    return Section("slices", "Slices", parts)


def _differences(ours: dict[str, Figures], theirs: dict[str, Figures], name: str) -> Chart:
    names, values, recalls, largest = [], [], [], 0.0
    for group, figures in ours.items():
        if group not in theirs:
            continue
        changes = [_change(figures[m], theirs[group][m]) for m in SHOWN]
        count = figures.get("count")
        is_small = isinstance(count, int) and count < FEW_PAIRS
        names.append(f"{group} ({count:,})" if isinstance(count, int) else group)
        values.append(changes)
        if not is_small:
            largest = max([largest, *(abs(change) for change in changes if change is not None)])
            recalls += [(changes[1], group)] if changes[1] is not None else []
    summary = (
        f"Metrics of this run minus those of {name}, with the number of held-out pairs; above 0 "
        f"this run is better. Shades are scaled without slices of fewer than {FEW_PAIRS} pairs, "
        "where differences are mostly chance."
    )
    if recalls:
        low, high = min(recalls), max(recalls)
        summary += f" Recall@50: {low[0]:+.3f} ({low[1]}) to {high[0]:+.3f} ({high[1]})."
    texts = [["-" if c is None else f"{c:+.3f}" for c in changes] for changes in values]
    plot = Heat(names, list(SHOWN.values()), values, texts, largest=largest)
    return Chart(f"Difference to {name}", summary, plot, is_wide=True)


def _bars(result: EvaluationResult, metric: str) -> Chart:
    """Returns a bar for each method in each group that has anything to find."""
    groups = {name: group for name, group in result.groups().items() if result.pairs(name)}
    series = {
        METHOD_TITLES[method]: [known(group[method][metric]) for group in groups.values()]
        for method in result.compared
    }
    names = [f"{name} ({result.pairs(name):,} held out)" for name in groups]
    return Chart(
        f"{SHOWN[metric]} by slice",
        "Look at tail and cold: popularity finds nothing there. Few held-out pairs say little.",
        Bars(names, series, title=SHOWN[metric]),
    )


def _table(result: EvaluationResult) -> Table:
    rows: list[Row | Band] = []
    for group, methods in result.groups().items():
        if not result.pairs(group):
            rows.append(Band(group, "nothing held out"))
            continue
        rows.append(Band(group, f"{result.pairs(group):,} held out"))
        rows += [
            Row([METHOD_TITLES[name], *metric_cells(figures, list(SHOWN))], is_strong=name == MODEL)
            for name, figures in methods.items()
        ]
    return Table(
        "Metrics by slice",
        ["Method", *SHOWN.values()],
        rows,
        note="Slices are by the item's training events: cold 0, tail 1 to 5, torso to the 80th "
        "percentile of the trained items, head the rest. Recall is the share of the slice's "
        "held-out items that are found; NDCG and MAP are means over the queries that have any.",
    )


def _further(result: EvaluationResult, kind: str) -> Table:
    others = [name for name in result.baselines if name != "random"]
    rows = []
    for value, figures in result.by[kind].items():
        compared = [result.baselines[name].by[kind][value][_COMPARED] for name in others]
        head = Cell(value, [f"{figures['count']:,} held out"])
        rows.append([head, *metric_cells(figures, list(SHOWN)), *map(number, compared)])
    heads = [f"{SHOWN[_COMPARED]} of {METHOD_TITLES[name]}" for name in others]
    return Table(
        _TITLES.get(kind, kind),
        ["Slice", *(f"{title} of this model" for title in SHOWN.values()), *heads],
        rows,
        note="Recall of a slice of items is the share of its held-out items that are found; slices "
        "of queries are measured as all are. An item or a query may be in several.",
        own=range(1, 1 + len(SHOWN)),
    )


def _change(ours: Value, theirs: Value) -> float | None:
    return ours - theirs if isinstance(ours, float) and isinstance(theirs, float) else None


def _groups(measured: Measured) -> dict[str, Figures]:
    """Returns figures by name: overall, by frequency, and by further slices."""
    further = {
        f"{kind}: {name}": figures
        for kind, parts in measured.by.items()
        for name, figures in parts.items()
    }
    return {"overall": measured.overall, **measured.slices, **further}
