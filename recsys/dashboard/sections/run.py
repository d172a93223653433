"""What there is to see of one run, section by section."""

from collections.abc import Callable, Sequence
from html import escape

from pipelines.reports.format import Value, interval
from pipelines.reports.parts import Cell, Chart, Part, Section, Table, Text, shown
from recsys.dashboard.data.run_data import RunData
from recsys.dashboard.sections import figures
from recsys.dashboard.sections.data import data_section
from recsys.dashboard.sections.lookup import examples_section, similar_section
from recsys.dashboard.sections.slices import slices_section
from recsys.dashboard.sections.training import ssl_section, training_section
from recsys.evaluation.long_tail import FrequencyBin
from recsys.evaluation.results import METHOD_TITLES, MODEL, SHOWN, EvaluationResult

_NO_EVALUATION = Text("This run has no evaluation: run `recsys evaluate` on its configuration.")
_MOST_FEATURES = 3


def results_section(run: RunData) -> Section:
    """The model beside its baselines."""
    result = run.result
    if result is None:
        return Section("results", "Results", [_NO_EVALUATION])
    counts = result.counts
    parts: list[Part] = [Text(text, is_warning=True) for text in result.warnings()]
    parts.append(
        Text(
            f"{counts['items']:,} items ranked for {counts['queries']:,} queries of the test split "
            f"({result.split}), {counts['held_out']:,} items to find."
        )
    )
    parts.append(_methods(result))
    series = {
        METHOD_TITLES[name]: {title: _known(method.overall[m]) for m, title in SHOWN.items()}
        for name, method in result.methods.items()
        if name != "random"
    }
    best = max(
        result.baselines, key=lambda n: _known(result.baselines[n].overall["recall@50"]) or 0
    )
    parts.append(
        Chart(
            "The model and its baselines",
            f"Recall@50 of the model is {shown(result.overall['recall@50'])}, that of the best "
            f"baseline, {METHOD_TITLES[best]}, "
            f"{shown(result.baselines[best].overall['recall@50'])}.",
            figures.bars(series, x="", y="mean over queries"),
            is_wide=True,
        )
    )
    if result.lists:
        parts.append(_lists(result))
    return Section("results", "Results", parts)


def _methods(result: EvaluationResult) -> Table:
    rows: list[list[Cell]] = []
    for name, method in result.methods.items():
        figures_of = method.overall
        rows.append(
            [
                METHOD_TITLES[name],
                *(f"{shown(figures_of[m])} ({interval(figures_of[f'{m}_ci'])})" for m in SHOWN),
            ]
        )
    caption = "Means over queries, with 95 % intervals of a bootstrap over queries"
    return Table(caption, ["Method", *SHOWN.values()], rows)


def _lists(result: EvaluationResult) -> Table:
    methods = result.methods
    rows = [
        [
            name.replace("_", " ").capitalize(),
            *(shown(method.lists.get(name)) for method in methods.values()),
        ]
        for name in result.lists
    ]
    headings = [METHOD_TITLES[name] for name in methods]
    caption = "What the lists are like, whether or not they are right"
    return Table(caption, ["Measure", *headings], rows)


def tail_section(run: RunData, against: RunData | None = None) -> Section:
    """Recall and exposure by how often training has seen items."""
    result = run.result
    if result is None or not result.long_tail:
        return Section("tail", "Long tail", [_NO_EVALUATION])
    bins = [each for each in result.long_tail if each.pairs]
    methods = [m for m in result.methods if m != "random"]
    recall = {METHOD_TITLES[m]: {_events(b): b.recall.get(m) for b in bins} for m in methods}
    if against is not None and against.result is not None:
        other = {_events(b): b.recall.get(MODEL) for b in against.result.long_tail}
        recall[f"run {against.name}"] = {_events(b): other.get(_events(b)) for b in bins}
    rows = [
        [
            _events(b),
            f"{b.items:,}",
            f"{b.pairs:,}",
            *(shown(values[_events(b)]) for values in recall.values()),
        ]
        for b in bins
    ]
    curves = {name: list(values.items()) for name, values in recall.items()}
    chart = Chart(
        "Recall@50 by training events of an item",
        "How large a share of held-out pairs is found, from items that training never saw on the "
        "left to the most frequent ones on the right. "
        + ", ".join(f"{_events(b)}: {shown(b.recall[MODEL])}" for b in bins)
        + ".",
        figures.lines(curves, x="training events of the item", y="Recall@50"),
        Table("Recall@50 of held-out pairs", ["Events", "Items", "Pairs", *recall], rows),
        is_wide=True,
    )
    chart.figure["layout"]["xaxis"]["type"] = "category"
    return Section("tail", "Long tail", [chart, _exposure(result)])


