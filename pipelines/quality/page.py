"""The quality report as a page; the dashboard shows the same sections of a run."""

from collections.abc import Iterable, Sequence

import numpy as np

from pipelines.logs.left_out import LEFT_OUT, faults
from pipelines.quality.checks import drift_sentence, quality_checks, quality_verdict
from pipelines.quality.columns import columns_table, share_cell
from pipelines.quality.coverage import Coverage
from pipelines.quality.drift import MIN_ROWS, THRESHOLDS, Drift
from pipelines.quality.quality import Activity, Quality
from pipelines.reports.format import as_sentence, count_of
from pipelines.reports.opening import Checks
from pipelines.reports.parts import (
    Cell,
    Cells,
    Chart,
    Entry,
    Facts,
    Page,
    Part,
    Section,
    Table,
    Text,
    Tone,
)
from pipelines.reports.plots import Axis, Graph, Series
from pipelines.statistics.popularity import Popularity

_UNITS = {"h": "hour", "D": "day", "M": "month", "Y": "year", "1000Y": "millennium"}
_TONES: dict[str, Tone] = {"stable": "good", "shifted": "warn", "large shift": "bad"}


def quality_page(quality: Quality) -> Page:
    """Returns the whole report."""
    return Page(
        title="Quality of the log",
        query=quality.query,
        lead=f"Prepared as of {_minute(quality.as_of)} UTC",
        sections=quality_sections(quality),
        warnings=quality_warnings(quality),
        opening=[quality_verdict(quality), Checks(quality_checks(quality))],
    )


def quality_warnings(quality: Quality) -> list[Text]:
    """Returns the worst shift, where there is a large one."""
    large = [each for each in quality.shifts if each.verdict == "large shift"]
    if not large:
        return []
    more = f", and {len(large) - 1} more" if len(large) > 1 else ""
    text = f"Large shift since the run before: {large[0].name}: {large[0].sentence}{more}."
    return [Text(text, "warning", see=("See Drift", "drift"))]


def quality_sections(quality: Quality) -> list[Section]:
    """Returns what was read and kept, what changed, and what the data are like."""
    return [
        Section("rows", "Rows", _rows(quality)),
        *([] if quality.compared_with is None else [Section("drift", "Drift", _drift(quality))]),
        Section("time", "Time", [_time(quality.activity)]),
        Section("popularity", "Popularity", _popularity(quality)),
        Section("coverage", "Features", [_coverage(quality.coverage)]),
        *(
            Section(f"columns-{table.name}", f"Columns of {table.name}", [columns_table(table)])
            for table in quality.tables
        ),
    ]


def share_of(popularity: Popularity, rows: float) -> float:
    """Returns the share of the events that the most popular share of the rows has."""
    ranks, shares = zip(*popularity.curve, strict=True)
    return float(np.interp(rows, ranks, shares))


def _rows(quality: Quality) -> list[Part]:
    events = quality.tables[0]
    cold = quality.slices["cold"].items
    rejected = sum(faults(events.rejected).values())
    chosen = sum(events.rejected.values()) - rejected
    figures = [
        ("Events kept", f"{events.kept:,}"),
        ("Events rejected", f"{_share(rejected, events.read):.2%}"),
        *([("Events left out as configured", f"{chosen:,}")] if chosen else []),
        ("Items", f"{quality.items.rows:,}"),
        ("Cold items", f"{_share(cold, quality.items.rows):.1%}"),
        ("Queries", f"{quality.queries.rows:,}"),
    ]
    times = [
        ("First event (UTC)", quality.first_event),
        ("Last event (UTC)", quality.last_event),
    ]
    known = [(name, _minute(time)) for name, time in times if time is not None]
    rows = []
    for each in quality.tables:
        out = sum(each.rejected.values())
        rows.append([each.name, "", f"{each.read:,}", f"{each.kept:,}", f"{out:,}"])
        rows += [
            [
                "",
                f"{_word(reason)}: {reason}",
                "",
                "",
                f"{count:,}",
            ]
            for reason, count in each.rejected.items()
        ]
    table = Table(
        "Rows of the tables",
        ["Table", "Reason", "Read", "Kept", "Not kept"],
        rows,
        note="Cold items have no training event. Rows that are not kept lie in rejected/, each "
        "with its reason; look for reasons that have more rows than you expect.",
        texts=2,
    )
    files = [
        Table(
            "Files that were put aside",
            ["File of the events", "Reason"],
            [[file, reason] for file, reason in quality.rejected_files.items()],
            note="They are read by the next run after they were mended.",
            texts=2,
        )
    ]
    return [
        Facts(figures, is_large=True),
        *([Facts(known)] if known else []),
        table,
        *(files if quality.rejected_files else []),
    ]


def _word(reason: str) -> str:
    return "left out" if reason in LEFT_OUT else "rejected"


def _drift(quality: Quality) -> list[Part]:
    assert quality.compared_with is not None, "a first run has no such section"
    limits = "; ".join(
        f"{measure} {shifted:g} and {large:g}"
        for measure, (shifted, large) in THRESHOLDS.items()
        if large > shifted
    )
    note = (
        f"Against the run as of {_minute(quality.compared_with)} UTC. A change is a shift, or a "
        f"large one, from these figures on: {limits}; of values the figure is the population "
        "stability index, of the last time days that are lost, of the others a share. A change "
        "that chance or the error of an estimate could have made is stable, and columns of under "
        f"{MIN_ROWS} rows are not compared."
    )
    stable = [each for each in quality.drift if each.verdict == "stable"]
    parts: list[Part] = [Text(drift_sentence(quality), "strong")]
    if quality.shifts:
        parts.append(_drift_table("Shifts", "", quality.shifts))
    if stable:
        table = _drift_table("Stable figures", "The closest to a shift first.", stable)
        parts.append(Entry(count_of(len(stable), "stable figure"), [table]))
    return [*parts, Entry("How drift is measured", [Text(note)])]


