"""The `compare` command: a verdict on two evaluated runs, as a page and as JSON."""

from pathlib import Path

from feature_store.core.files import require_replaceable, write_json, write_text
from feature_store.core.manifests import written_as
from pipelines.reports.html import render_page
from recsys.comparison.report import comparison_page
from recsys.comparison.result import Comparison
from recsys.comparison.runs import EvaluatedRun, find_run
from recsys.comparison.statistics import compare_runs

PAGE, RESULT = "comparison.html", "comparison.json"


def compare(
    before: str,
    after: str,
    output: Path | None = None,
    *,
    metric: str | None = None,
    level: float = 0.05,
) -> Comparison:
    """Compares two evaluated runs query by query.

    Args:
        before: Output directory of an evaluated configuration, or the id of its run in MLflow.
        after: Output directory or run id of the model that may replace it.
        output: Directory for `comparison.html` and `comparison.json`; None: nothing is written.
        metric: Metric of the verdict; None: recall@50, and recall@10 of a small catalogue.
        level: Significance level.

    Raises:
        UserError: There is no such run, the two have no queries in common, or the output holds
            something else.
    """
    if output is not None:
        require_replaceable(output, written_as(Comparison, RESULT))
    first, second = find_run(before), find_run(after)
    result = compare_runs(first, second, metric=metric, level=level)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        titles = {**titles_of(second), **titles_of(first)}
        # The result marks the directory as this command's, which a killed one is to find again.
        write_json(output / RESULT, result.model_dump(mode="json"))
        write_text(output / PAGE, render_page(comparison_page(result, titles)))
    return result


def titles_of(run: EvaluatedRun) -> dict[str, str]:
    """Returns the titles of items by id."""
    if run.titles is None:
        return {}
    ids, titles = (run.titles[name].to_pylist() for name in ("item_id", "title"))
    return dict(zip(ids, titles, strict=True))
