"""A map of the item vectors, coloured by features."""

from collections.abc import Sequence

from pipelines.reports.format import count_of
from pipelines.reports.parts import Chart, Part, Section, Text
from pipelines.reports.plots import Axis, Graph, Series
from recsys.reports.run.items import ItemTable
from recsys.reports.run.run_data import RunData

_MOST_FEATURES = 3


def map_section(run: RunData, features: Sequence[str] | None = None) -> Section:
    """Returns a projection of the item vectors, once for each feature.

    Args:
        run: Run to show.
        features: Features to colour by; None: the slice and the first few.
    """
    items = run.items
    if items is None or not items.positions.num_rows:
        text = "This run's evaluation kept no map of its items (evaluation.map_items)."
        return Section("map", "Item map", [Text(text)])
    chosen = ["slice", *items.features[:_MOST_FEATURES]] if features is None else features
    parts: list[Part] = [
        Text(
            f"{count_of(items.positions.num_rows, 'item')}; those with similar vectors lie "
            "together (t-SNE of the item tower's vectors). Look for groups of one colour: the "
            "vectors know that feature. Distances between far groups mean nothing. The command "
            "recsys dashboard zooms in, and colours by any feature."
        )
    ]
    return Section("map", "Item map", [*parts, *(_map(items, feature) for feature in chosen)])


def _map(items: ItemTable, feature: str) -> Chart:
    table = items.positions
    x, y = table["x"].to_pylist(), table["y"].to_pylist()
    titles, frequency = table["title"].to_pylist(), table["frequency"].to_pylist()
    values = table[feature if feature == "slice" else items.column(feature)].to_pylist()
    rows: dict[str, list[int]] = {}
    for at, value in enumerate(values):
        rows.setdefault(str(value), []).append(at)
    # Names in parentheses stand for the rest and for items without a value.
    ordered = sorted(rows.items(), key=lambda pair: (pair[0][0] == "(", -len(pair[1])))
    series = [
        Series(
            f"{name} ({len(of_group):,})",
            [(round(x[at], 3), round(y[at], 3)) for at in of_group],
            "points",
            [
                f"{titles[at]}\n{feature}: {name}\n{count_of(frequency[at], 'training event')}"
                for at in of_group
            ],
        )
        for name, of_group in ordered
    ]
    return Chart(
        f"Items by {feature}",
        f"Good are groups of one {feature} that lie together, and tail or cold items among the "
        "frequent ones that they are like. Look for a clump that only has rare items: the tower "
        "knows no more of them than that they are rare.",
        Graph(series, Axis(is_hidden=True), Axis(is_hidden=True), height=520),
        is_wide=True,
    )
