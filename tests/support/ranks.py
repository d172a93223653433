"""Trains on several gloo ranks, each a process of its own, without Ray."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from rich.console import Console
from torch.multiprocessing import start_processes

from pipelines.prepared.reader import Prepared
from recsys.checkpoint.manifest import CHECKPOINTS, checkpoint_path, latest_checkpoint
from recsys.config.config import Config
from recsys.config.training import RayTrainConfig
from recsys.data.loader import in_process_batches
from recsys.data.plan import TrainingPlan
from recsys.data.reader import read_steps
from recsys.stages.item_neighbours import fit_neighbours
from recsys.training.rank import train_on_rank
from recsys.training.run import TrainingRun, plan_run
from tests.support.processes import CONTEXT


def start_ranks(function: Callable[..., None], ranks: int, *arguments: Any) -> None:
    """Calls `function(rank, *arguments)` in a process for each rank; raises what one raises."""
    start_processes(function, arguments, ranks, start_method=CONTEXT.get_start_method())


def train_on_ranks(
    config: Config,
    work_dir: Path,
    ranks: int,
    *,
    killed_after: int | None = None,
    poisoned_at: int | None = None,
) -> None:
    """Runs the loop to its end on `ranks` processes.

    `killed_after` kills them two steps after that one, once its checkpoint is there; `poisoned_at`
    gives the step weights that are not numbers. `seen-*.jsonl` in the directory has a line of the
    step and its (query, item) pairs for each batch of a rank, written before it is trained on.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    training = config.training.model_copy(update={"ray": RayTrainConfig(workers=ranks)})
    run = run_of(config.model_copy(update={"training": training}), work_dir)
    store = work_dir / "store"
    store.unlink(missing_ok=True)
    start_ranks(_run, ranks, run, ranks, str(store), killed_after, poisoned_at)


def run_of(config: Config, work_dir: Path) -> TrainingRun:
    """Returns the training of a configuration in a directory, as the driver determines it."""
    prepared = Prepared(config.prepared_dir)
    neighbours = fit_neighbours(config, prepared, work_dir, Console())
    run, _ = plan_run(config, prepared, work_dir, neighbours=neighbours)
    return run


def _run(
    rank: int,
    run: TrainingRun,
    ranks: int,
    store: str,
    killed_after: int | None,
    poisoned_at: int | None,
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, ranks), rank=rank, world_size=ranks)

    def until_killed(plan: TrainingPlan, config: Config, *position: int) -> Iterator[Any]:
        _, _, from_step = position
        examples = read_steps(plan, from_step, plan.total_steps, rank, ranks)
        batches = in_process_batches(plan, config, *position)
        path = Path(store).with_name(f"seen-from-{from_step}-rank-{rank}.jsonl")
        with path.open("w") as file:
            for local, host in zip(examples, batches, strict=True):
                if killed_after is not None and local.step == killed_after + 2:
                    _wait_for(checkpoint_path(Path(store).with_name(CHECKPOINTS), killed_after))
                    os.kill(os.getpid(), signal.SIGKILL)
                if local.step == poisoned_at:
                    host = replace(host, weight=host.weight * np.float32("nan"))
                assert (host.items[: len(local.item)] == local.item).all()
                pairs = np.stack([local.query, local.item], axis=1).tolist()
                file.write(json.dumps([local.step, pairs]) + "\n")
                file.flush()
                yield host

    train_on_rank(run, torch.device("cpu"), until_killed)
    dist.destroy_process_group()


def _wait_for(checkpoint: Path) -> None:
    """Waits until a checkpoint is there: batches are built ahead, and it is written behind."""
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert time.monotonic() < deadline, f"{checkpoint} was not written"
        time.sleep(0.01)


def saved_tensors(work_dir: Path) -> dict[str, torch.Tensor]:
    """Returns every tensor of the latest checkpoint, unsharded: weights and optimizers' state."""
    latest = latest_checkpoint(work_dir / CHECKPOINTS)
    assert latest is not None
    return tensors_of(latest.path)


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Returns every tensor of a checkpoint, unsharded."""
    metadata = dcp.FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    state: dict[str, Any] = {
        name: torch.zeros(entry.size, dtype=entry.properties.dtype)
        for name, entry in metadata.items()
        if hasattr(entry, "size")
    }
    dcp.load(state, checkpoint_id=checkpoint, no_dist=True)
    return state


def seen_pairs(work_dir: Path, start: int, stop: int) -> list[tuple[int, int]]:
    """Returns the pairs that all ranks of a training from step `start` got before step `stop`."""
    return [
        (query, item)
        for path in work_dir.glob(f"seen-from-{start}-rank-*.jsonl")
        for step, pairs in map(json.loads, path.read_text().splitlines())
        if step < stop
        for query, item in pairs
    ]
