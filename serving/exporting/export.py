"""The `export` stage: a sealed bundle of a trained model that passes the gate."""

from contextlib import suppress
from functools import partial

from rich.console import Console

from feature_store.core.errors import UserError
from feature_store.core.files import require_replaceable
from feature_store.core.locks import locked, reading
from feature_store.core.manifests import read_manifest, written_as
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.tracking import registered_name
from serving.bundle.manifest import BundleManifest, verify
from serving.bundle.manifest import read_manifest as read_bundle_manifest
from serving.exporting.champion import Judgement, judge, require_not_worse
from serving.exporting.fingerprint import bundle_fingerprint
from serving.registry.registry import register

_IS_OWN = written_as(BundleManifest)


def export(
    config: Config, *, may_be_worse: bool = False, console: Console | None = None
) -> BundleManifest:
    """Writes the bundle of the trained model, or returns at once where that is already there.

    Nothing is written, and an earlier bundle stays, unless the gate is passed: the evaluated model
    not worse than the champion, all vectors finite, exported and trained towers equal, and the
    index good enough. With `config.refits` the model is
    trained once more before, on all events, and the snapshot of queries reaches to the last one.
    Otherwise the snapshot is what the test was made with: their history before it, and their items
    of training and validation; beside it are their items of the test, for these are no answers any
    more.

    Args:
        config: Configuration whose training is finished.
        may_be_worse: Whether the model may be worse than the champion.
        console: Console of progress.

    Returns:
        The manifest of `config.bundle_dir`.

    Raises:
        UserError: There is no finished training, the gate is not passed, or the bundle's directory
            holds something else.
    """
    console = console or Console()
    require_replaceable(config.bundle_dir, _IS_OWN)
    inputs = (config.prepared_dir, config.train_dir, config.evaluation_dir)
    with reading(*inputs, config.bundle_dir):
        bundle = _up_to_date(config)
        if bundle is not None:
            console.print(f"export: {config.bundle_dir} is up to date")
            _register(config, bundle, console)
            return bundle
    judgement = _judged(config, console)
    if not may_be_worse:
        require_not_worse(judgement)
    # They are imported here because their engines take seconds.
    from recsys.stages.refit import refit
    from serving.exporting.bundling import write_bundle

    served = refit(config, console=console) if config.refits else config
    with (
        reading(*inputs, served.prepared_dir, served.train_dir),
        locked(config.bundle_dir),  # Another process may have written it meanwhile.
    ):
        bundle = _up_to_date(config) or write_bundle(config, served, judgement, console)
        _register(config, bundle, console)
        return bundle


def _up_to_date(config: Config) -> BundleManifest | None:
    """Returns the manifest of the bundle where it is exactly this one, and intact."""
    finished = read_manifest(config.train_dir, TrainManifest)
    with suppress(UserError):
        bundle = read_bundle_manifest(config.bundle_dir)
        if finished is None or bundle.fingerprint != bundle_fingerprint(config, finished):
            return None
        if bundle.repeats == config.data.repeats:
            return verify(config.bundle_dir)
    return None


def _judged(config: Config, console: Console) -> Judgement | None:
    """Compares the evaluated model with the champion, before anything is spent on a worse one."""
    evaluated = read_manifest(config.train_dir, TrainManifest)
    if evaluated is None:
        raise UserError(f"{config.train_dir} holds no trained model; run `recsys train` first.")
    say = partial(console.print, "export:", highlight=False, soft_wrap=True)
    judgement = judge(config, evaluated, lambda why: say(not_compared(config, why)))
    if judgement is not None:
        say(f"compared with the champion (A): {judgement.sentence()}")
    return judgement


def not_compared(config: Config, why: str) -> str:
    """Formats why a model was not compared with the champion, and what to do about it."""
    return (
        f"not compared with the champion: {why}; `recsys promote {registered_name(config)}` makes "
        "this model the champion"
    )


def _register(config: Config, bundle: BundleManifest, console: Console) -> None:
    """Registers a bundle unless it is; a run that was killed before makes up for it."""
    registered = register(config, bundle, config.bundle_dir)
    if registered is not None:
        console.print(f"export: {registered.sentence()}")
        return
    console.print(
        "export: the bundle is not registered, for the MLflow store does not have the run of its "
        f"training, {bundle.mlflow_run_id}",
        highlight=False,
        soft_wrap=True,
    )
