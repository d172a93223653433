"""One rank of a training: it checks what it sees, builds a trainer, loads it, and trains."""

from collections.abc import Callable
from contextlib import closing

import torch
import torch.distributed as dist

from feature_store.core.files import write_text
from pipelines.prepared.reader import Prepared
from pipelines.process import quiet_engines
from recsys.checkpoint.manifest import latest_checkpoint
from recsys.checkpoint.state import restore, warm_start
from recsys.checkpoint.table_rows import table_rows, unknown_rows
from recsys.checkpoint.training_manifest import METRICS_FILE, SHARDING_FILE
from recsys.checkpoint.writer import CheckpointWriter
from recsys.data.builder import BatchBuilder
from recsys.data.loader import BatchSource, TimedIterator
from recsys.data.plan import TrainingPlan
from recsys.distributed.optimizers import Optimizers
from recsys.distributed.plan_table import format_plan
from recsys.distributed.ranks import check_ranks_agree
from recsys.distributed.sharding import shard
from recsys.model.side_inputs import table_name
from recsys.model.two_tower import build_model
from recsys.training.averaging import WeightAverage
from recsys.training.log import MetricsFile, TrainingLog
from recsys.training.numerics import repeatable, use_precision
from recsys.training.objective import build_objective
from recsys.training.run import Start, TrainingRun, training_plan, validation_steps
from recsys.training.schedules import annealing_steps
from recsys.training.trainer import Trainer
from recsys.training.validator import Validator


def train_on_rank(
    run: TrainingRun,
    device: torch.device,
    source: BatchSource,
    on_validation: Callable[[], None] | None = None,
) -> None:
    """Trains to the end, or to the end of patience, from the latest checkpoint if there is one.

    Needs a process group. Leaves checkpoints, one of which is the best, and lines of metrics in the
    run's directory.

    Args:
        run: Training, which is the same on all ranks.
        device: Device of this rank.
        source: Source of this rank's batches.
        on_validation: Function to call after each validation.

    Raises:
        UserError: A number is no longer finite, the disk is full, or the ranks see different files.
    """
    quiet_engines()
    with repeatable(run.config.training, device):
        _train(run, device, source, on_validation)


def _train(
    run: TrainingRun,
    device: torch.device,
    source: BatchSource,
    on_validation: Callable[[], None] | None,
) -> None:
    config = run.config
    prepared = Prepared(config.prepared_dir)
    plan = training_plan(prepared, config, run.steps, run.selection, run.neighbours)
    latest = latest_checkpoint(run.checkpoints_dir)
    check_ranks_agree(config, prepared, plan, latest.path.name if latest is not None else None)
    run.check(prepared, plan, latest)
    start = run.start(latest)
    annealing = annealing_steps(config.training.schedule, plan.total_steps)
    if start.progress.is_over(plan.total_steps, config.training.patience, annealing):
        return
    rank, world_size, step = dist.get_rank(), dist.get_world_size(), start.progress.step
    # Batches are built while the model is.
    with closing(source(plan, config, rank, world_size, step)) as host_batches:
        builder = BatchBuilder(prepared, config)
        trainer = _build_trainer(run, start, prepared, plan, builder.keys(), device)
        metrics = MetricsFile(run.work_dir / METRICS_FILE, step)
        batches = TimedIterator(host_batches)
        log = TrainingLog(metrics, batches, plan, device)
        objective, select_by = trainer.objective.module, config.evaluation.select_by
        validator = Validator(objective, prepared, builder, select_by, metrics, device)
        schema, rows = prepared.manifest.schema_fingerprint, table_rows(prepared)
        checkpoints = CheckpointWriter(run.checkpoints_dir, config, schema, rows)
        with closing(checkpoints):
            trainer.train(batches, start.progress, log, validator, checkpoints, on_validation)


def _build_trainer(
    run: TrainingRun,
    start: Start,
    prepared: Prepared,
    plan: TrainingPlan,
    keys: list[str],
    device: torch.device,
) -> Trainer:
    """Builds a trainer of the sharded model, and loads the checkpoint to start from."""
    settings = run.config.training
    torch.manual_seed(settings.seed)  # The towers start equal on all ranks.
    model = build_model(prepared, run.config.model, torch.device("meta"))
    objective = build_objective(model, run.config, prepared)
    use_precision(objective, settings, device)
    sharded, tables = shard(objective, model, settings, run.config.sharding, device)
    optimizers = Optimizers(sharded, settings)
    if dist.get_rank() == 0:
        write_text(run.work_dir / SHARDING_FILE, format_plan(tables))
    interval = validation_steps(settings, plan.steps_per_epoch)
    if start.checkpoint is not None and start.is_warm_start:
        unknown = unknown_rows(start.checkpoint.manifest.tables, prepared)
        fresh = {table_name(name): rows for name, rows in unknown.items()}
        warm_start(start.checkpoint, sharded, optimizers.combined, fresh)
    average = None
    if settings.averaging is not None:
        # A training of a given number of steps may end before its first validation.
        between = min(interval, plan.total_steps)
        average = WeightAverage(sharded, optimizers, settings.averaging, between)
    if start.checkpoint is not None and not start.is_warm_start:
        saved = average.state() if average is not None else None
        restore(start.checkpoint, sharded, optimizers.combined, saved)
    return Trainer(
        sharded,
        model,
        optimizers,
        settings,
        keys,
        device,
        total_steps=plan.total_steps,
        validation_steps=interval,
        earlier_steps=start.progress.schedule_start,
        average=average,
    )
