"""The sections of a run by the keys of their addresses."""

from collections.abc import Callable

from feature_store.core.errors import UserError
from feature_store.core.tables import read_table
from pipelines.reports.parts import Section
from recsys.comparison.report import differences_table, example_entry, verdict_parts
from recsys.comparison.runs import EvaluatedRun
from recsys.comparison.statistics import compare_runs
from recsys.reports.data import data_section
from recsys.reports.item_map import map_section
from recsys.reports.long_tail import tail_section
from recsys.reports.lookup import examples_section, similar_section
from recsys.reports.ranking import ranking_section
from recsys.reports.results import results_section
from recsys.reports.run.run_data import RunData
from recsys.reports.slices import slices_section
from recsys.reports.training import speed_parts, ssl_section, training_section


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


def comparison_section(before: RunData, after: RunData) -> Section:
    """Returns the verdict on B against A, their differences, and the queries that win and lose.

    Args:
        before: Run in use, A.
        after: Run that may replace it, B.

    Raises:
        UserError: A run was not evaluated, or the two have no query in common.
    """

    def evaluated(run: RunData) -> EvaluatedRun:
        if run.queries is None:
            raise UserError(f"run {run.name} has no evaluation; run `recsys evaluate` on it first.")
        return EvaluatedRun(run.name, read_table(run.queries.path))

    comparison = compare_runs(evaluated(before), evaluated(after))
    examples = [*comparison.gains, *comparison.losses]
    items = after.items or before.items
    ids = list({i for query in examples for i in (*query.before, *query.after)})
    titles = {} if items is None else dict(zip(ids, items.titles(ids), strict=True))
    parts = [
        *verdict_parts(comparison),
        differences_table(comparison),
        *(example_entry(query, titles) for query in examples),
    ]
    return Section("compare", f"B, {after.name}, against A, {before.name}", parts)
