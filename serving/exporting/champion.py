"""The metrics that a bundle records, and the comparison of its model with the champion."""

from collections.abc import Callable

from feature_store.core.documents import read_record
from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, write_json, write_text
from feature_store.core.manifests import read_manifest, write_manifest, written_as
from feature_store.core.settings import Frozen
from pipelines.reports.format import Figures
from pipelines.reports.html import render_page
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.comparison.compare import PAGE, RESULT, titles_of
from recsys.comparison.report import comparison_page
from recsys.comparison.result import Comparison
from recsys.comparison.runs import EvaluatedRun, find_run
from recsys.comparison.statistics import compare_runs
from recsys.config.config import Config
from recsys.evaluation.results import METRICS_JSON, EvaluationResult
from recsys.stages.evaluated import EvaluationManifest
from recsys.tracking import tracking_uri
from serving.bundle.manifest import BundleManifest
from serving.exporting.gate import GateError
from serving.registry.registry import champion_manifest

Metrics = dict[str, dict[str, float]]


class ChampionEvaluation(Frozen):
    """Manifest of the champion's evaluation on the data of another model.

    Attributes:
        seal: Seal of the champion.
        evaluation: Fingerprint of the evaluation of the model that it is compared with.
    """

    version: int = 1
    seal: str
    evaluation: str


class Judgement(Frozen):
    """Manifest of a comparison with the champion.

    Attributes:
        champion: MLflow run of the champion's training.
        champion_seal: Seal of the champion.
        evaluation: Fingerprint of the evaluation of the new model.
        training_fingerprint: Fingerprint of the new training.
        is_of_same_data: Whether the champion was evaluated on this data; otherwise its own
            evaluation has most queries in common.
        comparison: Comparison of the champion with the new model.
    """

    version: int = 1
    champion: str
    champion_seal: str
    evaluation: str
    training_fingerprint: str
    is_of_same_data: bool
    comparison: Comparison

    def sentence(self) -> str:
        """Returns the verdict in words, where A is the champion and B the new model."""
        return self.comparison.sentence()


_IS_OWN = written_as(Judgement)


def recorded_metrics(config: Config, trained: TrainManifest) -> tuple[Metrics, Metrics]:
    """Returns overall metrics by split, and those of the test by slice if this was evaluated."""
    metrics, result = {"validation": trained.validation}, evaluated_result(config, trained)
    if result is None:
        return metrics, {}
    metrics["test"] = _numbers(result.overall)
    return metrics, {name: _numbers(figures) for name, figures in result.slices.items()}


def evaluated_result(config: Config, trained: TrainManifest) -> EvaluationResult | None:
    """Returns the evaluation of a training; None where it was not evaluated."""
    path = config.evaluation_dir / METRICS_JSON
    if not path.exists():
        return None
    result = read_record(path, EvaluationResult)
    return result if result.mlflow_run_id == trained.mlflow_run_id else None


def _numbers(figures: Figures) -> dict[str, float]:
    """Flattens figures: intervals become `recall@10_low` and `recall@10_high`."""
    numbers: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, tuple):
            stem = name.removesuffix("_ci")
            numbers |= {f"{stem}_low": value[0], f"{stem}_high": value[1]}
        elif value is not None:
            numbers[name] = value
    return numbers


def judge(config: Config, trained: TrainManifest, say: Callable[[str], None]) -> Judgement | None:
    """Compares a model with the champion on the same held-out items, or reads the result.

    Args:
        config: Configuration with the evaluation of the model.
        trained: Manifest of the evaluated training.
        say: Function called with the reason why there is no comparison.

    Returns:
        The comparison, which is also in `config.comparison_dir`; None where there is no champion,
        it is this model, or the two cannot be compared.
    """
    champion = champion_manifest(config)
    if champion is None or champion.training_fingerprint == trained.fingerprint:
        return None
    if champion.repeats != config.data.repeats:
        say(
            f"it was evaluated with data.repeats: {champion.repeats}, so its figures are of "
            "another task"
        )
        return None
    evaluation = read_manifest(config.evaluation_dir, EvaluationManifest)
    if evaluation is None or evaluation.training_fingerprint != trained.fingerprint:
        say("the new model was not evaluated (`recsys evaluate`)")
        return None
    done = read_manifest(config.comparison_dir, Judgement)
    identity = champion.seal, evaluation.fingerprint
    if done is not None and (done.champion_seal, done.evaluation) == identity:
        return done
    found = _rows_of(config, champion, evaluation)
    if found is None:
        say("its evaluation was not kept")
        return None
    return _compared(config, trained, champion, evaluation, found, say)


def _compared(
    config: Config,
    trained: TrainManifest,
    champion: BundleManifest,
    evaluation: EvaluationManifest,
    found: tuple[EvaluatedRun, bool],
    say: Callable[[str], None],
) -> Judgement | None:
    rows, is_of_same_data = found
    now = find_run(str(config.evaluation_dir))
    try:
        comparison = compare_runs(rows, now, metric=config.evaluation.select_by)
    except UserError:  # They have no query with the same held-out items, or other metrics.
        comparison = None
    if comparison is None or not comparison.is_of_most:
        say("it was evaluated on other held-out items")
        return None
    judgement = Judgement(
        champion=champion.mlflow_run_id,
        champion_seal=champion.seal,
        evaluation=evaluation.fingerprint,
        training_fingerprint=trained.fingerprint,
        is_of_same_data=is_of_same_data,
        comparison=comparison,
    )
    with directory_written_atomically(config.comparison_dir, _IS_OWN) as directory:
        page = comparison_page(comparison, titles_of(now))
        write_text(directory / PAGE, render_page(page))
        write_json(directory / RESULT, comparison.model_dump(mode="json"))
        write_manifest(directory, judgement)
    return judgement


def _rows_of(
    config: Config, champion: BundleManifest, evaluation: EvaluationManifest
) -> tuple[EvaluatedRun, bool] | None:
    """Finds the champion's rows, and whether they are of this data; None where there are none."""
    done = read_manifest(config.champion_dir, ChampionEvaluation)
    try:
        if done is not None and (done.seal, done.evaluation) == (
            champion.seal,
            evaluation.fingerprint,
        ):
            return find_run(str(config.champion_dir)), True
        return find_run(champion.mlflow_run_id, tracking_uri(config)), False
    except UserError:
        return None


def require_not_worse(judgement: Judgement | None) -> None:
    """Refuses a model that is worse than the champion, with a `GateError`."""
    if judgement is None or not judgement.comparison.is_worse:
        return
    raise GateError(
        f"the model is worse than the champion (A): {judgement.sentence()}: nothing was exported; "
        "the champion stays."
    )
