"""The quality report as HTML: one file, without scripts and without the network."""

from collections.abc import Iterable
from html import escape
from importlib.resources import files

from pipelines.quality.charts import activity_chart, share_cell, share_of, tail_chart
from pipelines.quality.coverage import Coverage
from pipelines.quality.drift import MIN_ROWS, THRESHOLDS, Drift
from pipelines.quality.quality import Activity, ColumnQuality, Quality, TableQuality
from pipelines.reports.page import render_page
from pipelines.statistics.popularity import Popularity

_UNITS = {"h": "hour", "D": "day", "M": "month", "Y": "year", "1000Y": "millennium"}
_SHOWN_VALUES = 5
_CLASSES = {"stable": "stable", "shifted": "shifted", "large shift": "large"}


def render_quality(quality: Quality) -> str:
    """The report as HTML."""
    sections = [
        ("rows", "Rows", _rows(quality)),
        ("drift", "Drift", _drift(quality)),
        ("time", "Time", _time(quality.activity)),
        ("popularity", "Popularity", _popularity(quality)),
        ("coverage", "Features", _coverage(quality.coverage)),
        *(
            (f"columns-{table.name}", f"Columns of {table.name}", _columns(table))
            for table in quality.tables
        ),
    ]
    return render_page(
        title="Quality of the log",
        subtitle=f"Prepared as of {_minute(quality.as_of)}",
        warnings=_warnings(quality.shifts),
        sections=sections,
        style=(files("pipelines.quality") / "quality_report.css").read_text(encoding="utf-8"),
    )


def _warnings(shifts: tuple[Drift, ...]) -> list[str]:
    large = [found for found in shifts if found.verdict == "large shift"]
    if not large:
        return []
    worst = large[0]
    more = f", and {len(large) - 1} more" if len(large) > 1 else ""
    return [
        "<strong>Large shift since the run before:</strong> "
        f'{escape(worst.name)}: {escape(worst.sentence)}{more}; see <a href="#drift">Drift</a>.'
    ]


def _rows(quality: Quality) -> str:
    events = quality.tables[0]
    cold = quality.slices["cold"].items
    tiles = {
        "Events kept": f"{events.kept:,}",
        "Events rejected": f"{_share(sum(events.rejected.values()), events.read):.2%}",
        "Items": f"{quality.items.rows:,}",
        "Cold items": f"{_share(cold, quality.items.rows):.1%}",
        "Queries": f"{quality.queries.rows:,}",
        "First event": _tile(quality.first_event),
        "Last event": _tile(quality.last_event),
    }
    inner = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles.items())
    rows = []
    for table in quality.tables:
        numbers = (table.read, table.kept, sum(table.rejected.values()))
        rows.append(_row(table.name, "", *(f"{number:,}" for number in numbers)))
        rows += [
            _row("", f"rejected: {reason}", "", "", f"{count:,}")
            for reason, count in table.rejected.items()
        ]
    note = (
        "Cold items have no training event. Rejected rows are kept, each with its reason, in "
        "rejected/."
    )
    tables = _table("Rows of the tables", note, ["Table", ""], ["Read", "Kept", "Rejected"], rows)
    return f'<dl class="tiles">{inner}</dl>{tables}'


def _drift(quality: Quality) -> str:
    if quality.compared_with is None:
        return "<p>This is the first run: there is nothing to compare it with.</p>"
    limits = "; ".join(
        f"{measure} {shifted:g} and {large:g}"
        for measure, (shifted, large) in THRESHOLDS.items()
        if large > shifted
    )
    note = (
        f"Against the run as of {_minute(quality.compared_with)}. A change is a shift, or a large "
        f"one, from these figures on: {limits}; of values the figure is the population stability "
        "index, of the last time days that are lost, of the others a share. A change that chance "
        "or the error of an estimate could have made is stable, and columns of under "
        f"{MIN_ROWS} rows are not compared."
    )
    shifts = quality.shifts
    stable = [found for found in quality.drift if found.verdict == "stable"]
    if not shifts:
        body = f'<p class="soft">{escape(note)}</p><p>All figures are stable.</p>'
    else:
        body = _drift_table("Shifts", note, shifts)
    if not stable:
        return body
    count = f"{len(stable):,} stable figure{'' if len(stable) == 1 else 's'}"
    rest = _drift_table("Stable figures", "The closest to a shift first.", stable)
    return f"{body}<details><summary>{count}</summary>{rest}</details>"


