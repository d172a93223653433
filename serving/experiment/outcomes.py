"""Metrics of each variant, from the log of an A/B test that may be larger than the memory."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
from scipy import stats

from feature_store.core.columns import Ints
from feature_store.core.errors import UserError
from feature_store.core.times import moment_of
from serving.experiment.experiment import Experiment, Metric
from serving.experiment.foreign import with_timestamps
from serving.experiment.log_rows import EVENTS, EXPOSURE_SCHEMA, EXPOSURES, log_files
from serving.experiment.statistics import Estimate, Moments, ratio

_TAIL = 0.99
_BINS_PER_MS = 100

# Numerator and denominator of each query, in columns of `counted`.
_RATIOS: dict[Metric, tuple[str, str]] = {
    "conversion_rate": ("events > 0", "1"),
    "events_per_query": ("events", "1"),
    "value_per_query": ("value", "1"),
    "hit_rate": ("hits", "answers"),
    "fallback_rate": ("fallbacks", "answers"),
}


@contextmanager
def open_log(
    log: Path, events: Path | None, event_type: str | None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Opens a database with the views `exposures` and `outcomes`, times in microseconds."""
    exposures = log_files(log / EXPOSURES, EXPOSURE_SCHEMA.names)
    if not exposures:
        raise UserError(
            f"the log {log} has no exposure; give the log of a server that has answered, or wait "
            "until it writes."
        )
    columns = ["timestamp", "query_id", "item_id", *(["event_type"] if event_type else [])]
    outcomes = log_files(events or log / EVENTS, columns, is_own=events is None)
    if events is not None and not outcomes:
        raise UserError(f"{events} has no Parquet file; give a file or directory of events.")
    with (
        tempfile.TemporaryDirectory() as scratch,
        duckdb.connect(
            config={
                "temp_directory": scratch,
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
            }
        ) as database,
    ):
        # Times without a zone are UTC.
        database.execute("SET TimeZone = 'UTC'")
        database.read_parquet([str(f) for f in exposures], hive_partitioning=False).project(
            "*, epoch_us(timestamp) AS moment"
        ).create_view("exposures")
        if events is not None:
            outcomes = with_timestamps(outcomes, [*columns, "value"], Path(scratch))
        _view_outcomes(database, outcomes, event_type)
        yield database


def _view_outcomes(
    database: duckdb.DuckDBPyConnection, files: Sequence[Path], event_type: str | None
) -> None:
    if not files:
        database.execute(
            "CREATE VIEW outcomes AS SELECT '' AS query_id, '' AS item_id, 0::BIGINT AS moment, "
            "0::DOUBLE AS value WHERE false"
        )
        return
    # A column that only some files have, such as the value, is null in the others.
    events = database.read_parquet(
        [str(f) for f in files], hive_partitioning=False, union_by_name=True
    )
    if event_type is not None:
        events = events.filter(
            duckdb.ColumnExpression("event_type") == duckdb.ConstantExpression(event_type)
        )
    value = "value::DOUBLE" if "value" in events.columns else "0::DOUBLE"
    events.project(
        "query_id::VARCHAR AS query_id, item_id::VARCHAR AS item_id, "
        "epoch_us(timestamp) AS moment, "
        f"CASE WHEN isfinite({value}) THEN {value} ELSE 0 END AS value"
    ).create_view("outcomes")


