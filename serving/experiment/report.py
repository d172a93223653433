"""The `ab-report` command: is a variant better than the control, and how sure is that?

The unit of analysis is the query, for queries are assigned: each one that was answered counts for
the variant that it was assigned to (intention to treat). An outcome is an event of
the query on an item that it was recommended, at most a window after it last was.

    conversion_rate     queries with an outcome, over queries
    events_per_query    outcomes, over queries
    value_per_query     values of outcomes, over queries
    hit_rate            answers with an outcome, over answers
    fallback_rate       answers by popularity, over answers
    latency_p99_ms      latency that 99 % of answers do not exceed
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
from scipy import stats

from feature_store.core.errors import UserError
from feature_store.core.files import require_replaceable, write_json, write_text
from feature_store.core.manifests import written_as
from feature_store.core.times import HOUR
from recsys.evaluation.significance import holm
from serving.experiment.experiment import OUTCOME_METRICS, Experiment, Metric, read_experiment
from serving.experiment.outcomes import count_queries, estimates_of, open_log, span
from serving.experiment.result import AbReport, Comparison, Sample, Verdict, is_mismatch
from serving.experiment.statistics import Estimate, Lift, RailCheck, check_rail, lift

PAGE, RESULT = "ab_report.html", "ab_report.json"

# Least number of expected queries for the chi-square test.
_MIN_EXPECTED = 5


def ab_report(
    log: Path,
    *,
    events: Path | None = None,
    window_hours: float = 24,
    event_type: str | None = None,
    output: Path | None = None,
    level: float = 0.05,
) -> AbReport:
    """Measures an A/B test by its log.

    The log may be larger than the memory: DuckDB reads it in parts and spills to the directory of
    temporary files.

    Args:
        log: Directory of an `ExposureLog`.
        events: Outcomes from elsewhere, a Parquet file or a directory of them with `timestamp`,
            `query_id`, `item_id` and perhaps `value`. None: those of the log.
        window_hours: Hours from the latest answer that recommends an item to an event on it.
        event_type: Type of the events that count; None: all.
        output: Directory for `ab_report.html` and `ab_report.json`; None: nothing is written.
        level: Level of significance, of all outcomes and variants together.

    Raises:
        UserError: There is no such log, it holds no exposure, it cannot be read, or the output
            holds something else.
    """
    if output is not None:
        require_replaceable(output, written_as(AbReport, RESULT))
    from pipelines.reports.html import render_page
    from serving.experiment.page import ab_page

    experiment = read_experiment(log)
    try:
        with open_log(log, events, event_type) as database:
            first, last = span(database, log, experiment)
            count_queries(database, int(window_hours * HOUR))
            samples = _samples(database, experiment)
            left_out = database.execute(
                "SELECT count_if(is_contaminated), count_if(is_overridden) FROM answered"
            ).fetchone()
            estimates = estimates_of(database, experiment)
    except duckdb.Error as error:
        raise UserError(
            f"DuckDB cannot read the log {log} ({str(error).splitlines()[0]}); remove the damaged "
            "file, or give it more memory or room for temporary files."
        ) from error
    assert left_out is not None
    sample_ratio_p = _sample_ratio_p(samples)
    report = AbReport(
        experiment=experiment.name,
        window_hours=window_hours,
        event_type=event_type,
        level=level,
        first_exposure=first,
        last_exposure=last,
        samples=samples,
        sample_ratio_p=sample_ratio_p,
        contaminated=left_out[0],
        overridden=left_out[1],
        comparisons=_comparisons(experiment, estimates, level, is_mismatch(sample_ratio_p)),
        query=experiment.query,
    )
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        # The result marks the directory as this command's, which a killed one is to find again.
        write_json(output / RESULT, report.model_dump(mode="json"))
        write_text(output / PAGE, render_page(ab_page(report)))
    return report


def _comparisons(
    experiment: Experiment,
    estimates: dict[Metric, dict[str, Estimate]],
    level: float,
    is_mismatch: bool,
) -> tuple[Comparison, ...]:
    control, *others = experiment.names
    lifts = {
        (name, metric): lift(metric, of[control], of[name], level)
        for name in others
        for metric, of in estimates.items()
    }
    comparisons = []
    adjusted = _adjusted(lifts, level)
    for name in others:
        lifts_of = tuple(adjusted[name, metric] for metric in estimates)
        checks = tuple(
            check_rail(rail, estimates[rail.metric][control], estimates[rail.metric][name], level)
            for rail in experiment.guard_rails
        )
        verdict = "do not trust" if is_mismatch else _verdict(lifts_of, checks)
        comparisons.append(
            Comparison(variant=name, verdict=verdict, lifts=lifts_of, guard_rails=checks)
        )
    return tuple(comparisons)


def _adjusted(
    lifts: dict[tuple[str, Metric], Lift], level: float
) -> dict[tuple[str, Metric], Lift]:
    """Adjusts p of the outcomes; service metrics have their guard-rails."""
    is_outcome = [metric in OUTCOME_METRICS for _, metric in lifts]
    outcomes = [each.p if of else None for each, of in zip(lifts.values(), is_outcome, strict=True)]
    adjusted = {}
    for (key, each), of, holm_p in zip(lifts.items(), is_outcome, holm(outcomes), strict=True):
        p = holm_p if of else each.p
        is_significant = p is not None and p < level
        adjusted[key] = each.model_copy(update={"adjusted_p": p, "is_significant": is_significant})
    return adjusted


def _verdict(lifts: Sequence[Lift], checks: Sequence[RailCheck]) -> Verdict:
    if any(check.state == "broken" for check in checks):
        return "guard-rail broken"
    signs = {
        (each.absolute.value or 0) > 0
        for each in lifts
        if each.is_significant and each.metric in OUTCOME_METRICS
    }
    if not signs:
        return "no difference"
    if len(signs) > 1:
        return "mixed"
    return "better" if True in signs else "worse"


def _samples(database: duckdb.DuckDBPyConnection, experiment: Experiment) -> tuple[Sample, ...]:
    rows = database.execute(
        "SELECT variant, count(*), sum(answers)::BIGINT, sum(events)::BIGINT "
        "FROM counted GROUP BY variant"
    ).fetchall()
    counts_of = {variant: counts for variant, *counts in rows}
    samples = []
    for variant in experiment.variants:
        queries, answers, events = counts_of.get(variant.name, (0, 0, 0))
        samples.append(
            Sample(
                variant=variant.name,
                share=variant.share,
                queries=queries,
                answers=answers,
                events=events,
            )
        )
    return tuple(samples)


def _sample_ratio_p(samples: Sequence[Sample]) -> float | None:
    shares = np.array([sample.share for sample in samples])
    counts = np.array([sample.queries for sample in samples])
    expected = counts.sum() * shares / shares.sum()
    if expected.min() < _MIN_EXPECTED:
        return None
    return float(stats.chisquare(counts, expected).pvalue)
