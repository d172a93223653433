"""The `refit` step of an export: the evaluated model once more, from all events.

What is evaluated has not seen the validation and the test, which are the latest events where a
split is by time. So the model that is served is trained anew on all events, for as many steps as
the evaluated checkpoint, and channels are fitted to all of them; settings that were found on
validation (steps, weights, half-life) stay. Histories reach to the last event. Nothing is held out
for it: the evaluated model is the evidence.

    <output>/refit/    prepared/, train/ and fusion/ as below <output>
"""

from datetime import datetime
from pathlib import Path

from rich.console import Console

from feature_store.core.errors import UserError
from feature_store.core.manifests import read_manifest
from feature_store.forgotten import Forgotten
from pipelines.executor import executor_named
from pipelines.prepare.prepare import prepare
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.stages.fuse import fuse
from recsys.stages.train import train
from recsys.tracking import tracking_uri


def refit_config(config: Config) -> Config:
    """Returns the configuration of the refit: another output with the same MLflow store."""
    tracking = config.tracking.model_copy(update={"uri": tracking_uri(config)})
    output = str(Path(config.output) / "refit")
    return config.model_copy(update={"output": output, "tracking": tracking})


def refit(config: Config, *, console: Console | None = None) -> Config:
    """Prepares, trains and fits the channels once more, or returns at once where that is done.

    Args:
        config: Configuration whose training is finished.
        console: Console to show progress on.

    Returns:
        The configuration below whose output the model is.

    Raises:
        UserError: There is no trained model, or a stage refuses.
    """
    console = console or Console()
    evaluated = read_manifest(config.train_dir, TrainManifest)
    if evaluated is None:
        raise UserError(f"{config.train_dir} holds no trained model; run `recsys train` first.")
    log = Prepared(config.prepared_dir).manifest
    until = f" to {log.last_event[:16].replace('T', ' ')} UTC" if log.last_event else ""
    console.print(
        f"refit: training {evaluated.best_step:,} steps on all events{until}, those of validation "
        "and test, too",
        highlight=False,
        soft_wrap=True,
    )
    again = refit_config(config)
    prepare(
        config.data,
        config.features,
        again.prepared_dir,
        executor=executor_named(config.executor),
        as_of=datetime.fromisoformat(log.as_of),
        forgotten=Forgotten.load(config.forgotten_path),
        refit_of=config.prepared_dir,
        passed_over=log.passed_over,
        console=console,
    )
    train(again, refit_of=evaluated, console=console)
    if config.ranking.channels:
        fuse(again, refit_of=fuse(config, console=console), console=console)
    return again
