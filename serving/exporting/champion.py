"""The metrics that a bundle records, and their comparison with the champion's."""

from rich.console import Console

from feature_store.core.documents import read_record
from pipelines.reports.format import Figures
from recsys.config.config import Config
from recsys.evaluation.results import METRICS_JSON, EvaluationResult
from recsys.stages.train import TrainManifest
from serving.exporting.gate import changes_against
from serving.registry.registry import champion_manifest, registered_name

Metrics = dict[str, dict[str, float]]


def recorded_metrics(config: Config, trained: TrainManifest) -> tuple[Metrics, Metrics]:
    """Returns overall metrics by split, and those of the test by slice if this was evaluated."""
    metrics = {"validation": trained.validation}
    path = config.evaluation_dir / METRICS_JSON
    if not path.exists():
        return metrics, {}
    result = read_record(path, EvaluationResult)
    if result.mlflow_run_id != trained.mlflow_run_id:
        return metrics, {}
    metrics["test"] = _numbers(result.overall)
    return metrics, {name: _numbers(figures) for name, figures in result.slices.items()}


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


def against_champion(
    config: Config, trained: TrainManifest, slices: Metrics, console: Console
) -> tuple[str | None, dict[str, float]]:
    """Returns the champion's run, and the changes of each slice."""
    champion = champion_manifest(config)
    if champion is None or champion.training_fingerprint == trained.fingerprint:
        return None, {}
    if champion.repeats != config.data.repeats:
        console.print(
            f"export: not compared with the champion: it was evaluated with data.repeats: "
            f"{champion.repeats}, so its figures are of another task; `recsys promote "
            f"{registered_name(config)}` makes this model the champion",
            highlight=False,
            soft_wrap=True,
        )
        return None, {}
    if not slices or not champion.slices:
        console.print("export: not compared with the champion: run `recsys evaluate` first")
        return None, {}
    changes = changes_against(champion.slices, slices, config.export.tolerance)
    return champion.mlflow_run_id, changes
