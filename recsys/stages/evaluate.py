"""The `evaluate` stage: exact full-corpus metrics by slice, beside baselines, and a report."""

from rich.console import Console

from feature_store.core.documents import read_record
from feature_store.core.files import require_replaceable
from feature_store.core.locks import locked, reading
from feature_store.core.manifests import read_manifest, written_as
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.evaluation.results import METRICS_JSON, EvaluationResult
from recsys.stages.evaluated import EvaluationManifest, evaluation_fingerprint


def evaluate(config: Config, *, console: Console | None = None) -> EvaluationResult:
    """Measures the trained model on the test split, or returns at once where that is already done.

    Args:
        config: Configuration whose data is prepared and whose model is trained.
        console: Console to show progress on.

    Returns:
        What `metrics.json` in `config.evaluation_dir` holds, beside `report.html`.

    Raises:
        UserError: There is no trained model, or it is of other data than is prepared.
    """
    console = console or Console()
    require_replaceable(config.evaluation_dir, written_as(EvaluationManifest))
    with reading(config.prepared_dir, config.train_dir):
        if (done := _up_to_date(config, console)) is not None:
            return done
        # It is imported here because its engines take seconds.
        from recsys.stages.measure import measure_model

        with locked(config.evaluation_dir):  # Another process may have written it meanwhile.
            return _up_to_date(config, console) or measure_model(config, console)


def _up_to_date(config: Config, console: Console) -> EvaluationResult | None:
    """Returns the result where exactly this is already measured."""
    prepared = Prepared(config.prepared_dir)
    prepared.require_repeats(config.data.repeats)
    trained = read_manifest(config.train_dir, TrainManifest)
    done = read_manifest(config.evaluation_dir, EvaluationManifest)
    if trained and done and done.fingerprint == evaluation_fingerprint(config, prepared, trained):
        console.print(f"evaluate: {config.evaluation_dir} is up to date")
        path = config.evaluation_dir / METRICS_JSON
        return read_record(path, EvaluationResult)
    return None
