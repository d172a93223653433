"""The training loop of one rank; every rank of the process group runs the same.

`Trainer.train` is the loop, `Trainer.train_step` one step. `recsys.training.rank` builds a trainer
and what it needs, `recsys.training.launch` starts the ranks.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torchrec.distributed import DistributedModelParallel

from recsys.checkpoint.manifest import Progress
from recsys.checkpoint.state import checkpoint_state
from recsys.checkpoint.writer import CheckpointWriter
from recsys.config.training import TrainingConfig
from recsys.data.batch import Batch, agreed_batch
from recsys.data.host_batch import HostBatch
from recsys.distributed.optimizers import Optimizers
from recsys.model.two_tower import TwoTower
from recsys.training.averaging import WeightAverage
from recsys.training.log import TrainingLog
from recsys.training.numerics import check_gradients, check_loss, seed_dropout
from recsys.training.objective import Losses
from recsys.training.pipelining import pipelined_steps
from recsys.training.schedules import annealing_steps, learning_rate_factor
from recsys.training.validator import Validator

# Number of steps between two lines of losses.
_LOG_STEPS = 20


class Trainer:
    """Trains a sharded objective on this rank, from a checkpoint's step to the end.

    Args:
        objective: Sharded objective, which holds the model.
        model: The model.
        optimizers: Optimizers of all parameters of the objective.
        settings: Training section of the configuration.
        keys: Names of the sparse features of a batch.
        device: Device of this rank.
        total_steps: Number of steps of this training.
        validation_steps: Number of steps between two validations.
        earlier_steps: Number of steps of the trainings that this one continues, for the schedule.
        average: Average of the weights, which is validated and kept; None: the weights are.
    """

    def __init__(
        self,
        objective: DistributedModelParallel,
        model: TwoTower,
        optimizers: Optimizers,
        settings: TrainingConfig,
        keys: list[str],
        device: torch.device,
        *,
        total_steps: int,
        validation_steps: int,
        earlier_steps: int = 0,
        average: WeightAverage | None = None,
    ) -> None:
        self.objective = objective
        self.model = model
        self.optimizers = optimizers
        self.settings = settings
        self.keys = keys
        self.device = device
        self.total_steps = total_steps
        self.annealing = annealing_steps(settings.schedule, total_steps)
        self.validation_steps = validation_steps
        self.earlier_steps = earlier_steps
        self.average = average

    def train(
        self,
        batches: Iterator[HostBatch],
        progress: Progress,
        log: TrainingLog,
        validator: Validator,
        checkpoints: CheckpointWriter,
        on_validation: Callable[[], None] | None = None,
    ) -> None:
        """Trains until the last step, or until validations have not improved for too long.

        With the infinite schedule, patience brings annealing forward instead.

        Args:
            batches: This rank's batches, from step `progress.step` on.
            progress: Progress of the checkpoint that the model was loaded from.
            log: Log of the losses.
            validator: Validator of the model.
            checkpoints: Writer of checkpoints.
            on_validation: Function to call after each validation.

        Raises:
            UserError: A number is no longer finite, or the disk is full.
        """
        if progress.annealing_from is not None:
            self.total_steps = progress.annealing_from + self.annealing
        steps = self.steps(batches, progress.step)
        every = self.settings.checkpoint_every or self.total_steps
        for step, (losses, batch) in enumerate(steps, progress.step + 1):
            log.add(losses)
            checkpoints.check()
            if self.average is not None:
                self.average.update(step)
            progress = progress.at_step(step)
            is_validation = step % self.validation_steps == 0 or step == self.total_steps
            if self.annealing and step == self.total_steps - self.annealing:
                progress = progress.annealing_now()
            is_checkpoint = is_validation or step % every == 0 or step == progress.annealing_from
            # A line before each checkpoint makes the lines of a resumed run equal.
            if step % _LOG_STEPS == 0 or is_checkpoint:
                log.write(step)
            if is_validation:
                with self.average.in_place() if self.average is not None else nullcontext():
                    score = validator.validate(step, batch)
                progress = progress.after_validation(score)
                progress = self._annealing_if_stale(progress)
            if is_checkpoint:
                checkpoints.save(self.state(), progress)
            if is_validation:
                if on_validation is not None:
                    on_validation()
                log.restart_clock()  # Validation does not count in the speed of training.
            if progress.is_over(self.total_steps, self.settings.patience, self.annealing):
                break
        checkpoints.wait()

    def _annealing_if_stale(self, progress: Progress) -> Progress:
        """Begins to anneal where patience ends before the planned step."""
        is_before = self.annealing > 0 and progress.annealing_from is None
        if is_before and progress.stale >= self.settings.patience:
            self.total_steps = progress.step + self.annealing
            return progress.annealing_now()
        return progress

    def state(self) -> dict[str, Any]:
        """Returns every tensor of a checkpoint, by name."""
        state = checkpoint_state(self.objective, self.optimizers.combined)
        return state | self.average.state() if self.average is not None else state

    def steps(self, batches: Iterator[HostBatch], first: int) -> Iterator[tuple[Losses, Batch]]:
        """Makes the steps after the first `first` ones, and yields the losses and batch of each.

        After `validation_steps` steps the model may be used for other things than training.
        """
        if self.device.type == "cuda":
            return pipelined_steps(self, batches, first)
        return self.plain_steps(batches, first)

    def plain_steps(
        self, batches: Iterator[HostBatch], first: int
    ) -> Iterator[tuple[Losses, Batch]]:
        """Makes one step after the other."""
        for step, host in enumerate(batches, first):
            batch = agreed_batch(host, self.keys, self.device)
            yield self.train_step(step, batch), batch

    def train_step(self, step: int, batch: Batch) -> Losses:
        """Updates every parameter once.

        Args:
            step: Number of steps done before this one.
            batch: This rank's part of the global batch, on its device.

        Returns:
            Losses to log, by name.

        Raises:
            UserError: The loss or a gradient is not finite.
        """
        self.begin_step(step)
        loss, losses = self.forward(step, batch)
        loss.backward()  # Tables are updated here, by kernels that are fused into it.
        self.finish_step(step, loss)
        return losses

    def begin_step(self, step: int) -> None:
        """Sets the learning rates and clears the gradients."""
        factor = learning_rate_factor(
            self.settings.schedule,
            step,
            total_steps=self.total_steps,
            earlier_steps=self.earlier_steps,
            annealing=self.annealing,
        )
        self.optimizers.set_learning_rates(self.earlier_steps + step, factor)
        self.optimizers.zero_grad()

    def forward(self, step: int, batch: Batch) -> tuple[Tensor, Losses]:
        """Computes the loss to minimise, and the losses to log."""
        seed_dropout(self.settings.seed, step)
        loss, losses = self.objective(batch)
        check_loss(step, loss)
        return loss, losses

    def finish_step(self, step: int, loss: Tensor) -> None:
        """Applies the gradients, clipped; then lets the objective update what has none."""
        dense = self.optimizers.dense
        check_gradients(step, loss, (parameter.grad for parameter in dense))
        if self.settings.gradient_clipping is not None:
            # Dense gradients, and so their norm, are equal on all ranks here. Those of tables are
            # not clipped, as fused kernels never hold all of them at once.
            torch.nn.utils.clip_grad_norm_(dense, self.settings.gradient_clipping)
        self.optimizers.step()
        self.objective.module.after_step()
