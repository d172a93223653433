"""What a run was trained on, and how that differs from the run before."""

from pipelines.quality.quality import Quality
from pipelines.reports.parts import Cell, Chart, Part, Section, Table, Text
from recsys.dashboard.data.run_data import RunData
from recsys.dashboard.sections import figures

_MOST_SHIFTS = 100


def data_section(run: RunData) -> Section:
    """Rows, drift, activity over time, popularity and the features' coverage."""
    quality = run.quality
    if quality is None:
        return Section("data", "Data and drift", [Text("This run kept no report of its data.")])
    parts: list[Part] = []
    large = [found for found in quality.shifts if found.verdict == "large shift"]
    if large:
        more = f", and {len(large) - 1} more" if len(large) > 1 else ""
        text = f"Large shift since the run before: {large[0].name}: {large[0].sentence}{more}."
        parts.append(Text(text, is_warning=True))
    rows: list[list[Cell]] = []
    for table in quality.tables:
        rejected = sum(table.rejected.values())
        why = ", ".join(f"{reason} {count:,}" for reason, count in table.rejected.items())
        rows.append(
            [table.name, why or "none", f"{table.read:,}", f"{table.kept:,}", f"{rejected:,}"]
        )
    headings = ["Table", "Reasons of rejection", "Read", "Kept", "Rejected"]
    parts.append(Table("Rows of the tables", headings, rows, texts=2))
    if quality.compared_with is None:
        parts.append(Text("Drift: nothing to compare with, this was the first run."))
    else:
        shifts = [
            [found.name, found.measure, found.verdict, found.sentence, f"{found.change:.3f}"]
            for found in quality.drift
        ]
        caption = f"Drift since the run of {quality.compared_with}, the worst first"
        if len(shifts) > _MOST_SHIFTS:
            caption += f"; the first {_MOST_SHIFTS} of {len(shifts):,}"
        headings = ["Column", "Measure", "Verdict", "In words", "Change"]
        parts.append(Table(caption, headings, shifts[:_MOST_SHIFTS], texts=4))
    if quality.activity is not None:
        activity = quality.activity
        peak = max(zip(activity.events, activity.starts, strict=True))
        events = dict(zip(activity.starts, map(float, activity.events), strict=True))
        chart = Chart(
            "Events over time",
            f"{sum(activity.events):,} events; most, {peak[0]:,}, in the period from {peak[1]}.",
            figures.bars({"events": events}, x="", y="events"),
            is_wide=True,
        )
        chart.figure["layout"]["xaxis"]["type"] = "date"
        parts.append(chart)
    curves = {
        "items": [(rank, share) for rank, share in quality.items.curve],
        "queries": [(rank, share) for rank, share in quality.queries.curve],
    }
    parts.append(
        Chart(
            "Share of events by popularity",
            f"How unevenly events lie: Gini {quality.items.gini:.2f} of items, "
            f"{quality.queries.gini:.2f} of queries.",
            figures.lines(curves, x="share of rows, the most popular first", y="share of events"),
        )
    )
    parts.append(_coverage(quality))
    return Section("data", "Data and drift", parts)


def _coverage(quality: Quality) -> Table:
    rows: list[list[Cell]] = []
    for found in quality.coverage:
        missing = found.out_of_vocabulary
        rows.append(
            [
                f"{found.side}.{found.feature}",
                found.kind,
                f"{found.rows:.1%}",
                f"{found.by_events:.1%}",
                "-" if missing is None else f"{missing:.1%}",
            ]
        )
    caption = "Features: how much of the items or queries, and of their events, has a value"
    headings = ["Feature", "Kind", "Have one", "Of events", "Values without a row of their own"]
    return Table(caption, headings, rows, texts=2)
