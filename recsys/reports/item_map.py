"""A map of the item vectors, coloured by features, on which items are looked up."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Ints
from pipelines.reports.format import count_of
from pipelines.reports.parts import Chart, Part, Section, Text
from pipelines.reports.plots import Axis, Graph, Series
from recsys.evaluation.metrics import Doubles
from recsys.reports.run.items import ItemTable
from recsys.reports.run.run_data import RunData

SLICE, FREQUENCY = "slice", "training events"
_MOST_FEATURES = 3
_LOOK_FOR = {
    SLICE: "Look for tail and cold items among the frequent ones that they are like.",
    FREQUENCY: "Look for rare items beside frequent ones that they are like.",
}
# Quantiles between which colours differ: a few items far away would make all others alike.
_ENDS = (0.1, 0.9)
# Ratio of the ends from which on colours are of ratios.
_WIDE = 100


def map_section(
    run: RunData, features: Sequence[str] | None = None, search: str | None = None
) -> Section:
    """Returns a projection of the item vectors, once for each feature.

    Args:
        run: Run to show.
        features: Features to colour by, of `colours_of`; None: the most telling ones, the slice and
            the training events.
        search: Text of the titles or the id of the items to mark; None: none are.
    """
    items = run.items
    if items is None or not items.positions.num_rows:
        text = "This run's evaluation kept no map of its items (evaluation.map_items)."
        return Section("map", "Item map", [Text(text)])
    chosen = [*items.features[:_MOST_FEATURES], SLICE, FREQUENCY] if features is None else features
    parts: list[Part] = [
        Text(
            f"{count_of(items.positions.num_rows, 'item')}; those with similar vectors lie "
            "together (t-SNE of the item tower's vectors). Distances between far groups mean "
            "nothing. Of a clump that only has rare items the tower knows no more than that. "
            f"{_most_telling(items)}"
            "In the dashboard, a click on an item leads to the items most like it."
        )
    ]
    return Section("map", "Item map", [*parts, *(_map(items, each, search) for each in chosen)])


def colours_of(items: ItemTable) -> list[str]:
    """Returns what a map can be coloured by, the most telling feature first."""
    return [*items.features, SLICE, FREQUENCY]


def _most_telling(items: ItemTable) -> str:
    told = items.information
    if not items.features or items.features[0] not in told:
        return ""
    named = [f"{name} ({told[name]:.2f})" for name in items.features[:_MOST_FEATURES]]
    return (
        "What tells most of the vectors' clusters, from 0 for chance to 1 (adjusted mutual "
        f"information): {', '.join(named)}. "
    )


def _map(items: ItemTable, feature: str, search: str | None) -> Chart:
    table = items.positions
    if feature == FREQUENCY:
        column = pc.max_element_wise(table["frequency"], 1)
    else:
        column = table[SLICE if feature == SLICE else items.column(feature)]
    is_date = pa.types.is_timestamp(column.type)
    is_number = is_date or pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    colours = None
    if is_number:
        numbers = pc.divide(pc.cast(column, pa.int64()), 1_000_000) if is_date else column
        values = pc.fill_null(pc.cast(numbers, pa.float64()), np.nan).to_numpy()
        colours = _colour_axis(feature, values, is_date=is_date)
        series = _by_number(items, feature, values, is_date=is_date)
    else:
        series = _by_name(items, feature, column)
    found = _found(items, search)
    if len(found):
        rings = _points(items, f"found ({len(found):,})", found, [f"found: {search}"] * len(found))
        series.append(replace(rings, kind="rings"))
    return Chart(
        f"Items by {feature}",
        _LOOK_FOR.get(
            feature, f"Look for items of like {feature} side by side: the vectors know it."
        ),
        Graph(series, Axis(is_hidden=True), Axis(is_hidden=True), height=520, colours=colours),
        is_wide=True,
    )


def _by_name(items: ItemTable, feature: str, column: pa.ChunkedArray) -> list[Series]:
    """Returns a series for each value; those in parentheses, of the rest and of none, come last."""
    rows: dict[str, list[int]] = {}
    for at, value in enumerate(column.to_pylist()):
        rows.setdefault(str(value), []).append(at)
    ordered = sorted(rows.items(), key=lambda pair: (pair[0][0] == "(", -len(pair[1])))
    return [
        _points(items, f"{name} ({len(at):,})", np.array(at), [f"{feature}: {name}"] * len(at))
        for name, at in ordered
    ]


def _by_number(items: ItemTable, feature: str, values: Doubles, *, is_date: bool) -> list[Series]:
    """Returns the items without a value, and above them those that have one, by their colours."""
    is_known = np.isfinite(values)
    known, others = np.flatnonzero(is_known), np.flatnonzero(~is_known)
    spec = ".0f" if _are_years(values[known]) else ",.6g"
    texts = [
        ""  # A point says its training events anyhow.
        if feature == FREQUENCY
        else f"{feature}: {np.datetime64(int(v), 's').astype('datetime64[D]')}"
        if is_date
        else f"{feature}: {v:{spec}}"
        for v in values[known]
    ]
    shaded = _points(items, "", known, texts, values[known].tolist())
    if not len(others):
        return [shaded]
    none = [f"{feature}: no value"] * len(others)
    return [_points(items, f"no value ({len(others):,})", others, none, is_grey=True), shaded]


def _points(
    items: ItemTable,
    name: str,
    rows: Ints,
    texts: Sequence[str],
    values: Sequence[float] = (),
    *,
    is_grey: bool = False,
) -> Series:
    table = items.positions.take(pa.array(rows)).to_pydict()
    labels = [
        "\n".join(filter(None, [title, text, count_of(frequency, "training event")]))
        for title, text, frequency in zip(table["title"], texts, table["frequency"], strict=True)
    ]
    points = [(round(x, 3), round(y, 3)) for x, y in zip(table["x"], table["y"], strict=True)]
    return Series(
        name,
        points,
        "points",
        labels,
        faint=[is_grey] * len(points),
        values=values,
        keys=table["item_id"],
    )


def _found(items: ItemTable, search: str | None) -> Ints:
    """Returns the rows of the items whose title holds a text, or whose id it is."""
    if not search:
        return np.zeros(0, np.int64)
    table = items.positions
    holds = pc.match_substring(table["title"], search, ignore_case=True)
    is_found = pc.or_(pc.fill_null(holds, False), pc.equal(table["item_id"], search))
    return np.flatnonzero(is_found.to_numpy())


def _colour_axis(feature: str, values: Doubles, *, is_date: bool) -> Axis:
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, _ENDS).tolist() if len(known) else (0.0, 1.0)
    if is_date:
        return Axis(feature, scale="time", bounds=(low, high))
    if low > 0 and high / low >= _WIDE:
        return Axis(feature, scale="log", bounds=(low, high))
    return Axis(feature, bounds=(low, high), spec=".0f" if _are_years(known) else "")


def _are_years(values: Doubles) -> bool:
    """Tells whether numbers look like years, which have no separators."""
    if not len(values) or (values != np.rint(values)).any():
        return False
    low, high = np.quantile(values, _ENDS)
    return bool(low >= 1000 and high < 10_000)