def _drift_table(name: str, note: str, found: Iterable[Drift]) -> str:
    rows = [
        f'<tr><td class="text"><span class="verdict {_CLASSES[d.verdict]}">{d.verdict}</span></td>'
        f'<th scope="row">{escape(d.name)}</th><td class="text">{d.measure}</td>'
        f'<td class="text wrap">{escape(d.sentence)}</td></tr>'
        for d in found
    ]
    return _table(name, note, ["Verdict", "Where", "What", "Now and before"], [], rows)


def _time(activity: Activity | None) -> str:
    if activity is None:
        return "<p>The log has no time.</p>"
    unit = _UNITS[activity.unit]
    most = max(range(len(activity.events)), key=activity.events.__getitem__)
    start = activity.starts[most].replace("T", " ")
    when = f"from {start} on" if activity.unit == "h" else f"from {start[:-6]} on"
    note = (
        f"Events by {unit} (UTC): {len(activity.events):,} {unit}s have events; the most are "
        f"{activity.events[most]:,}, {when}."
    )
    if unit == "millennium":
        note = note.replace("millenniums", "millennia")
    chart = activity_chart(activity.starts, activity.events, activity.unit)
    scrolled = f'<div class="scroll" tabindex="0" role="group" aria-label="Events">{chart}</div>'
    return f'<p class="soft">{escape(note)}</p>{scrolled}'


def _popularity(quality: Quality) -> str:
    charts = tail_chart("Events of items", quality.items, "items", "events")
    charts += tail_chart("Items of queries", quality.queries, "queries", "distinct items")
    of_items, of_queries = quality.items, quality.queries
    tables = _table(
        "Events of an item, and distinct items of a query",
        "Events of an item, and distinct items of a query, of all splits; quantiles over all of "
        "them, also those without any.",
        [""],
        ["Rows", "Without any", "Gini", "Least", "Median", "90 %", "99 %", "Most", "Top 1 % have"],
        [_popularity_row("Items", of_items), _popularity_row("Queries", of_queries)],
    )
    items = sum(found.items for found in quality.slices.values())
    totals = [
        sum(getattr(found, split) for found in quality.slices.values())
        for split in ("train", "validation", "test")
    ]
    rows = []
    for name, found in quality.slices.items():
        cells = share_cell(_share(found.items, items))
        counts = zip((found.train, found.validation, found.test), totals, strict=True)
        cells += "".join(share_cell(_share(count, total)) for count, total in counts)
        rows.append(f'<tr><th scope="row">{name}</th><td>{found.items:,}</td>{cells}</tr>')
    tables += _table(
        "Items by training events",
        "Items by their training events: cold 0, tail 1 to 5, torso to the 80th percentile of the "
        "trained items, head the rest; and the share of each split's events that is theirs.",
        ["Slice"],
        ["Items", "Of items", "Of training", "Of validation", "Of test"],
        rows,
    )
    return f'<div class="two">{charts}</div>{tables}'


def _popularity_row(name: str, found: Popularity) -> str:
    shown = [f"{found.quantiles[key]:,.0f}" for key in ("p0", "p50", "p90", "p99", "p100")]
    head = [f"{found.rows:,}", f"{found.without_events:,}", f"{found.gini:.2f}"]
    return _row(name, None, *head, *shown, f"{share_of(found, 0.01):.1%}")


def _coverage(found: tuple[Coverage, ...]) -> str:
    if not found:
        return "<p>There are no features but the ids.</p>"
    rows = []
    for feature in found:
        shares = (feature.rows, feature.with_events, feature.by_events)
        cells = "".join(share_cell(share) for share in shares)
        unknown = feature.out_of_vocabulary
        text = "" if unknown is None else f"{unknown:.2%}"
        rows.append(
            f'<tr><th scope="row">{escape(feature.side)}.{escape(feature.feature)}</th>'
            f'<td class="text">{escape(feature.kind.replace("_", "-"))}</td>{cells}'
            f"<td>{text}</td></tr>"
        )
    note = (
        "How many items (queries) have a value: of all, of those with events, and weighted by "
        "their events; and how many of the values share the out-of-vocabulary row."
    )
    numbers = ["Of all", "Of those with events", "By events", "Out of vocabulary"]
    return _table("Coverage of the features", note, ["Feature", "Kind"], numbers, rows)


