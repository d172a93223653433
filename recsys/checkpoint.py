"""Checkpoints: sharded state by torch.distributed.checkpoint, and a manifest written last.

A checkpoint can be loaded under another number of ranks and another sharding. What it holds beside
the weights is small, because the order of examples and every random choice are functions of the
seed and the step.
"""

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from pydantic import BaseModel, ConfigDict
from torch import nn
from torchrec.distributed import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper

from feature_store.storage import read_manifest, temporary_sibling, write_manifest

_PREFIX = "step-"


class CheckpointManifest(BaseModel):
    """Where a training was.

    Attributes:
        step: Steps done: with the plan, all that the loader needs to go on.
        plan: Identity of the order of examples that the steps are counted in.
        best_step: The step of the best validation so far.
        best_value: Its metric; None where no validation had one.
        stale: Validations since then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    plan: str
    best_step: int
    best_value: float | None
    stale: int


def checkpoint_path(directory: Path, step: int) -> Path:
    """Of the checkpoint that was taken after `step` steps."""
    return directory / f"{_PREFIX}{step:010d}"


def save_checkpoint(
    directory: Path,
    sharded: DistributedModelParallel,
    optimizer: CombinedOptimizer,
    manifest: CheckpointManifest,
) -> None:
    """Writes `directory/step-<n>`; a collective call.

    Earlier checkpoints go, but for the best one.
    """
    path = checkpoint_path(directory, manifest.step)
    name: list[Any] = [temporary_sibling(path).name]
    dist.broadcast_object_list(name)
    temporary = path.with_name(name[0])
    dcp.save(_state(sharded, optimizer), checkpoint_id=temporary)
    if dist.get_rank() == 0:
        write_manifest(temporary, manifest)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
        keep = {path, checkpoint_path(directory, manifest.best_step)}
        for other in directory.iterdir():
            if other not in keep:
                shutil.rmtree(other)
    dist.barrier()


def latest_checkpoint(directory: Path) -> tuple[Path, CheckpointManifest] | None:
    """The last finished checkpoint under `directory`, or None."""
    for path in sorted(directory.glob(f"{_PREFIX}*"), reverse=True):
        manifest = read_manifest(path, CheckpointManifest)
        if manifest is not None:
            return path, manifest
    return None


def restore(path: Path, sharded: DistributedModelParallel, optimizer: CombinedOptimizer) -> None:
    """Loads what `save_checkpoint` wrote into a sharded model; a collective call."""
    for _, part in optimizer.optimizers:
        if isinstance(part, KeyedOptimizerWrapper):
            part.init_state()  # The dense optimizer makes its state only in its first step.
    state = _state(sharded, optimizer)
    dcp.load(state, checkpoint_id=path)
    sharded.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])


def load_weights(path: Path, module: nn.Module) -> None:
    """Loads only the weights, into the unsharded module, in this process alone."""
    state = {"model": module.state_dict()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        dcp.load(state, checkpoint_id=path, no_dist=True)
    module.load_state_dict(state["model"])


def _state(sharded: DistributedModelParallel, optimizer: CombinedOptimizer) -> dict[str, Any]:
    return {"model": sharded.state_dict(), "optimizer": optimizer.state_dict()}
