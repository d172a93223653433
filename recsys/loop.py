"""The training loop of one rank; every rank of the process group runs the same."""

import json
import logging
import os
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchrec.optim.keyed import CombinedOptimizer

from feature_store.errors import UserError
from feature_store.history import hash64
from feature_store.storage import write_text
from pipelines.prepared import Prepared
from recsys.batch import agreed_batch
from recsys.checkpoint import CheckpointManifest, latest_checkpoint, restore, save_checkpoint
from recsys.collate import Arrays, BatchBuilder
from recsys.config import Config
from recsys.encode import encode_items, encode_queries
from recsys.evaluation import validation_metrics
from recsys.frequency import build_frequency
from recsys.loader import ArraySource, Awaited
from recsys.model import build_model
from recsys.objective import TwoTowerObjective
from recsys.plan import TrainingPlan, plan_training
from recsys.sharding import dense_optimizer, shard

METRICS_FILE = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
SHARDING_FILE = "sharding.txt"

# Steps between two lines of losses.
_LOG_STEPS = 20
_DROPOUT = 31


@dataclass(frozen=True)
class Job:
    """What a rank is told.

    Attributes:
        config: As JSON.
        work_dir: Of checkpoints and metrics; all ranks must see it.
    """

    config: str
    work_dir: str


def training_plan(prepared: Prepared, config: Config) -> TrainingPlan:
    """The order of examples that the configuration asks for."""
    return plan_training(
        prepared.examples("train"),
        batch_size=config.training.batch_size,
        workers=config.training.workers,
        epochs=config.training.epochs,
        seed=config.training.seed,
    )


def train_on_rank(job: Job, device: torch.device, source: ArraySource) -> None:
    """Trains to the end, or to the end of patience, from the latest checkpoint if there is one.

    Needs a process group. Leaves checkpoints, of which one is the best, and lines of metrics under
    the job's directory.

    Args:
        job: What to train.
        device: Of this rank.
        source: Of this rank's batches.

    Raises:
        UserError: The loss is no longer finite.
    """
    silence_torchrec()
    config, work_dir = Config.model_validate_json(job.config), Path(job.work_dir)
    prepared = Prepared(config.prepared_dir)
    plan = training_plan(prepared, config)
    found = _agreed_checkpoint(work_dir)
    progress = found[1] if found is not None else _beginning(plan)
    if progress.plan != plan.identity:
        raise UserError(
            f"{work_dir} holds a training on other examples than those of {config.prepared_dir}; "
            "expected the ones that it began with: remove the directory to start over."
        )
    if progress.step >= plan.total_steps or progress.stale >= config.training.patience:
        return
    # Batches are built while the model is.
    arrays_from = source(plan, config, dist.get_rank(), dist.get_world_size(), progress.step)
    with closing(arrays_from) as batches:
        rank = _Rank(config, work_dir, device, prepared, plan, progress)
        if found is not None:
            restore(found[0], rank.sharded, rank.optimizer)
        rank.run(batches)


def _beginning(plan: TrainingPlan) -> CheckpointManifest:
    return CheckpointManifest(step=0, plan=plan.identity, best_step=0, best_value=None, stale=0)


def _agreed_checkpoint(work_dir: Path) -> tuple[Path, CheckpointManifest] | None:
    """The latest one, as rank 0 sees it."""
    found: list[Any] = [latest_checkpoint(work_dir / CHECKPOINTS)]
    dist.broadcast_object_list(found)
    return found[0]


