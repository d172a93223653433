"""Steps on a GPU, with the next batches on their way.

TorchRec's pipeline trains on one batch, exchanges the tables' input of the next one between ranks,
and copies the one after that to the GPU, all at once. It calls the same parts of a step as
`Trainer.train_step`: `begin_step`, `forward` and `finish_step`.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from recsys.data.batch import Batch
from recsys.data.host_batch import HostBatch
from recsys.model.two_tower import TwoTower
from recsys.training.objective import Losses


class StepParts(Protocol):
    """A trainer, as far as the pipeline uses it; see `Trainer`."""

    model: TwoTower
    keys: list[str]
    device: torch.device
    total_steps: int
    validation_steps: int

    def begin_step(self, step: int) -> None:
        """Prepares the optimizers."""

    def forward(self, step: int, batch: Batch) -> tuple[Tensor, Losses]:
        """Computes the loss."""

    def finish_step(self, step: int, loss: Tensor) -> None:
        """Applies the gradients."""


def pipelined_steps(
    trainer: StepParts, batches: Iterator[HostBatch], first: int
) -> Iterator[tuple[Losses, Batch]]:
    """Makes the steps of `Trainer.plain_steps`, and prepares the next batches meanwhile.

    Before each validation the pipeline runs empty, and hands the model back.
    """
    source = _agreed_batches(batches, trainer.keys, trainer.device)
    steps = _PipelinedSteps(trainer, first)
    pipeline = TrainPipelineSparseDist(
        _Tables(trainer.model.tables),
        steps,
        trainer.device,
        custom_model_fwd=steps.forward,
    )
    while steps.step_number < trainer.total_steps:
        step, interval = steps.step_number, trainer.validation_steps
        end = min(trainer.total_steps, (step // interval + 1) * interval)
        section = islice(source, end - step)
        while steps.step_number < end:
            losses_and_batch = pipeline.progress(section)
            if steps.step_number == end:
                pipeline.detach()
            yield losses_and_batch


class _Tables(nn.Module):
    """The part of the model that the pipeline traces: the way from a batch to the tables' input."""

    def __init__(self, tables: nn.Module) -> None:
        super().__init__()
        self.tables = tables

    def forward(self, batch: Batch) -> Tensor:
        """Looks up a batch; it is traced and never called."""
        return self.tables(batch.sparse)


class _PipelinedSteps:
    """Parts of a step under the names that the pipeline calls: an optimizer's and a model's.

    Args:
        trainer: Trainer of this rank.
        first: Number of steps done before.
    """

    def __init__(self, trainer: StepParts, first: int) -> None:
        self._trainer = trainer
        self.step_number = first
        self._loss = torch.zeros(())

    def zero_grad(self) -> None:
        """Begins a step."""
        self._trainer.begin_step(self.step_number)

    def forward(self, batch: Batch) -> tuple[Tensor, tuple[Losses, Batch]]:
        """Returns the loss, and the losses and the batch to yield."""
        loss, losses = self._trainer.forward(self.step_number, batch)
        self._loss = loss.detach()
        return loss, (losses, batch)

    def step(self) -> None:
        """Finishes a step."""
        self._trainer.finish_step(self.step_number, self._loss)
        self.step_number += 1


def _agreed_batches(
    batches: Iterator[HostBatch], keys: list[str], device: torch.device
) -> Iterator[Batch]:
    """Yields batches that are as large on every rank; in page-locked memory for a GPU."""
    is_cuda = device.type == "cuda"
    # Over nccl, agreeing on the size of a batch would wait for the steps that are under way.
    group = dist.new_group(backend="gloo") if is_cuda else None
    for host in batches:
        rows = torch.tensor(host.history_rows)
        dist.all_reduce(rows, op=dist.ReduceOp.MAX, group=group)
        batch = Batch.from_host(host, keys, int(rows))
        yield batch.pin_memory() if is_cuda else batch
