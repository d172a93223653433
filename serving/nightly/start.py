"""The model that a day's training begins with: none, or the champion's."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, linked_tree
from feature_store.core.manifests import written_as
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.training_manifest import TrainManifest, is_up_to_date, readable_training
from recsys.config.config import Config
from recsys.stages.fit import require_fit
from recsys.stages.refit import refit_config
from serving.nightly.outcome import Outcome

_IS_OWN = written_as(TrainManifest)


def begin(
    config: Config,
    champion: Path | None,
    finished: list[Outcome],
    as_of: datetime,
    say: Callable[[str], None],
) -> Config:
    """Puts the champion's trainings where `training.start: previous` goes on from.

    Yesterday's may have been refused. From scratch it starts where the configuration says so, where
    there is no champion's checkpoint or it does not fit, and every `job.scratch_days`.

    Args:
        config: Configuration whose data is prepared.
        champion: Directory of the champion's day; None: there is none.
        finished: Outcomes of the earlier days, in order.
        as_of: Time of the day.
        say: Function called with why it starts from scratch.

    Returns:
        The configuration of the day's training.
    """
    if config.training.start == "scratch":
        return config
    why = None
    if champion is None:
        why = "there is no champion's checkpoint"
    elif _is_due(config, finished, as_of):
        why = f"the last day from scratch is {config.job.scratch_days} days ago or more"
    elif readable_training(champion / "train") is None:
        why = "this version cannot read the champion's checkpoint"
    else:
        _put_back(config, champion)
        try:
            require_fit(config, Prepared(config.prepared_dir))
        except UserError as error:
            why = str(error).rstrip(".")
    if why is None:
        return config
    say(f"training from scratch: {why}")
    training = config.training.model_copy(update={"start": "scratch"})
    return config.model_copy(update={"training": training})


def _is_due(config: Config, finished: list[Outcome], as_of: datetime) -> bool:
    days = config.job.scratch_days
    scratch = [each for each in finished if each.started_from == "scratch"]
    if days is None or not scratch:
        return False
    return as_of - datetime.fromisoformat(scratch[-1].as_of) >= timedelta(days=days)


def _put_back(config: Config, champion: Path) -> None:
    """Replaces the latest trainings by the champion's, unless they are those of today."""
    evaluated = readable_training(config.train_dir)
    steps = evaluated.best_step if evaluated is not None else None
    again = refit_config(config)
    for section, part, length in ((config, "train", None), (again, "refit/train", steps)):
        kept = readable_training(champion / part)
        now = readable_training(section.train_dir)
        if kept is None or (now is not None and now.fingerprint == kept.fingerprint):
            continue
        is_prepared = section.prepared_dir.is_dir()
        if now is not None and is_prepared:
            prepared = Prepared(section.prepared_dir)
            if is_up_to_date(section, prepared, now, length):
                continue
        with directory_written_atomically(section.train_dir, _IS_OWN) as directory:
            linked_tree(champion / part, directory)