class _Rank:
    """The state of one rank's training."""

    def __init__(
        self,
        config: Config,
        work_dir: Path,
        device: torch.device,
        prepared: Prepared,
        plan: TrainingPlan,
        progress: CheckpointManifest,
    ) -> None:
        self.config = config
        self.work_dir = work_dir
        self.device = device
        self.prepared = prepared
        self.plan = plan
        self.progress = progress
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.builder = BatchBuilder(prepared, config)
        torch.manual_seed(config.training.seed)  # The towers start equal on all ranks.
        model = build_model(prepared, config.model, torch.device("meta"))
        frequency = build_frequency(config.loss, prepared.num_items)
        objective = TwoTowerObjective(model, config.loss, config.ssl, frequency)
        self.sharded = shard(objective, model, config.training, device)
        self.model = model
        self.optimizer = CombinedOptimizer(
            [self.sharded.fused_optimizer, dense_optimizer(self.sharded, config.training)]
        )
        self.losses: list[dict[str, Tensor]] = []
        self.clock = time.perf_counter()
        self.batches = Awaited([])
        self.metrics = _MetricsFile(work_dir / METRICS_FILE, self.rank, progress.step)
        if self.rank == 0:
            write_text(work_dir / SHARDING_FILE, f"{self.sharded.plan}\n")

    def run(self, batches: Iterable[Arrays]) -> None:
        step, total = self.progress.step, self.plan.total_steps
        interval = -(-self.plan.steps_per_epoch // self.config.training.validations_per_epoch)
        self.batches = Awaited(batches)
        for arrays in self.batches:
            self._step(step, arrays)
            step += 1
            is_validated = step % interval == 0 or step == total
            if step % _LOG_STEPS == 0 or is_validated:
                self._log(step)  # Also at checkpoints, so that a resumed run's lines are equal.
            if is_validated:
                self._validate(step)
                if self.progress.stale >= self.config.training.patience:
                    break

    def _step(self, step: int, arrays: Arrays) -> None:
        batch = agreed_batch(arrays, self.builder.keys(), self.device)
        # Dropout of the towers: the same after a resumption, different on each rank.
        key = hash64(self.config.training.seed, _DROPOUT, step, self.rank)
        torch.manual_seed(int(key) % 2**63)
        self.optimizer.zero_grad()
        loss, parts = self.sharded(batch)
        loss.backward()
        self.optimizer.step()
        self.losses.append(parts)

    def _log(self, step: int) -> None:
        """Means over ranks and over the steps since the last line."""
        names = list(self.losses[0])
        means = torch.stack([torch.stack([p[name] for p in self.losses]).mean() for name in names])
        dist.all_reduce(means)
        means /= self.world_size
        steps, now = len(self.losses), time.perf_counter()
        self.losses.clear()
        if not bool(means.isfinite().all()):
            raise UserError(
                f"the loss is not finite at step {step}; lower training.sparse_learning_rate or "
                "training.dense_learning_rate, or raise loss.temperature."
            )
        seconds = now - self.clock
        # Of the rank that waited longest: the others waited for it.
        waited = torch.tensor(self.batches.seconds / seconds, device=self.device)
        dist.all_reduce(waited, op=dist.ReduceOp.MAX)
        speed = {
            "examples_per_second": self.plan.examples(step - steps, step) / seconds,
            "loader_wait": float(waited),
        }
        self._restart_clock()
        values = dict(zip(names, means.tolist(), strict=True))
        self.metrics.append(step, {**speed, **values})

    def _validate(self, step: int) -> None:
        """Ranks the whole corpus, then saves a checkpoint."""
        value: list[float | None] = [None]
        state = self.prepared.query_state
        queries = np.flatnonzero(state.validation.lengths)
        items = encode_items(self.model, self.builder, self.device)
        vectors = encode_queries(
            self.model,
            self.builder,
            queries,
            state.validation_history.take(queries),
            self.prepared.context_of(queries, "validation"),
            self.device,
        )
        if self.rank == 0:
            found = validation_metrics(vectors, items, self.prepared, queries)
            value[0] = found[self.config.evaluation.select_by]
            self.metrics.append(step, {f"validation.{k}": v for k, v in found.items()})
        dist.broadcast_object_list(value)
        self.progress = _next_progress(self.progress, step, value[0])
        save_checkpoint(self.work_dir / CHECKPOINTS, self.sharded, self.optimizer, self.progress)
        self._restart_clock()  # Validation is no part of the training's speed.

    def _restart_clock(self) -> None:
        self.clock = time.perf_counter()
        self.batches.seconds = 0.0


def _next_progress(last: CheckpointManifest, step: int, value: float | None) -> CheckpointManifest:
    """What is known after a validation; without any to choose by, the latest is the best."""
    if value is None or last.best_value is None or value > last.best_value:
        update = {"step": step, "best_step": step, "best_value": value, "stale": 0}
        return last.model_copy(update=update)
    return last.model_copy(update={"step": step, "stale": last.stale + 1})


class _MetricsFile:
    """JSON lines, `{"step": ..., <metric>: ...}`, by rank 0; a resumed training goes on with it."""

    def __init__(self, path: Path, rank: int, step: int) -> None:
        self._path = path if rank == 0 else None
        if rank == 0:
            old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            kept = [line for line in old if json.loads(line)["step"] <= step]
            write_text(path, "".join(f"{line}\n" for line in kept))

    def append(self, step: int, values: Mapping[str, float | None]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
                file.flush()


def silence_torchrec() -> None:
    """Its planner and deprecations write pages that a user can do nothing about."""
    for name in ("torchrec", "torch.fx._symbolic_trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torchrec")


def use_cores(ranks_on_machine: int) -> None:
    """Shares the machine's cores between its ranks."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks_on_machine))
