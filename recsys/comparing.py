"""The `compare` command: two evaluated runs to a verdict, a page and JSON."""

from pathlib import Path

from feature_store.errors import UserError
from feature_store.storage import read_manifest, write_json, write_text
from pipelines.prepared import Prepared
from recsys.compare_report import render_comparison
from recsys.evaluated_runs import EvaluatedRun, find_run
from recsys.run_comparison import Comparison, compare_runs
from recsys.titles import item_titles
from recsys.training_manifest import TrainManifest

PAGE, RESULT = "comparison.html", "comparison.json"


def compare(
    before: str,
    after: str,
    output: Path | None = None,
    *,
    metric: str = "recall@50",
    level: float = 0.05,
) -> Comparison:
    """Compares two evaluated runs query by query.

    Args:
        before: The output of a configuration that was evaluated, or the id of its run in MLflow.
        after: Of the model that may replace it.
        output: For `comparison.html` and `comparison.json`; None: nothing is written.
        metric: Of the verdict.
        level: Of significance.

    Raises:
        UserError: There is no such run, or the two were not asked the same.
    """
    first, second = find_run(before), find_run(after)
    result = compare_runs(first, second, metric=metric, level=level)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        titles = {**_titles(second), **_titles(first)}
        write_text(output / PAGE, render_comparison(result, titles))
        write_json(output / RESULT, result.model_dump(mode="json"))
    return result


def _titles(run: EvaluatedRun) -> dict[str, str]:
    """Of items by id, where the run's data is still on this machine."""
    if run.output is None:
        return {}
    try:
        trained = read_manifest(run.output / "train", TrainManifest)
        if trained is None:
            return {}
        prepared = Prepared(run.output / "prepared")
        titles = item_titles(trained.config, prepared)
    except UserError:  # They only adorn the page.
        return {}
    if titles is None:
        return {}
    ids = prepared.item_encoder.ids.tokens.to_pylist()
    return dict(zip(ids, titles.to_pylist(), strict=True))
