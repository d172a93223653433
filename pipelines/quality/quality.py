"""The quality report: figures of a run's log, and how they differ from the run before.

statistics/quality.json      `Quality`
statistics/quality.html      the same for people
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field

from feature_store.core.columns import Bools
from feature_store.core.documents import read_record
from feature_store.core.settings import Frozen
from feature_store.schema import SIDES, Side
from pipelines.prepared.examples import SPLITS
from pipelines.prepared.manifest import PreparedManifest
from pipelines.prepared.query_state import QueryState
from pipelines.quality.coverage import Coverage, coverage
from pipelines.quality.drift import Drift, by_severity, drift, rejected_drift
from pipelines.reports.words import word_for
from pipelines.statistics.popularity import Popularity, popularity
from pipelines.statistics.slices import Slice, SliceBounds, events_by_slice
from pipelines.statistics.summaries import ColumnSummary, Summary, iso_time

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_SHOWN_VALUES = 20


class Frequent(Frozen):
    """A frequent value; its count may be `ColumnQuality.top_error` too low."""

    value: str
    count: int
    share: float


class ColumnQuality(Frozen):
    """A column, for people and dashboards.

    Attributes:
        missing: Share of rows that are null or an empty list.
        distinct: Number of distinct values, or of distinct elements of lists.
        distinct_error: Relative standard error of `distinct`.
        top: Most frequent values; empty where no value is known to be frequent.
        quantiles: Quantiles of numbers by share in percent, such as `p50`; times are ISO-8601 in
            UTC.
    """

    name: str
    type: str
    kind: str
    rows: int
    nulls: int
    empty_lists: int
    missing: float
    values_per_row: float | None
    invalid_numbers: int
    distinct: int | None
    distinct_error: float
    top: tuple[Frequent, ...]
    top_error: int
    smallest: float | str | None
    largest: float | str | None
    mean: float | None
    deviation: float | None
    quantiles: dict[str, float | str]


class TableQuality(Frozen):
    """A table: rows read, kept, and rejected by reason; columns of the kept rows."""

    name: str
    read: int
    kept: int
    rejected: dict[str, int]
    columns: tuple[ColumnQuality, ...]


class Activity(Frozen):
    """Events over time.

    Attributes:
        unit: Length of a period: h, D, M, Y or 1000Y, the shortest that leaves at most 400 periods.
        starts: Starts of the periods that have events, ISO-8601 in UTC.
        events: Number of events of each period.
    """

    unit: str
    starts: tuple[str, ...]
    events: tuple[int, ...]


class Quality(Frozen):
    """All that the report shows, and the sketches that the next run is compared with.

    Attributes:
        rejected_files: Reasons by file of the events that was put aside.
        activity: Events over time; None where the log has no time.
        items: Events of each item, of all splits.
        slices: Items by their training events, as the metrics are sliced.
        slice_bounds: Bounds of these slices; None of an earlier version's report.
        queries: Distinct items of each query.
        compared_with: Time of the earlier run; None for a first run.
        drift: Comparisons with the earlier run, the worst first.
        summaries: Summaries of the columns, by table.
        query: Word of the log for a query.
    """

    version: int = 1
    as_of: str
    first_event: str | None
    last_event: str | None
    tables: tuple[TableQuality, ...]
    rejected_files: dict[str, str] = Field(default_factory=dict)
    activity: Activity | None
    items: Popularity
    slices: dict[str, Slice]
    slice_bounds: SliceBounds | None = None
    queries: Popularity
    coverage: tuple[Coverage, ...]
    compared_with: str | None
    drift: tuple[Drift, ...]
    summaries: dict[str, Summary]
    query: str = "query"

    @property
    def shifts(self) -> tuple[Drift, ...]:
        """Comparisons that are not stable."""
        return tuple(each for each in self.drift if each.verdict != "stable")


def quality(
    directory: Path,
    manifest: PreparedManifest,
    summaries: dict[str, Summary],
    previous: Quality | None = None,
    *,
    is_forgetful: bool = False,
) -> Quality:
    """Puts the report together.

    Args:
        directory: Prepared directory, still without its manifest.
        manifest: Manifest that it will get.
        summaries: Summaries of the kept rows of `events`, and of `items` and `queries` where the
            log has them.
        previous: Report of the run before; None for a first run.
        is_forgetful: Whether ids are to be forgotten: no value is named that only the run before
            had, for it may have been theirs.
    """
    path = directory / "statistics" / "item_frequency.parquet"
    frequency = pq.read_table(path, columns=list(SPLITS))
    by_split = np.stack([frequency[split].to_numpy() for split in SPLITS], axis=1)
    state = QueryState.load(directory / "queries" / "state.arrow")
    per_query = sum(getattr(state, split).lengths for split in SPLITS)
    assert isinstance(per_query, np.ndarray)
    bounds, per_item = SliceBounds.of(by_split[:, 0]), by_split.sum(axis=1)
    items, queries = _current(directory, "item"), _current(directory, "query")
    return Quality(
        as_of=manifest.as_of,
        first_event=manifest.first_event,
        last_event=manifest.last_event,
        tables=tuple(_table(name, summary, manifest) for name, summary in summaries.items()),
        rejected_files=manifest.rejected_files,
        activity=_activity(summaries["events"], manifest.data.columns.timestamp),
        items=popularity(per_item[items]),
        slices=events_by_slice(by_split[items], bounds),
        slice_bounds=bounds,
        queries=popularity(per_query[queries]),
        coverage=(
            *coverage(directory, manifest.features, "item", items, per_item),
            *coverage(directory, manifest.features, "query", queries, per_query),
        ),
        compared_with=previous.as_of if previous is not None else None,
        drift=_drift(previous, summaries, manifest, is_forgetful=is_forgetful)
        if previous is not None
        else (),
        summaries=summaries,
        query=word_for(manifest.data, manifest.features),
    )


def read_quality(directory: Path) -> Quality | None:
    """Returns the report of a prepared directory; None where it has none that can be read."""
    path = directory / "statistics" / "quality.json"
    try:
        return read_record(path, Quality)
    except (OSError, ValueError):
        return None


def _current(directory: Path, side: Side) -> Bools:
    """Tells which entries of the catalogue are of this run; the vocabulary keeps those gone."""
    path = directory / "vocabulary" / f"{side}_id.parquet"
    return pq.read_table(path, columns=["count"])["count"].to_numpy() > 0


def _table(name: str, summary: Summary, manifest: PreparedManifest) -> TableQuality:
    start = f"{name}: "
    rejected = {
        reason.removeprefix(start): count
        for reason, count in manifest.counts.rejected.items()
        if reason.startswith(start)
    }
    counts = manifest.counts
    is_events = name == "events"
    kept = counts.train + counts.validation + counts.test if is_events else summary.rows
    return TableQuality(
        name=name,
        read=counts.events_read if is_events else summary.rows + sum(rejected.values()),
        kept=kept,
        rejected=dict(sorted(rejected.items(), key=lambda pair: -pair[1])),
        columns=tuple(_column(name, column) for name, column in summary.columns.items()),
    )


def _column(name: str, column: ColumnSummary) -> ColumnQuality:
    filled = column.rows - column.nulls
    top = column.top
    # A value that occurs once is no frequent one, and the ids of a catalogue do.
    frequent = [
        Frequent(value=value, count=count, share=count / column.values)
        for value, count in (top.counts.items() if top is not None else ())
        if top is not None and count > max(1, top.error)
    ]
    numbers, is_time = column.numbers, column.kind == "times"
    quantiles: dict[str, float | str] = {}
    ends: list[float | str | None] = [None, None]
    if numbers is not None:
        for share in QUANTILES:
            quantiles[f"p{share * 100:g}"] = (
                iso_time(numbers.histogram.quantile(share)) if is_time else numbers.quantile(share)
            )
        ends = [numbers.smallest, numbers.largest]
        if is_time:
            ends = [iso_time(numbers.smallest), iso_time(numbers.largest)]
    return ColumnQuality(
        name=name,
        type=column.type,
        kind=column.kind,
        rows=column.rows,
        nulls=column.nulls,
        empty_lists=column.empty,
        missing=(column.nulls + column.empty) / max(column.rows, 1),
        values_per_row=column.values / max(filled, 1) if column.is_list else None,
        invalid_numbers=column.invalid,
        distinct=min(column.distinct.count, column.values) if column.distinct else None,
        distinct_error=column.distinct.error if column.distinct else 0.0,
        top=tuple(frequent[:_SHOWN_VALUES]),
        top_error=top.error if top is not None else 0,
        smallest=ends[0],
        largest=ends[1],
        mean=numbers.mean if numbers is not None and not is_time else None,
        deviation=numbers.deviation if numbers is not None and not is_time else None,
        quantiles=quantiles,
    )


def _activity(events: Summary, column: str | None) -> Activity | None:
    periods = events.columns[column].periods if column in events.columns else None
    if periods is None:
        return None
    starts = np.array(periods.starts, np.int64).astype(f"datetime64[{periods.unit}]")
    day = np.datetime_as_string(starts.astype("datetime64[m]"), unit="m")
    return Activity(unit=periods.unit, starts=tuple(day.tolist()), events=periods.counts)


def _drift(
    previous: Quality,
    summaries: dict[str, Summary],
    manifest: PreparedManifest,
    *,
    is_forgetful: bool,
) -> tuple[Drift, ...]:
    columns = manifest.data.columns
    ids = {name(side) for name in (columns.id_of, columns.key_of) for side in SIDES}
    found = [*drift(previous.summaries, summaries, ids, is_forgetful=is_forgetful)]
    for table in previous.tables:
        if table.name == "events":
            earlier = {f"events: {reason}": count for reason, count in table.rejected.items()}
            found += rejected_drift(
                earlier, table.read, manifest.counts.rejected, manifest.counts.events_read
            )
    return by_severity(found)
