"""New files of a log beside those that were there: what a job at night should not learn from.

`prepare` checks them before it makes examples; see `data.quality`. Each file is judged by itself,
so that a bad day is not thinned by a good one; so are all new files together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from feature_store.core.times import DAY, microseconds
from pipelines.logs.rejected_files import RefusedLogError
from pipelines.quality.drift import MIN_ROWS
from pipelines.settings import Quality
from pipelines.statistics.summaries import ColumnSummary, Summary, merge
from pipelines.urls import shown

# Days before the new ones that tell how many events a day has.
_USUAL_DAYS = 28
# Share of a new file's rows that may be faulty.
_MAX_FAULTY = 0.5
# A query has so many times as many events as the most active one has had in a file, and at least so
# many, before it is suspicious.
_TIMES_AS_ACTIVE, _LEAST_EVENTS = 2, 20


@dataclass(frozen=True)
class Known:
    """Files that an earlier run has read.

    Attributes:
        marks: Marks of the files that it read; see `pipelines.logs.tables.file_marks`.
        as_of: Time after which it rejected events.
    """

    marks: frozenset[str]
    as_of: datetime


@dataclass(frozen=True)
class Part:
    """The events of a piece of a file.

    Attributes:
        file: Path or URL.
        mark: Mark of the file.
        rows: Number of rows that count or are faulty.
        faulty: Number of faulty rows.
        first: Time of the first kept event, microseconds.
        last: Time of the last kept event, microseconds.
        summary: Statistics of the columns of the kept events.
    """

    file: str
    mark: str
    rows: int
    faulty: int
    first: int
    last: int
    summary: Summary

    @property
    def kept(self) -> int:
        """Number of kept events."""
        return self.summary.rows


def require_usual(
    parts: Sequence[Part],
    files: Mapping[str, str],
    known: Known,
    query_id: str,
    settings: Quality,
) -> None:
    """Compares the new files of the events with those that are known.

    Args:
        parts: Parts of all files.
        files: Marks of all files, also of those without a row.
        known: Files that an earlier run has read.
        query_id: Column of the ids of queries.
        settings: Limits.

    Raises:
        RefusedLogError: The new files hold no event, or are unlike the others.
    """
    new = [part for part in parts if _is_new(part, known)]
    old = [part for part in parts if part.kept and not _is_new(part, known)]
    names = [file for file, mark in files.items() if mark not in known.marks]
    if names and not any(part.kept for part in new):
        faulty = sum(part.faulty for part in new)
        why = f", but {faulty:,} faulty rows" if faulty else ""
        raise RefusedLogError(
            f"events: {_named(names)} new, but without an event that counts{why}; complete the "
            "log.",
            names,
        )
    by_file: dict[str, list[Part]] = {}
    for part in new:
        by_file.setdefault(part.file, []).append(part)
    for file, of_file in by_file.items():
        faults = [*_faults_alone(of_file)]
        if old:
            faults += _faults_beside(of_file, old, query_id, settings)
        for fault in faults:
            raise RefusedLogError(f"events: {shown(file)}: {fault}.", [file])
    if old and len(by_file) > 1:
        for fault in _faults_beside(new, old, query_id, settings):
            names = list(by_file)
            raise RefusedLogError(f"events: the {len(names):,} new files: {fault}.", names)


def require_filled(
    before: Mapping[str, Summary], now: Mapping[str, Summary | None], settings: Quality
) -> None:
    """Compares the features in the tables of items and queries with those of the run before.

    Args:
        before: Summaries of the earlier run by table.
        now: Summaries of this run by table; None where there is no such table.
        settings: Limits.

    Raises:
        RefusedLogError: A feature is suddenly without values.
    """
    for table in ("items", "queries"):
        earlier, later = before.get(table), now.get(table)
        if earlier is not None and later is not None:
            for fault in _missing(later, earlier, settings):
                raise RefusedLogError(f"{table}: {fault}.", [])


def _is_new(part: Part, known: Known) -> bool:
    if part.mark not in known.marks:
        return True
    return part.kept > 0 and part.first > microseconds(known.as_of)


def _named(files: Sequence[str]) -> str:
    if len(files) == 1:
        return f"{shown(files[0])} is"
    return f"{len(files):,} files such as {shown(files[0])} are"


def _faults_alone(parts: Sequence[Part]) -> Iterator[str]:
    rows, faulty = sum(part.rows for part in parts), sum(part.faulty for part in parts)
    if faulty > _MAX_FAULTY * rows:
        yield (
            f"{faulty:,} of {rows:,} rows are faulty, expected at most {_MAX_FAULTY:.0%}; mend the "
            "file"
        )


def _faults_beside(
    new: Sequence[Part], old: Sequence[Part], query_id: str, settings: Quality
) -> Iterator[str]:
    usual, now = _per_day(_latest(old)), _per_day(new)
    if now > settings.max_growth * usual:
        yield (
            f"{now:,.0f} events a day, {now / usual:.1f} times as many as before, expected at most "
            f"{settings.max_growth:g} times; mend it, or raise data.quality.max_growth"
        )
    together, before = merge([p.summary for p in new]), merge([p.summary for p in old])
    yield from _bots(together.columns.get(query_id), old, query_id, settings)
    yield from _missing(together, before, settings)


def _latest(parts: Sequence[Part]) -> list[Part]:
    end = max(part.last for part in parts)
    return [part for part in parts if part.last > end - _USUAL_DAYS * DAY]


def _per_day(parts: Sequence[Part]) -> float:
    some = [part for part in parts if part.kept]
    if not some:
        return 0.0
    span = max(part.last for part in some) - min(part.first for part in some)
    return sum(part.kept for part in some) / max(1.0, span / DAY)


def _bots(
    queries: ColumnSummary | None, old: Sequence[Part], query_id: str, settings: Quality
) -> Iterator[str]:
    count = _most_active(queries)
    if queries is None or count < settings.max_query_share * queries.rows:
        return
    usual = max(_most_active(part.summary.columns.get(query_id)) for part in old)
    if count >= _LEAST_EVENTS and count > _TIMES_AS_ACTIVE * usual:
        # Its id is not named: it may be a person's.
        yield (
            f"one query has {count / queries.rows:.0%} of all events ({count:,}; before {usual:,} "
            f"at most), expected less than {settings.max_query_share:.0%}, as of a bot; leave it "
            "out, or raise data.quality.max_query_share"
        )


def _most_active(queries: ColumnSummary | None) -> int:
    if queries is None or queries.top is None:
        return 0
    return max(queries.top.counts.values(), default=0)


def _missing(now: Summary, before: Summary, settings: Quality) -> Iterator[str]:
    for name, column in now.columns.items():
        earlier = before.columns.get(name)
        if earlier is None or min(column.rows, earlier.rows) < MIN_ROWS:
            continue
        shares = [(each.nulls + each.empty) / each.rows for each in (earlier, column)]
        if shares[1] - shares[0] > settings.max_missing_rise:
            yield (
                f"{shares[1]:.0%} of {name!r} is missing, before {shares[0]:.0%}, expected at most "
                f"{settings.max_missing_rise:.0%} more; mend it, or raise "
                "data.quality.max_missing_rise"
            )