def _columns(table: TableQuality) -> str:
    rows = [
        f'<tr><th scope="row">{escape(column.name)}<small>{escape(column.type)}</small></th>'
        f"{share_cell(column.missing)}<td>{_distinct(column)}</td>"
        f'<td class="text values">{_numbers(column)}</td><td class="text">{_top(column)}</td></tr>'
        for column in table.columns
    ]
    head = '<th scope="col" class="text">Column</th><th scope="col">Missing</th>'
    head += '<th scope="col">Distinct</th><th scope="col" class="text">Values</th>'
    head += '<th scope="col" class="text">Most frequent</th>'
    note = (
        "Of the kept rows, of events before duplicates are dropped. Missing: null or an empty "
        "list. The values of lists are their elements, and of vectors their norms."
    )
    return _framed(f"Columns of {table.name}", note, head, rows)


def _distinct(column: ColumnQuality) -> str:
    if column.distinct is None:
        return "-"
    about = f"<small>± {column.distinct_error:.1%}</small>" if column.distinct_error else ""
    return f"{column.distinct:,}{about}"


def _numbers(column: ColumnQuality) -> str:
    lines = []
    if column.smallest is not None and column.largest is not None:
        lines.append(
            f"<bdi>{_number(column.smallest)}</bdi> to <bdi>{_number(column.largest)}</bdi>"
        )
        lines.append(f"<small>median {_number(column.quantiles['p50'])}</small>")
    if column.mean is not None and column.deviation is not None:
        lines.append(f"<small>mean {column.mean:,.4g}, deviation {column.deviation:,.4g}</small>")
    if column.values_per_row is not None:
        lines.append(f"<small>{column.values_per_row:,.1f} values a row</small>")
    if column.invalid_numbers:
        lines.append(f"<small>{column.invalid_numbers:,} NaN or infinite</small>")
    return "".join(lines) or "-"


def _top(column: ColumnQuality) -> str:
    shown = [
        f"<li><bdi>{escape(found.value) or '(empty)'}</bdi>&nbsp;"
        f"<small>{found.share:.1%}</small></li>"
        for found in column.top[:_SHOWN_VALUES]
    ]
    return f'<ol class="top">{"".join(shown)}</ol>' if shown else "-"


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value.replace("T", " ")
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 10_000 else f"{int(value)}"
    return f"{value:,.4g}"


def _row(name: str, text: str | None, *numbers: str) -> str:
    texts = "" if text is None else f'<td class="text">{escape(text)}</td>'
    cells = "".join(f"<td>{number}</td>" for number in numbers)
    return f'<tr><th scope="row">{escape(name)}</th>{texts}{cells}</tr>'


def _table(name: str, note: str, texts: list[str], numbers: list[str], rows: list[str]) -> str:
    """With headings of columns of text and of numbers."""
    head = "".join(
        f'<th scope="col" class="text">{text}</th>' if text else "<td></td>" for text in texts
    )
    head += "".join(f'<th scope="col">{number}</th>' for number in numbers)
    return _framed(name, note, head, rows)


def _framed(name: str, note: str, head: str, rows: list[str]) -> str:
    """Scrolls sideways, by keyboard too."""
    return (
        f'<p class="soft">{escape(note)}</p>'
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(name)}">'
        f'<table aria-label="{escape(name)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _minute(time: str | None) -> str:
    """`2024-05-06 07:08`; the times of the manifest are UTC."""
    return "no time" if time is None else escape(time[:16].replace("T", " "))


def _tile(time: str | None) -> str:
    day, _, rest = _minute(time).partition(" ")
    return f"{day} <small>{rest}</small>" if time is not None else "no time"


def _share(some: int, total: int) -> float:
    return some / total if total else 0.0