def span(
    database: duckdb.DuckDBPyConnection, log: Path, experiment: Experiment
) -> tuple[datetime, datetime]:
    """Returns the first and the last exposure's time; all must be of the experiment."""
    groups = database.execute(
        "SELECT experiment, variant, min(moment), max(moment) FROM exposures "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    for name, variant, *_ in groups:
        if name != experiment.name or variant not in experiment.names:
            raise UserError(
                f"the log {log} has exposures of variant {variant!r} of experiment {name!r}, "
                f"expected {' or '.join(experiment.names)} of {experiment.name!r}; remove what "
                "does not belong to it."
            )
    if not groups:
        raise UserError(f"the log {log} has no exposure; wait until its server has answered.")
    first, last = min(group[2] for group in groups), max(group[3] for group in groups)
    return moment_of(first), moment_of(last)


def count_queries(database: duckdb.DuckDBPyConnection, window: int) -> None:
    """Makes the tables `answered`, of all queries, and `counted`, of valid ones with outcomes.

    Args:
        database: Database of the log.
        window: Microseconds from an answer to its outcomes.
    """
    database.execute(
        """
        CREATE TABLE answered AS
        SELECT query_id, min(variant) AS variant, count(*) AS answers,
               count_if(is_fallback) AS fallbacks, bool_or(is_override) AS is_overridden,
               min(variant) <> max(variant) AND NOT bool_or(is_override) AS is_contaminated
        FROM exposures GROUP BY query_id
        """
    )
    # An event is due to the latest answer before it that had the item. Only answers of queries with
    # an event are unnested: most have none.
    database.execute(
        """
        CREATE TABLE attributed AS
        WITH events AS (
            SELECT * FROM outcomes SEMI JOIN answered USING (query_id)
        ), recommended AS (
            SELECT query_id, moment, request_id, unnest(item_ids) AS item_id
            FROM exposures SEMI JOIN events USING (query_id)
        )
        SELECT events.query_id, events.value, recommended.moment, recommended.request_id
        FROM events ASOF JOIN recommended
            ON events.query_id = recommended.query_id AND events.item_id = recommended.item_id
            AND events.moment >= recommended.moment
        WHERE events.moment - recommended.moment <= $window
        """,
        {"window": window},
    )
    database.execute(
        """
        CREATE TABLE counted AS
        SELECT query_id, variant, answers, fallbacks, coalesce(events, 0) AS events,
               coalesce(value, 0) AS value, coalesce(hits, 0) AS hits
        FROM answered LEFT JOIN (
            SELECT query_id, count(*) AS events, sum(value) AS value,
                   count(DISTINCT (moment, request_id)) AS hits
            FROM attributed GROUP BY query_id
        ) USING (query_id)
        WHERE NOT is_contaminated AND NOT is_overridden
        """
    )


def estimates_of(
    database: duckdb.DuckDBPyConnection, experiment: Experiment
) -> dict[Metric, dict[str, Estimate]]:
    """Estimates each metric of each variant."""
    estimates: dict[Metric, dict[str, Estimate]] = {}
    for metric, (y, x) in _RATIOS.items():
        moments = _moments(database, f"SELECT variant, {y} AS y, {x} AS x FROM counted")
        estimates[metric] = {name: ratio(each) for name, each in moments.items()}
    estimates["latency_p99_ms"] = _tail_latencies(database)
    nothing = Estimate(None, None, 0)
    return {
        metric: {name: of.get(name, nothing) for name in experiment.names}
        for metric, of in estimates.items()
    }


def _moments(database: duckdb.DuckDBPyConnection, rows: str) -> dict[str, Moments]:
    """Computes the moments of each variant from rows with variant, y and x."""
    moments = database.execute(
        "SELECT variant, count(*), avg(y), avg(x), var_samp(y), var_samp(x), covar_samp(y, x) "
        f"FROM (SELECT variant, y::DOUBLE AS y, x::DOUBLE AS x FROM ({rows})) GROUP BY variant"
    ).fetchall()
    return {variant: Moments(*numbers) for variant, *numbers in moments}


def _tail_latencies(database: duckdb.DuckDBPyConnection) -> dict[str, Estimate]:
    """Estimates the quantile, with a variance for answers that come in clusters, one a query.

    The part of answers that are at most as slow is a ratio of sums over queries; the quantiles at
    both ends of its interval are the ends of the latency's (Deng et al. 2018, section 4).
    """
    # Rounded, so that the memory is that of the different latencies and not of the answers.
    bins = f"round(latency_ms * {_BINS_PER_MS})::BIGINT"
    answers = "exposures SEMI JOIN counted USING (query_id) WHERE isfinite(latency_ms)"
    rows = database.execute(
        f"SELECT variant, {bins} AS bin, count(*) FROM {answers} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    estimates = {}
    for variant in {row[0] for row in rows}:
        histogram = np.array([row[1:] for row in rows if row[0] == variant])
        tail = _quantile(histogram, _TAIL)
        moments = _moments(
            database,
            f"SELECT variant, count_if({bins} <= {tail}) AS y, count(*) AS x FROM {answers} "
            f"AND variant = '{variant}' GROUP BY variant, query_id",
        )[variant]
        estimates[variant] = _with_variance(histogram, tail, ratio(moments))
    return estimates


def _with_variance(histogram: Ints, tail: int, share: Estimate) -> Estimate:
    """Estimates a bin's latency in milliseconds from the part of answers that are no slower."""
    value = tail / _BINS_PER_MS
    if share.variance is None or histogram[:, 1].sum() * (1 - _TAIL) < 1:  # It is the slowest one.
        return Estimate(value, None, share.queries)
    reach = float(stats.norm.ppf(0.975)) * share.variance**0.5
    if _TAIL + reach >= 1:  # There are too few answers beyond.
        return Estimate(value, None, share.queries)
    width = _quantile(histogram, _TAIL + reach) - _quantile(histogram, _TAIL - reach)
    error = width / _BINS_PER_MS / (2 * float(stats.norm.ppf(0.975)))
    return Estimate(value, error**2, share.queries)


def _quantile(histogram: Ints, share: float) -> int:
    """Returns the first bin up to which there is that part of all answers.

    Args:
        histogram: Bin and count, [bins, 2], by bin.
        share: Part of all, between 0 and 1.
    """
    totals = np.cumsum(histogram[:, 1])
    return int(histogram[np.searchsorted(totals, share * totals[-1]), 0])
