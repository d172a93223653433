"""Checkpoints as far as they can be judged without reading their tensors; see `writer`."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from feature_store.core.errors import UserError
from feature_store.core.manifests import read_manifest
from feature_store.core.settings import Frozen
from recsys.checkpoint.table_rows import TableRows
from recsys.config.config import Config
from recsys.evaluation.selection import Score

CHECKPOINT_PREFIX = "step-"
# Folder of checkpoints in the directory of an unfinished training.
CHECKPOINTS = "checkpoints"


class Progress(Frozen):
    """Progress of a training.

    Attributes:
        step: Steps done; with the plan, all that the loader needs to continue.
        plan: Identity of the order of examples in which the steps are counted.
        best_step: The step of the best validation so far.
        best_value: Metric of the best validation; None where no validation had one.
        best_finer: Metric of the best validation that breaks ties of the other.
        stale: Validations since the best one.
        schedule_start: Steps of the trainings that this one continues.
        annealing_from: The step after which rates began to anneal; None: they did not yet.
    """

    step: int
    plan: str
    best_step: int
    best_value: float | None
    best_finer: float = 0.0
    stale: int
    schedule_start: int = 0
    annealing_from: int | None = None

    @property
    def schedule_step(self) -> int:
        """Steps of this training and of those that it continues, for the learning rates."""
        return self.schedule_start + self.step

    @property
    def continued_step(self) -> int:
        """Step of the checkpoint that a next training goes on from.

        It is the best one, or where that is annealed, the one before annealing.
        """
        if self.annealing_from is None:
            return self.best_step
        return min(self.best_step, self.annealing_from)

    def is_over(self, total_steps: int, patience: int, annealing: int) -> bool:
        """Returns whether all steps are done, or validations have not improved for too long.

        Args:
            total_steps: Number of steps, if patience does not end before.
            patience: Validations without improvement that end a training without annealing.
            annealing: Number of steps of annealing.
        """
        if self.annealing_from is not None:
            return self.step >= self.annealing_from + annealing
        return self.step >= total_steps or (self.stale >= patience and not annealing)

    def at_step(self, step: int) -> "Progress":
        """Returns the progress after `step` steps, with the validations so far."""
        return self.model_copy(update={"step": step})

    def annealing_now(self) -> "Progress":
        """Returns the progress whose next steps anneal."""
        return self.model_copy(update={"annealing_from": self.step})

    def after_validation(self, score: Score | None) -> "Progress":
        """Returns the progress after a validation of the present step.

        Args:
            score: Score to select by; where there is none, the latest step counts as the best.
        """
        if score is None:
            return self.model_copy(update={"best_step": self.step, "best_value": None, "stale": 0})
        if self.best_value is None or score > (self.best_value, self.best_finer):
            value, finer = score
            best = {"best_step": self.step, "best_value": value, "best_finer": finer, "stale": 0}
            return self.model_copy(update=best)
        return self.model_copy(update={"stale": self.stale + 1})


class CheckpointManifest(Frozen):
    """Contents of a checkpoint, by which it is judged without reading tensors.

    Attributes:
        version: Version of this format.
        progress: Progress of the training.
        world_size: Number of ranks that wrote it; any number can read it.
        schema_fingerprint: Fingerprint of the features.
        config: Configuration of the training.
        tables: Rows of each table, by the qualified name of its feature.
        shapes: Shape of every tensor, by name: `model.<parameter>`,
            `optimizer.<parameter>.<state>`.
        files: Size of each file in bytes, by name.
    """

    version: int = 1
    progress: Progress
    world_size: int
    schema_fingerprint: str
    config: Config
    tables: dict[str, TableRows]
    shapes: dict[str, tuple[int, ...]]
    files: dict[str, int]


class Checkpoint(NamedTuple):
    """A finished checkpoint.

    Attributes:
        path: Directory of the checkpoint.
        manifest: Manifest in it.
    """

    path: Path
    manifest: CheckpointManifest


def checkpoint_path(directory: Path, step: int) -> Path:
    """Returns the path of the checkpoint that was taken after `step` steps."""
    return directory / f"{CHECKPOINT_PREFIX}{step:010d}"


def latest_checkpoint(
    directory: Path, warn: Callable[[str], None] | None = None
) -> Checkpoint | None:
    """Returns the last finished checkpoint whose files are whole, or None.

    Args:
        directory: Directory of the checkpoints.
        warn: Function that is called with a warning of each damaged one that is passed over.
    """
    for path, manifest, damage in _newest_first(directory):
        if manifest is not None and damage is None:
            return Checkpoint(path, manifest)
        if warn is not None:
            warn(f"{path} is damaged ({damage}): resuming from the one before it")
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads the manifest of a checkpoint.

    Raises:
        UserError: The checkpoint is not there, or not finished.
    """
    manifest = read_manifest(path, CheckpointManifest)
    if manifest is None:
        raise UserError(f"{path} holds no finished checkpoint; set training.start: scratch.")
    return Checkpoint(path, manifest)


def damage_of(path: Path, manifest: CheckpointManifest) -> str | None:
    """Returns what is wrong with a checkpoint's files; None if each has the size it was given."""
    for name, expected in manifest.files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if (size := file.stat().st_size) != expected:
            return f"{name} has {size} bytes instead of {expected}"
    return None


def remove_old_checkpoints(directory: Path, keep: int) -> None:
    """Removes all but the last `keep` whole ones, and the best one of each of these.

    A training that resumes from one of them still finds its best one, and the one before annealing.
    """
    checkpoints = list(_newest_first(directory))
    whole = [(path, m) for path, m, damage in checkpoints if m is not None and damage is None]
    kept = set()
    for path, manifest in whole[:keep]:
        progress = manifest.progress
        steps = (progress.best_step, progress.continued_step)
        kept |= {path, *(checkpoint_path(directory, step) for step in steps)}
    for path, _, _ in checkpoints:
        if path not in kept:
            shutil.rmtree(path)


def _newest_first(directory: Path) -> Iterator[tuple[Path, CheckpointManifest | None, str | None]]:
    """Yields each finished checkpoint: path, manifest if it can be read, fault if it has one."""
    for path in sorted(directory.glob(f"{CHECKPOINT_PREFIX}*"), reverse=True):
        try:
            manifest = read_manifest(path, CheckpointManifest)
        except UserError as error:
            yield path, None, str(error)
        else:
            fault = "no manifest" if manifest is None else damage_of(path, manifest)
            yield path, manifest, fault
