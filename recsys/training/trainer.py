"""The training loop of one rank; every rank of the process group runs the same."""

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from feature_store.core.errors import UserError
from feature_store.core.files import write_text
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.manifest import (
    CHECKPOINTS,
    CheckpointManifest,
    Progress,
    latest_checkpoint,
    read_checkpoint,
)
from recsys.checkpoint.state import checkpoint_state, restore, warm_start
from recsys.checkpoint.table_rows import forgotten_rows, table_rows
from recsys.checkpoint.writer import CheckpointWriter
from recsys.config.config import Config
from recsys.data.builder import Arrays, BatchBuilder
from recsys.data.loader import ArraySource, TimedIterator
from recsys.data.plan import TrainingPlan
from recsys.distributed.optimizers import Optimizers
from recsys.distributed.plan_table import format_plan
from recsys.distributed.ranks import check_ranks_agree, silence_torchrec
from recsys.distributed.sharding import shard
from recsys.evaluation.validation import validation_metrics
from recsys.model.encode import encode_items, encode_queries
from recsys.model.two_tower import build_model, table_name
from recsys.training.diagnostics import Diagnostics
from recsys.training.job import SHARDING_FILE, Job, training_plan
from recsys.training.objective import build_objective
from recsys.training.pipelining import steps
from recsys.training.progress import METRICS_FILE, MetricsFile
from recsys.training.step import Stepper, not_finite, use_determinism, use_precision

# Steps between two lines of losses.
_LOG_STEPS = 20


def train_on_rank(
    job: Job,
    device: torch.device,
    source: ArraySource,
    on_validation: Callable[[], None] | None = None,
) -> None:
    """Trains to the end, or to the end of patience, from the latest checkpoint if there is one.

    Needs a process group. Leaves checkpoints, of which one is the best, and lines of metrics under
    the job's directory.

    Args:
        job: What to train.
        device: Of this rank.
        source: Of this rank's batches.
        on_validation: Is called after each validation.

    Raises:
        UserError: A number is no longer finite, the disk is full, or the ranks differ.
    """
    silence_torchrec()
    config, work_dir = Config.model_validate_json(job.config), Path(job.work_dir)
    use_determinism(config.training)
    prepared = Prepared(config.prepared_dir)
    plan = training_plan(prepared, config)
    found = latest_checkpoint(work_dir / CHECKPOINTS)
    check_ranks_agree(config, prepared, plan, found[0].name if found is not None else None)
    progress = found[1].progress if found is not None else None
    if found is None and job.previous is not None:
        found = read_checkpoint(Path(job.previous))
    is_warm_start = progress is None
    progress = progress or _beginning(plan, found)
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
        if found is not None and is_warm_start:
            forgotten = {table_name(k): v for k, v in forgotten_rows(prepared).items()}
            warm_start(*found, rank.sharded, rank.optimizer, forgotten)
        elif found is not None:
            restore(*found, rank.sharded, rank.optimizer)
        with closing(rank.writer):
            rank.run(batches, on_validation or _nothing)


def _nothing() -> None:
    """Nothing listens."""


def _beginning(plan: TrainingPlan, previous: tuple[Path, CheckpointManifest] | None) -> Progress:
    start = previous[1].progress.schedule_step if previous is not None else 0
    return Progress(
        step=0, plan=plan.identity, best_step=0, best_value=None, stale=0, schedule_start=start
    )