def _drift_table(title: str, note: str, drifts: Iterable[Drift]) -> Table:
    rows: list[Cells] = [
        [each.name, each.measure, Cell(each.verdict, tone=_TONES[each.verdict]), each.sentence]
        for each in drifts
    ]
    return Table(title, ["Where", "What", "Verdict", "Now and before"], rows, note, texts=4)


def _time(activity: Activity | None) -> Part:
    if activity is None:
        return Text("The log has no time.")
    unit = _UNITS[activity.unit]
    units = f"{len(activity.events):,} {unit if len(activity.events) == 1 else _plural(unit)}"
    most = max(range(len(activity.events)), key=activity.events.__getitem__)
    start = activity.starts[most].replace("T", " ")
    when = f"from {start} on" if activity.unit == "h" else f"from {start[:-6]} on"
    seconds = np.array(activity.starts, "datetime64[s]").astype(np.int64).astype(float)
    points = list(zip(seconds.tolist(), map(float, activity.events), strict=True))
    return Chart(
        f"Events by {unit}",
        f"{units} {'has' if len(points) == 1 else 'have'} events; the most are "
        f"{activity.events[most]:,}, {when}. Look for gaps, and for days that are not whole.",
        Graph(
            [Series("events", points, "bars")],
            Axis("UTC", scale="time"),
            Axis("events", bounds=(0.0, float(max(activity.events)))),
        ),
        is_wide=True,
    )


def _plural(unit: str) -> str:
    return "millennia" if unit == "millennium" else f"{unit}s"


def _popularity(quality: Quality) -> list[Part]:
    of_items, of_queries = quality.items, quality.queries
    quantiles = Table(
        "Events of an item, and distinct items of a query",
        [
            "",
            "Rows",
            "Without any",
            "Gini",
            "Least",
            "Median",
            "90 %",
            "99 %",
            "Most",
            "Top 1 % have",
        ],
        [_popularity_row("Items", of_items), _popularity_row("Queries", of_queries)],
        note="All splits; quantiles are over all items and queries, also those without any.",
    )
    return [
        tail_chart("Events of items", of_items, "items", "events"),
        tail_chart("Items of queries", of_queries, "queries", "distinct items"),
        quantiles,
        _slices(quality),
    ]


def tail_chart(title: str, popularity: Popularity, rows: str, events: str) -> Chart:
    """Returns the share of the events by the share of the rows, the most popular first.

    Args:
        title: Title of the chart.
        popularity: Distribution to draw.
        rows: Noun of the rows, such as `items`.
        events: Noun of what they have.
    """
    return Chart(
        title,
        f"The most popular 10 % of {rows} have {share_of(popularity, 0.1):.0%} of the {events}; "
        f"Gini {popularity.gini:.2f}. The most popular are on the left: the further the curve is "
        "above the straight line, on which all have the same, the more the few dominate.",
        Graph(
            [
                Series("this log", list(popularity.curve)),
                Series("all the same", [(0.0, 0.0), (1.0, 1.0)], is_faint=True),
            ],
            Axis(f"share of {rows}", scale="share", bounds=(0.0, 1.0)),
            Axis(f"share of {events}", scale="share", bounds=(0.0, 1.0)),
        ),
    )


def _slices(quality: Quality) -> Table:
    items = sum(each.items for each in quality.slices.values())
    splits = ("train", "validation", "test")
    totals = [sum(getattr(each, split) for each in quality.slices.values()) for split in splits]
    bounds = (
        "" if quality.slice_bounds is None else f"{as_sentence(quality.slice_bounds.sentence())} "
    )
    rows: list[Cells] = []
    for name, each in quality.slices.items():
        counts = zip((each.train, each.validation, each.test), totals, strict=True)
        shares = [_share(each.items, items), *(_share(count, total) for count, total in counts)]
        rows.append([name, f"{each.items:,}", *map(share_cell, shares)])
    return Table(
        "Items by training events",
        ["Slice", "Items", "Of items", "Of training", "Of validation", "Of test"],
        rows,
        note=f"{bounds}The last columns are the share of each split's events.",
    )


def _popularity_row(name: str, popularity: Popularity) -> list[str]:
    quantiles = [f"{popularity.quantiles[key]:,.0f}" for key in ("p0", "p50", "p90", "p99", "p100")]
    return [
        name,
        f"{popularity.rows:,}",
        f"{popularity.without_events:,}",
        f"{popularity.gini:.2f}",
        *quantiles,
        f"{share_of(popularity, 0.01):.1%}",
    ]


def _coverage(features: Sequence[Coverage]) -> Part:
    if not features:
        return Text("There are no features but the ids.")
    rows: list[Cells] = []
    for feature in features:
        shares = (feature.rows, feature.with_events, feature.by_events)
        unknown = feature.out_of_vocabulary
        rows.append(
            [
                f"{feature.side}.{feature.feature}",
                feature.kind.replace("_", "-"),
                *map(share_cell, shares),
                "-" if unknown is None else f"{unknown:.2%}",
            ]
        )
    return Table(
        "Coverage of the features",
        ["Feature", "Kind", "Of all", "Of those with events", "By events", "Out of vocabulary"],
        rows,
        note="Share of the items (queries) that have a value: of all, of those with events, and "
        "weighted by their events; and share of the values without a row of their own in the "
        "vocabulary.",
        texts=2,
    )


def _minute(time: str) -> str:
    """Returns `2024-05-06 07:08`; the times of the manifest are UTC."""
    return time[:16].replace("T", " ")


def _share(some: int, total: int) -> float:
    return some / total if total else 0.0
