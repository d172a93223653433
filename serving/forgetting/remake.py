"""The stages once more, without forgotten ids: what held them is replaced, not mended.

A model is trained from scratch, because whatever a model has learnt of somebody is in all of its
weights.
"""

from datetime import datetime

from rich.console import Console

from feature_store.core.errors import UserError
from recsys.config.config import Config
from recsys.stages.evaluate import evaluate
from recsys.stages.materialize import materialize
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from recsys.tracking import registered_name as name_of
from recsys.tracking import tracking_uri
from serving.bundle.manifest import BundleManifest
from serving.exporting.export import export
from serving.nightly.adopt import adopt
from serving.nightly.days import Days
from serving.registry.registry import CHAMPION, current_seals, promote, version_of_seal


def stages_of(config: Config) -> list[str]:
    """Returns the stages that have written something, in order."""
    is_served = config.bundle_dir.exists() or bool(current_seals(config))
    is_evaluated = is_served or config.evaluation_dir.exists()
    is_trained = is_evaluated or config.train_dir.exists()
    has_run = {
        "prepare": is_trained or config.prepared_dir.exists(),
        "materialize": config.feature_store_dir.exists(),
        "train": is_trained,
        "evaluate": is_evaluated,
        "export": is_served,
    }
    return [stage for stage, was in has_run.items() if was]


def remake(
    config: Config, stages: list[str], days: Days, console: Console
) -> BundleManifest | None:
    """Runs the stages, unless they are done, and makes the new model the champion.

    Args:
        config: Configuration of the system.
        stages: Stages to run; see `stages_of`.
        days: Days, whose champion it becomes.
        console: Console to show progress on.

    Returns:
        The manifest of the new bundle; None where none is served.

    Raises:
        UserError: A stage refuses; what was there before is still served.
    """
    scratch = {"start": "scratch", "replay": None}
    training = config.training.model_copy(update=scratch)
    config = config.model_copy(update={"training": training})
    finished = days.finished()
    as_of = datetime.fromisoformat(finished[-1].as_of) if finished else None
    bundle = None
    for stage in stages:
        if stage == "prepare":
            passed_over = days.suspects() if finished else ()
            prepare(config, as_of=as_of, passed_over=passed_over, console=console)
        elif stage == "materialize":
            materialize(config, console=console)
        elif stage == "train":
            train(config, console=console)
        elif stage == "evaluate":
            evaluate(config, console=console)
        else:
            # The champion must go, for it knows them.
            bundle = export(config, may_be_worse=True, console=console)
    if bundle is not None:
        _serve(config, bundle, days, console)
    return bundle


def _serve(config: Config, bundle: BundleManifest, days: Days, console: Console) -> None:
    """Makes a bundle the champion, although none may have been there to compare it with."""
    version = version_of_seal(config, bundle.seal)
    if version is None:
        raise UserError(
            f"the new bundle is not registered as {name_of(config)}, for its training is in "
            "another MLflow store; the earlier versions stay: name that store in tracking.uri."
        )
    if current_seals(config).get(CHAMPION) != bundle.seal:
        uri = tracking_uri(config)
        promotion = promote(name_of(config), version=version, tracking_uri=uri)
        console.print(f"forget: {promotion.sentence()}", highlight=False)
    if days.finished():
        adopt(config, days, bundle)
        days.point_latest(bundle.seal)
