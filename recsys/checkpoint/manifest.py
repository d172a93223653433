"""What is known of checkpoints without reading their tensors; see `recsys.checkpoint`."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from feature_store.core.errors import UserError
from feature_store.core.manifests import read_manifest
from feature_store.core.settings import Frozen
from recsys.checkpoint.table_rows import TableRows
from recsys.config.config import Config

CHECKPOINT_PREFIX = "step-"
# Of an unfinished training's directory.
CHECKPOINTS = "checkpoints"


class Progress(Frozen):
    """Where a training is.

    Attributes:
        step: Steps done: with the plan, all that the loader needs to go on.
        plan: Identity of the order of examples that the steps are counted in.
        best_step: The step of the best validation so far.
        best_value: Its metric; None where no validation had one.
        stale: Validations since then.
        schedule_start: Steps of the trainings that this one began with.
    """

    step: int
    plan: str
    best_step: int
    best_value: float | None
    stale: int
    schedule_start: int = 0

    @property
    def schedule_step(self) -> int:
        """Steps since the first beginning, which learning rates are a function of."""
        return self.schedule_start + self.step

    def is_over(self, total_steps: int, patience: int) -> bool:
        """Returns whether all steps are done, or validations have not improved for too long."""
        return self.step >= total_steps or self.stale >= patience

    def at_step(self, step: int) -> "Progress":
        """Returns the progress after `step` steps, with the validations so far."""
        return self.model_copy(update={"step": step})

    def after_validation(self, value: float | None) -> "Progress":
        """Returns the progress after a validation of the present step.

        Args:
            value: Metric to select by; where there is none, the latest step counts as the best.
        """
        if value is None or self.best_value is None or value > self.best_value:
            best = {"best_step": self.step, "best_value": value, "stale": 0}
            return self.model_copy(update=best)
        return self.model_copy(update={"stale": self.stale + 1})


class CheckpointManifest(Frozen):
    """What a checkpoint holds, so that it can be judged without reading tensors.

    Attributes:
        version: Of this format.
        progress: Where the training was.
        world_size: Ranks that wrote it; any number can read it.
        schema_fingerprint: Of the features.
        config: Of the training.
        tables: Which rows they have.
        shapes: Of every tensor, by name: `model.<parameter>`, `optimizer.<parameter>.<state>`.
        files: Their sizes in bytes, by name.
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
    """Of the checkpoint that was taken after `step` steps."""
    return directory / f"{CHECKPOINT_PREFIX}{step:010d}"


def latest_checkpoint(
    directory: Path, warn: Callable[[str], None] | None = None
) -> Checkpoint | None:
    """The last finished checkpoint under `directory` whose files are whole, or None.

    Args:
        directory: Of the checkpoints.
        warn: Is told of each damaged one that is passed over.
    """
    for path, manifest, damage in _newest_first(directory):
        if manifest is not None and damage is None:
            return Checkpoint(path, manifest)
        if warn is not None:
            warn(f"{path} is damaged ({damage}): going on from the one before it")
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """One checkpoint by its path.

    Raises:
        UserError: It is not there, or not finished.
    """
    manifest = read_manifest(path, CheckpointManifest)
    if manifest is None:
        raise UserError(f"{path} holds no finished checkpoint; set training.start: scratch.")
    return Checkpoint(path, manifest)


def damage_of(path: Path, manifest: CheckpointManifest) -> str | None:
    """What is wrong with a checkpoint's files; None where each has the size that was written."""
    for name, size in manifest.files.items():
        file = path / name
        found = file.stat().st_size if file.is_file() else None
        if found is None:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found} bytes instead of {size}"
    return None


def remove_old_checkpoints(directory: Path, keep: int) -> None:
    """All but the last `keep` whole ones and, so that each can be gone on from, their best ones."""
    found = list(_newest_first(directory))
    whole = [(path, m) for path, m, damage in found if m is not None and damage is None]
    kept = set()
    for path, manifest in whole[:keep]:
        kept |= {path, checkpoint_path(directory, manifest.progress.best_step)}
    for path, _, _ in found:
        if path not in kept:
            shutil.rmtree(path)


def _newest_first(directory: Path) -> Iterator[tuple[Path, CheckpointManifest | None, str | None]]:
    """Each finished checkpoint with its manifest, or with what is wrong with it."""
    for path in sorted(directory.glob(f"{CHECKPOINT_PREFIX}*"), reverse=True):
        try:
            manifest = read_manifest(path, CheckpointManifest)
        except UserError as error:
            yield path, None, str(error)
        else:
            fault = "no manifest" if manifest is None else damage_of(path, manifest)
            yield path, manifest, fault
