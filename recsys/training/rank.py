"""One rank of a training: it checks what it was given, builds a trainer, loads it, and trains."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch
import torch.distributed as dist

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
from recsys.checkpoint.state import restore, warm_start
from recsys.checkpoint.table_rows import forgotten_rows, table_rows
from recsys.checkpoint.writer import CheckpointWriter
from recsys.config.config import Config
from recsys.data.builder import BatchBuilder
from recsys.data.loader import BatchSource, TimedIterator
from recsys.data.plan import TrainingPlan
from recsys.distributed.optimizers import Optimizers
from recsys.distributed.plan_table import format_plan
from recsys.distributed.ranks import check_ranks_agree, silence_torchrec
from recsys.distributed.sharding import shard
from recsys.model.two_tower import build_model, table_name
from recsys.training.job import SHARDING_FILE, Job, training_plan
from recsys.training.log import METRICS_FILE, MetricsFile, TrainingLog
from recsys.training.numerics import use_determinism, use_precision
from recsys.training.objective import build_objective
from recsys.training.trainer import Trainer
from recsys.training.validator import Validator


def train_on_rank(
    job: Job,
    device: torch.device,
    source: BatchSource,
    on_validation: Callable[[], None] | None = None,
) -> None:
    """Trains to the end, or to the end of patience, from the latest checkpoint if there is one.

    Needs a process group. Leaves checkpoints, one of which is the best, and lines of metrics under
    the job's directory.

    Args:
        job: Arguments of the training.
        device: Device of this rank.
        source: Source of this rank's batches.
        on_validation: Function to call after each validation.

    Raises:
        UserError: A number is no longer finite, the disk is full, or the ranks differ.
    """
    silence_torchrec()
    config, work_dir = Config.model_validate_json(job.config), Path(job.work_dir)
    use_determinism(config.training)
    prepared = Prepared(config.prepared_dir)
    plan = training_plan(prepared, config)
    checkpoint = latest_checkpoint(work_dir / CHECKPOINTS)
    check_ranks_agree(
        config, prepared, plan, checkpoint[0].name if checkpoint is not None else None
    )
    progress = checkpoint[1].progress if checkpoint is not None else None
    if checkpoint is None and job.previous is not None:
        checkpoint = read_checkpoint(Path(job.previous))
    is_warm_start = progress is None
    progress = progress or _beginning(plan, checkpoint)
    if progress.plan != plan.identity:
        raise UserError(
            f"{work_dir} holds a training on other examples than those of {config.prepared_dir}; "
            "expected the ones that it began with: remove the directory to start over."
        )
    if progress.step >= plan.total_steps or progress.stale >= config.training.patience:
        return
    rank, world_size = dist.get_rank(), dist.get_world_size()
    # Batches are built while the model is.
    with closing(source(plan, config, rank, world_size, progress.step)) as arrays:
        builder = BatchBuilder(prepared, config)
        torch.manual_seed(config.training.seed)  # The towers start equal on all ranks.
        model = build_model(prepared, config.model, torch.device("meta"))
        objective = build_objective(model, config, prepared)
        use_precision(objective, config.training, device)
        sharded, tables = shard(objective, model, config.training, config.sharding, device)
        optimizers = Optimizers(sharded, config.training)
        trainer = Trainer(
            sharded,
            model,
            optimizers,
            config.training,
            builder.keys(),
            device,
            total_steps=plan.total_steps,
            validation_steps=-(-plan.steps_per_epoch // config.training.validations_per_epoch),
            earlier_steps=progress.schedule_start,
        )
        metrics = MetricsFile(work_dir / METRICS_FILE, progress.step)
        batches = TimedIterator(arrays)
        checkpoints = CheckpointWriter(
            work_dir / CHECKPOINTS,
            config,
            prepared.manifest.schema_fingerprint,
            table_rows(prepared),
        )
        if rank == 0:
            write_text(work_dir / SHARDING_FILE, format_plan(tables))
        if checkpoint is not None and is_warm_start:
            forgotten = {table_name(k): v for k, v in forgotten_rows(prepared).items()}
            warm_start(*checkpoint, sharded, optimizers.combined, forgotten)
        elif checkpoint is not None:
            restore(*checkpoint, sharded, optimizers.combined)
        with closing(checkpoints):
            trainer.train(
                batches,
                progress,
                TrainingLog(metrics, batches, plan, device),
                Validator(
                    objective, prepared, builder, config.evaluation.select_by, metrics, device
                ),
                checkpoints,
                on_validation,
            )


def _beginning(plan: TrainingPlan, previous: tuple[Path, CheckpointManifest] | None) -> Progress:
    start = previous[1].progress.schedule_step if previous is not None else 0
    return Progress(
        step=0, plan=plan.identity, best_step=0, best_value=None, stale=0, schedule_start=start
    )
