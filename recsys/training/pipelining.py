"""How steps follow each other: one by one, or on a GPU with the next batches on their way.

TorchRec's pipeline trains on one batch, exchanges the tables' input of the next one between ranks,
and copies the one after that to the GPU, all at once.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from recsys.data.batch import Batch, agreed_batch, history_rows
from recsys.data.builder import Arrays
from recsys.model.two_tower import TwoTower
from recsys.training.step import Stepper

# What the objective wants to be logged, and the batch.
Done = tuple[dict[str, Tensor], Batch]


def steps(
    stepper: Stepper,
    model: TwoTower,
    batches: Iterable[Arrays],
    keys: list[str],
    device: torch.device,
    *,
    first: int,
    total: int,
    interval: int,
) -> Iterator[Done]:
    """Makes the steps from `first` to `total`, and yields what came of each; a collective call.

    Args:
        stepper: Makes one.
        model: Its tables are exchanged ahead where the device is a GPU.
        batches: Of this rank, from step `first` on.
        keys: Of the sparse features.
        device: Of this rank.
        first: Steps done before.
        total: Of the training.
        interval: After every so many steps, and at the end, the model may be used for other things
            than training.
    """
    if device.type == "cuda":
        return pipelined_steps(
            stepper, model, batches, keys, device, first=first, total=total, interval=interval
        )
    return plain_steps(stepper, batches, keys, device, first=first)


def plain_steps(
    stepper: Stepper,
    batches: Iterable[Arrays],
    keys: list[str],
    device: torch.device,
    *,
    first: int,
) -> Iterator[Done]:
    """One after the other."""
    for step, arrays in enumerate(batches, start=first):
        batch = agreed_batch(arrays, keys, device)
        yield stepper.step(step, batch), batch


def pipelined_steps(
    stepper: Stepper,
    model: TwoTower,
    batches: Iterable[Arrays],
    keys: list[str],
    device: torch.device,
    *,
    first: int,
    total: int,
    interval: int,
) -> Iterator[Done]:
    """The same steps, with the next batch's exchange and the copy of the one after beside them.

    Before each time that the model is used for other things the pipeline runs empty.
    """
    source = _agreed_batches(batches, keys, device)
    training = _Training(stepper, first)
    pipeline = TrainPipelineSparseDist(
        _Tables(model.tables),
        training,
        device,
        custom_model_fwd=training.forward,
    )
    while training.step_number < total:
        step = training.step_number
        end = min(total, (step // interval + 1) * interval)
        section = islice(source, end - step)
        while training.step_number < end:
            done = pipeline.progress(section)
            if training.step_number == end:
                pipeline.detach()
            yield done


class _Tables(nn.Module):
    """All that the pipeline must trace: how the tables' input comes out of a batch."""

    def __init__(self, tables: nn.Module) -> None:
        super().__init__()
        self.tables = tables

    def forward(self, batch: Batch) -> Tensor:
        """Is traced, and never called."""
        return self.tables(batch.sparse)


class _Training:
    """The stepper, as the pipeline calls it: like an optimizer, and like a model."""

    def __init__(self, stepper: Stepper, first: int) -> None:
        self._stepper = stepper
        self.step_number = first
        self._loss = torch.zeros(())

    def zero_grad(self) -> None:
        """Begins a step."""
        self._stepper.begin(self.step_number)

    def forward(self, batch: Batch) -> tuple[Tensor, Done]:
        """The loss, and what is handed on."""
        loss, parts = self._stepper.forward(self.step_number, batch)
        self._loss = loss.detach()
        return loss, (parts, batch)

    def step(self) -> None:
        """Ends a step."""
        self._stepper.finish(self.step_number, self._loss)
        self.step_number += 1


def _agreed_batches(
    batches: Iterable[Arrays], keys: list[str], device: torch.device
) -> Iterator[Batch]:
    """In page-locked memory, where there is a GPU to copy from it."""
    is_cuda = device.type == "cuda"
    # Over nccl, agreeing on the size of a batch would wait for the steps that are under way.
    group = dist.new_group(backend="gloo") if is_cuda else None
    for arrays in batches:
        rows = torch.tensor(history_rows(arrays))
        dist.all_reduce(rows, op=dist.ReduceOp.MAX, group=group)
        batch = Batch.from_arrays(arrays, keys, int(rows))
        yield batch.pin_memory() if is_cuda else batch