def _exposure(result: EvaluationResult) -> Chart:
    bins = result.long_tail
    items, pairs = sum(b.items for b in bins) or 1, sum(b.pairs for b in bins) or 1
    series = {
        "items": {_events(b): b.items / items for b in bins},
        "held-out pairs": {_events(b): b.pairs / pairs for b in bins},
        "the model's lists": {_events(b): b.shown[MODEL] for b in bins},
        "popularity's lists": {_events(b): b.shown["popularity"] for b in bins},
    }
    rows = [
        [_events(b), *(f"{values[_events(b)]:.1%}" for values in series.values())] for b in bins
    ]
    return Chart(
        "Who is shown: shares by training events of an item",
        "The share of items, of what was to be found, and of the first 50 places of all lists.",
        figures.bars(series, x="training events of the item", y="share"),
        Table("Shares", ["Events", *series], rows),
        is_wide=True,
    )


def map_section(run: RunData, features: Sequence[str] | None = None) -> Section:
    """A projection of the item vectors, coloured by features."""
    items = run.items
    if items is None or not items.places.num_rows:
        text = "This run's evaluation kept no map of its items (evaluation.map_items)."
        return Section("map", "Item map", [Text(text)])
    chosen = ["slice", *items.features[:_MOST_FEATURES]] if features is None else features
    table = items.places
    x, y = table["x"].to_pylist(), table["y"].to_pylist()
    titles, frequency = table["title"].to_pylist(), table["frequency"].to_pylist()
    parts: list[Part] = [
        Text(
            f"{table.num_rows:,} items; those with similar vectors lie together (t-SNE of the item "
            "tower's vectors). Distances between far groups mean nothing."
        )
    ]
    for feature in chosen:
        values = table[feature if feature == "slice" else items.column(feature)].to_pylist()
        groups: dict[str, list[tuple[float, float, str]]] = {}
        for at, value in enumerate(values):
            title = escape(f"{titles[at]}\n{feature}: {value}\n", quote=False)
            label = f"{title}{frequency[at]:,} training events".replace("\n", "<br>")
            groups.setdefault(str(value), []).append((x[at], y[at], label))
        ordered = dict(sorted(groups.items(), key=lambda pair: (pair[0][0] == "(", -len(pair[1]))))
        parts.append(
            Chart(
                f"Items by {feature}",
                f"A map of item vectors, by {feature}: "
                + ", ".join(f"{name} {len(points):,}" for name, points in ordered.items()),
                figures.scatter(ordered),
                is_wide=True,
            )
        )
    return Section("map", "Item map", parts)


# Of each section its key, its title, and how it is made of a run.
SECTIONS: dict[str, tuple[str, Callable[[RunData], Section]]] = {
    "results": ("Results", results_section),
    "slices": ("Slices", slices_section),
    "tail": ("Long tail", tail_section),
    "training": ("Training", training_section),
    "ssl": ("Self-supervision", ssl_section),
    "map": ("Item map", map_section),
    "examples": ("Recommendations", examples_section),
    "similar": ("Similar items", similar_section),
    "data": ("Data and drift", data_section),
}


def _known(value: Value) -> float | None:
    return value if isinstance(value, float) else None


def _events(found: FrequencyBin) -> str:
    """Training events of the items of a bin, such as `4-7`."""
    return f"{found.low}" if found.low == found.high else f"{found.low}-{found.high}"
