"""The sections of a run by the keys of their addresses."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from feature_store.core.errors import UserError
from pipelines.reports.opening import Opening, Verdict
from pipelines.reports.parts import Section
from recsys.comparison.report import (
    comparison_verdict,
    differences_table,
    example_entry,
    verdict_parts,
)
from recsys.comparison.result import Comparison
from recsys.comparison.runs import EvaluatedRun, read_rows
from recsys.comparison.statistics import compare_runs
from recsys.reports.data import data_section
from recsys.reports.item_map import map_section
from recsys.reports.long_tail import tail_section
from recsys.reports.lookup import examples_section, similar_section
from recsys.reports.opening import run_opening
from recsys.reports.ranking import ranking_section
from recsys.reports.results import results_section
from recsys.reports.run.run_data import RunData
from recsys.reports.slices import slices_section
from recsys.reports.training import speed_parts, ssl_section, training_section

# Comparisons that are kept: they take seconds.
_KEPT = 16


def _training(run: RunData) -> Section:
    section = training_section(run.curves)
    return Section(section.key, section.title, [*section.parts, *speed_parts(run.curves)])


SECTIONS: dict[str, tuple[str, Callable[[RunData], Section]]] = {
    "results": ("Results", results_section),
    "ranking": ("Ranking", ranking_section),
    "slices": ("Slices", slices_section),
    "tail": ("Long tail", tail_section),
    "training": ("Training", _training),
    "ssl": ("Self-supervision", ssl_section),
    "map": ("Item map", map_section),
    "examples": ("Recommendations", examples_section),
    "similar": ("Similar items", similar_section),
    "data": ("Data and drift", data_section),
}


@lru_cache(maxsize=_KEPT)
def compared(before: RunData, after: RunData) -> Comparison:
    """Compares two runs query by query; what was compared lately is kept.

    Args:
        before: Run in use, A.
        after: Run that may replace it, B.

    Raises:
        UserError: A run was not evaluated, or the two have no query in common.
    """

    def evaluated(run: RunData) -> EvaluatedRun:
        if run.queries is None:
            raise UserError(f"run {run.name} has no evaluation; run `recsys evaluate` on it first.")
        return EvaluatedRun(run.name, read_rows(run.queries.path), result=run.result)

    return compare_runs(evaluated(before), evaluated(after))


def tests_of(against: RunData, run: RunData) -> dict[tuple[str, str], float | None]:
    """Returns p by group and metric; empty where the two cannot be compared."""
    try:
        return {(row.group, row.metric): row.adjusted_p for row in compared(against, run).rows}
    except UserError:
        return {}


def champion_verdict(champion: RunData, run: RunData) -> Verdict:
    """Returns the verdict on a run against the champion."""
    name = f"the champion, {champion.name}"
    try:
        return comparison_verdict(compared(champion, run), "this run", name)
    except UserError as error:
        return Verdict("cannot tell", f"This run cannot be held against {name}: {error}")


def in_use(verdict: Verdict) -> Verdict:
    """Returns the verdict on the champion, which nobody has to compare and export any more."""
    return replace(verdict, todo="") if verdict.mark == "better" else verdict


def opening_of(run: RunData, champion: RunData | None) -> list[Opening]:
    """Returns the verdicts against the best baseline and the champion, and the checks.

    Args:
        run: Run to show.
        champion: Run in use, which may be the same one; None where there is none.
    """
    first, *checks = run_opening(run)
    if champion is None or run.result is None:
        return [first, *checks]
    if champion.run_id == run.run_id:
        return [in_use(first) if isinstance(first, Verdict) else first, *checks]
    return [first, champion_verdict(champion, run), *checks]


def comparison_section(comparison: Comparison, before: RunData, after: RunData) -> Section:
    """Returns the differences of B to A, and the queries that win and lose.

    Args:
        comparison: Comparison of the two.
        before: Run in use, A.
        after: Run that may replace it, B.
    """
    examples = [*comparison.gains, *comparison.losses]
    items = after.items or before.items
    ids = list({i for query in examples for i in (*query.before, *query.after, *query.held_out)})
    titles = {} if items is None else dict(zip(ids, items.titles(ids), strict=True))
    parts = [
        *verdict_parts(comparison),
        differences_table(comparison),
        *(example_entry(query, titles) for query in examples),
    ]
    return Section("compare", f"B, {after.name}, against A, {before.name}", parts)
