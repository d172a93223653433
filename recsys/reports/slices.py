"""The slices of a run, held against another run or against the best baseline."""

from collections.abc import Mapping
from dataclasses import replace

from pipelines.reports.format import Figures, Value, as_sentence, number
from pipelines.reports.parts import Band, Cell, Chart, Entry, Part, Row, Section, Table, Text
from pipelines.reports.plots import Bars, Heat
from recsys.evaluation.metrics import Measured
from recsys.evaluation.results import METHOD_TITLES, MODEL, SHOWN, EvaluationResult
from recsys.evaluation.rivals import FEW_PAIRS
from recsys.reports.results import (
    MOST_CERTAIN,
    NO_EVALUATION,
    best_baseline,
    certainty,
    known,
    metric_cells,
    spread,
)
from recsys.reports.run.run_data import RunData

# P-values by group and metric; None of a group with few pairs.
Tests = Mapping[tuple[str, str], float | None]
_KINDS = {"history_length": "length of the history", "item_age": "age of the item"}


def slices_section(
    run: RunData, against: RunData | None = None, tests: Tests | None = None
) -> Section:
    """Returns differences to another run or baseline, and the figures of all methods by slice.

    Args:
        run: Run to show.
        against: Run to hold it against; None: the best baseline.
        tests: P-values of the differences to that run; None: they were not tested.
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
        parts += _other_bounds(result, against.result, name)
    else:
        best = best_baseline(result)
        name = METHOD_TITLES[best]
        tests = {(e.group, e.metric): e.p for e in result.standings if e.method == best}
        tested = {group for group, _ in tests} or set(result.groups())
        other = {g: each for g, each in _groups(result.baselines[best]).items() if g in tested}
    parts.append(_differences(_groups(result), other, name, tests or {}))
    parts += [_bars(result, metric) for metric in ("recall@10", "recall@50")]
    parts.append(Entry("All methods and metrics, by slice", [_table(result)]))
    parts += [_further(result, kind) for kind in result.by]
    return Section("slices", "Slices", parts)


def _other_bounds(ours: EvaluationResult, theirs: EvaluationResult, name: str) -> list[Part]:
    """Returns a warning where another run was evaluated with other bounds of the slices."""
    mine, others = ours.slice_bounds, theirs.slice_bounds
    if mine is None or others is None or mine.ranges() == others.ranges():
        return []
    text = (
        f"Slices of this run are {mine.ranges()}, those of {name} {others.ranges()}: the same name "
        "is not the same items."
    )
    return [Text(text, "warning")]


def _differences(
    ours: dict[str, Figures], theirs: dict[str, Figures], name: str, tests: Tests
) -> Chart:
    """Returns a heat map of what was tested, shaded by p, for a small difference may be sure."""
    names, values, texts, faint = [], [], [], []
    metrics = [
        each for each in SHOWN if any(p is not None and m == each for (_, m), p in tests.items())
    ]
    metrics = metrics or list(SHOWN)
    for group, figures in ours.items():
        if group not in theirs:
            continue
        changes = [_change(figures[metric], theirs[group][metric]) for metric in metrics]
        p = [tests.get((group, metric)) for metric in metrics]
        count = figures.get("count")
        names.append(f"{group} ({count:,})" if isinstance(count, int) else group)
        values.append([certainty(each, c or 0.0) for each, c in zip(p, changes, strict=True)])
        marks = ["" if not value else " ▲" if value > 0 else " ▼" for value in values[-1]]
        pairs = zip(changes, marks, strict=True)
        texts.append(["-" if c is None else f"{c:+.3f}{mark}" for c, mark in pairs])
        faint.append([each is None for each in p])
    summary = (
        f"Metrics of this run minus those of {name}, with the number of held-out pairs. ▲: this "
        "run is significantly better, ▼: worse; the darker, the surer. White: chance may explain "
        "it. Tests against a baseline are each by itself; the verdict above corrects for their "
        f"number. Grey: not tested, or fewer than {FEW_PAIRS} pairs. Look for ▼ in the tail."
    )
    columns = [SHOWN[metric] for metric in metrics]
    plot = Heat(names, columns, values, texts, largest=MOST_CERTAIN, faint=faint)
    return Chart(f"Difference to {name}", summary, plot, is_wide=True)


def _bars(result: EvaluationResult, metric: str) -> Chart:
    """Returns a bar for each method in each group that has anything to find."""
    groups = {name: group for name, group in result.groups().items() if result.pairs(name)}
    # As in the other charts, so that a method has one colour on the page.
    methods = [method for method in result.compared if method != "random"]
    series = {
        METHOD_TITLES[method]: [known(group[method][metric]) for group in groups.values()]
        for method in methods
    }
    bounds = {
        METHOD_TITLES[method]: [spread(group[method][f"{metric}_ci"]) for group in groups.values()]
        for method in methods
    }
    names = [f"{name} ({result.pairs(name):,} held out)" for name in groups]
    few = [result.pairs(name) < FEW_PAIRS for name in groups]
    return Chart(
        f"{SHOWN[metric]} by slice",
        "Longer is better; whiskers are 95 % intervals. Look at tail and cold, where popularity "
        f"finds nothing. Grey: fewer than {FEW_PAIRS} held-out pairs, which allow no conclusion.",
        Bars(names, series, title=SHOWN[metric], bounds=bounds, faint=few),
    )


def _table(result: EvaluationResult) -> Table:
    bounds = (
        "" if result.slice_bounds is None else f"{as_sentence(result.slice_bounds.sentence())} "
    )
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
        note=f"{bounds}Recall is the share of the slice's held-out items that are found; NDCG and "
        "MAP are means over the queries that have any.",
    )


def _further(result: EvaluationResult, kind: str) -> Table:
    """Returns a metric of all methods; the other metrics are in the heat map of differences."""
    others = [name for name in result.baselines if name != "random"]
    rows = []
    for value, figures in result.by[kind].items():
        compared = [result.baselines[name].by[kind][value][result.judged_by] for name in others]
        head = Cell(value, [f"{figures['count']:,} held out"])
        (own,) = metric_cells(figures, [result.judged_by])
        cells = [own, *(Cell(number(each)) for each in compared)]
        if isinstance(count := figures["count"], int) and count < FEW_PAIRS:
            cells = [replace(cell, tone="soft") for cell in cells]
        rows.append([head, *cells])
    return Table(
        f"{SHOWN[result.judged_by]} by {_KINDS.get(kind, kind)}",
        ["Slice", *(METHOD_TITLES[name] for name in (MODEL, *others))],
        rows,
        note="Recall of a slice of items is the share of its held-out items that are found; slices "
        "of queries are measured as all are. An item or a query may be in several. These slices "
        "are not tested against the baselines: a baseline within this model's 95 % interval may "
        f"differ by chance. Grey: fewer than {FEW_PAIRS} held-out pairs.",
        own=[1],
    )


def _change(ours: Value, theirs: Value) -> float | None:
    return ours - theirs if isinstance(ours, float) and isinstance(theirs, float) else None


def _groups(measured: Measured) -> dict[str, Figures]:
    """Returns figures by name: overall, by frequency, and by further slices."""
    further = {
        f"{_KINDS.get(kind, kind)}: {name}": figures
        for kind, parts in measured.by.items()
        for name, figures in parts.items()
    }
    return {"overall": measured.overall, **measured.slices, **further}