class _Rank:
    """The state of one rank's training."""

    def __init__(
        self,
        config: Config,
        work_dir: Path,
        device: torch.device,
        prepared: Prepared,
        plan: TrainingPlan,
        progress: Progress,
    ) -> None:
        self.config = config
        self.device = device
        self.prepared = prepared
        self.plan = plan
        self.progress = progress
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.builder = BatchBuilder(prepared, config)
        torch.manual_seed(config.training.seed)  # The towers start equal on all ranks.
        model = build_model(prepared, config.model, torch.device("meta"))
        objective = build_objective(model, config, prepared)
        use_precision(objective, config.training, device)
        self.sharded, tables = shard(objective, model, config.training, config.sharding, device)
        self.model = model
        self.diagnostics = Diagnostics(objective, prepared, self.builder.views.masking)
        optimizers = Optimizers(self.sharded, config.training)
        self.optimizer = optimizers.combined
        self.stepper = Stepper(
            self.sharded, optimizers, config.training, plan.total_steps, progress.schedule_start
        )
        self.losses: list[dict[str, Tensor]] = []
        self.clock = time.perf_counter()
        self.batches = TimedIterator([])
        self.metrics = MetricsFile(work_dir / METRICS_FILE, progress.step)
        schema, rows = prepared.manifest.schema_fingerprint, table_rows(prepared)
        self.writer = CheckpointWriter(work_dir / CHECKPOINTS, config, schema, rows)
        if self.rank == 0:
            write_text(work_dir / SHARDING_FILE, format_plan(tables))

    def run(self, batches: Iterable[Arrays], on_validation: Callable[[], None]) -> None:
        step, total, training = self.progress.step, self.plan.total_steps, self.config.training
        interval = -(-self.plan.steps_per_epoch // training.validations_per_epoch)
        self.batches = TimedIterator(batches)
        done = steps(
            self.stepper,
            self.model,
            self.batches,
            self.builder.keys(),
            self.device,
            first=step,
            total=total,
            interval=interval,
        )
        for parts, self.last_batch in done:
            self.losses.append(parts)
            self.writer.check()
            step += 1
            is_validated = step % interval == 0 or step == total
            is_saved = is_validated or step % (training.checkpoint_every or total) == 0
            if step % _LOG_STEPS == 0 or is_saved:
                self._log(step)  # Also at checkpoints, so that a resumed run's lines are equal.
            self.progress = self.progress.model_copy(update={"step": step})
            if is_validated:
                self.progress = _next_progress(self.progress, self._validate(step))
            if is_saved:
                self.writer.save(checkpoint_state(self.sharded, self.optimizer), self.progress)
            if is_validated:
                on_validation()
                self._restart_clock()  # Validation is no part of the training's speed.
            if self.progress.stale >= training.patience:
                break
        self.writer.wait()

    def _log(self, step: int) -> None:
        """Means over ranks and over the steps since the last line."""
        names = list(self.losses[0])
        means = torch.stack([torch.stack([p[name] for p in self.losses]).mean() for name in names])
        dist.all_reduce(means)
        means /= self.world_size
        count, now = len(self.losses), time.perf_counter()
        self.losses.clear()
        if not bool(means.isfinite().all()):
            raise not_finite(step)
        seconds = now - self.clock
        # Of the rank that waited longest: the others waited for it.
        waited = torch.tensor(self.batches.seconds / seconds, device=self.device)
        dist.all_reduce(waited, op=dist.ReduceOp.MAX)
        speed = {
            "examples_per_second": self.plan.examples(step - count, step) / seconds,
            "loader_wait": float(waited),
        }
        self._restart_clock()
        values = dict(zip(names, means.tolist(), strict=True))
        self.metrics.append(step, {**speed, **values})

    def _validate(self, step: int) -> float | None:
        """Ranks the whole corpus; returns the metric to choose by."""
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
        measured = self.diagnostics.measure(step, self.last_batch, items)
        if self.rank == 0:
            found = validation_metrics(vectors, items, self.prepared, queries)
            value[0] = found[self.config.evaluation.select_by]
            lines = {f"validation.{k}": v for k, v in found.items()}
            self.metrics.append(step, {**lines, **measured})
        dist.broadcast_object_list(value)
        return value[0]

    def _restart_clock(self) -> None:
        self.clock = time.perf_counter()
        self.batches.seconds = 0.0


def _next_progress(last: Progress, value: float | None) -> Progress:
    """What is known after a validation; without any to choose by, the latest is the best."""
    if value is None or last.best_value is None or value > last.best_value:
        return last.model_copy(update={"best_step": last.step, "best_value": value, "stale": 0})
    return last.model_copy(update={"stale": last.stale + 1})
