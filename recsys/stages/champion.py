"""The verdict of an evaluation's page against the model in use."""

from pathlib import Path

from feature_store.core.errors import UserError
from pipelines.reports.opening import Verdict
from recsys.comparison.report import comparison_verdict
from recsys.comparison.runs import EvaluatedRun, find_run, read_rows
from recsys.comparison.statistics import compare_runs
from recsys.config.config import Config
from recsys.evaluation.per_query import PER_QUERY
from recsys.evaluation.results import EvaluationResult
from recsys.tracking import (
    existing_store,
    is_missing,
    registered_name,
    tracking_uri,
    unless_absent,
)


def champion_verdict(config: Config, result: EvaluationResult, evaluation: Path) -> list[Verdict]:
    """Returns the verdict on a new evaluation against the champion; none where there is none.

    Args:
        config: Configuration with the registered model and the store.
        result: Result of the evaluation.
        evaluation: Directory that has its rows.
    """
    try:
        champion = champion_run(config)
        if champion is None or champion == result.mlflow_run_id:
            return []
        now = EvaluatedRun("this model", read_rows(evaluation / PER_QUERY), None, result)
        comparison = compare_runs(find_run(champion, tracking_uri(config)), now)
    except UserError as error:  # An evaluation stands without a champion.
        return [_unknown(str(error))]
    if not comparison.is_of_most:
        return [_unknown("it was evaluated on other held-out items.")]
    return [comparison_verdict(comparison, "this model", "the champion")]


def _unknown(reason: str) -> Verdict:
    sentence = f"This model cannot be held against the champion: {reason}"
    todo = "`recsys export` measures the champion on this test, too, and compares the two."
    return Verdict("cannot tell", sentence, todo=todo)


def champion_run(config: Config) -> str | None:
    """Returns the MLflow run that trained the champion; None where there is no champion.

    Raises:
        UserError: The store does not answer.
    """
    uri, name = tracking_uri(config), registered_name(config)
    if is_missing(uri):
        return None
    with existing_store(uri, f"cannot read the champion of {name}") as client:
        model = unless_absent(client.get_registered_model, name)
        version = dict(model.aliases).get("champion") if model is not None else None
        return None if version is None else str(client.get_model_version(name, version).run_id)
