"""A moving average of the towers' weights: what is validated, evaluated and exported.

Near its end a training with constant learning rates goes about a good point rather than to it. The
average of its last weights is nearer, and changes less from one validation to the next. Polyak and
Juditsky, Acceleration of stochastic approximation by averaging (1992); Morales-Brotons et al.,
Exponential moving average of weights in deep learning: dynamics and benefits (2024).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import Tensor
from torchrec.distributed import DistributedModelParallel

from recsys.checkpoint.row_state import State, shards_of
from recsys.checkpoint.state import AVERAGE, TOWERS, checkpoint_state
from recsys.distributed.optimizers import Optimizers
from recsys.distributed.shards import ShardedTensor, with_tensors

# Updates between two validations. A table is read as a whole in each, so that few are cheaper.
_UPDATES = 16
# Numbers exchanged at a time, which bounds the memory.
_AT_ONCE = 1 << 24


class WeightAverage:
    """Exponential moving average of the weights of a sharded model's towers.

    The n-th update moves it by a share of max(1 / (16 horizon), 2 / n), at most 1, towards the
    weights, so that the first ones, which are poor, are soon forgotten. Tables in fp16 have an
    average in fp16, which does not follow changes of less than 1 % of a number.

    Args:
        sharded: The sharded objective.
        optimizers: Optimizers of all its parameters.
        horizon: Length of the average in validations.
        validation_steps: Number of steps between two validations.
    """

    def __init__(
        self,
        sharded: DistributedModelParallel,
        optimizers: Optimizers,
        horizon: float,
        validation_steps: int,
    ) -> None:
        self._horizon = horizon
        self._every = max(1, validation_steps // _UPDATES)
        towers = {
            name: value
            for name, value in checkpoint_state(sharded, optimizers.combined).items()
            if name.startswith(TOWERS) and value.is_floating_point()
        }
        self._state: State = {f"{AVERAGE}{name}": _cloned(value) for name, value in towers.items()}
        self._weights = [part for value in towers.values() for part in _parts(value)]
        self._average = [part for value in self._state.values() for part in _parts(value)]
        self._kernels = [
            module
            for module in sharded.modules()
            if isinstance(module, SplitTableBatchedEmbeddingBagsCodegen)
        ]

    def state(self) -> State:
        """Returns the tensors of the average by their names in a checkpoint; not copies."""
        return self._state

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the weights after a step into account, where it is one of an update.

        Args:
            step: Number of steps done in this training.
        """
        count, rest = divmod(step, self._every)
        if rest:
            return
        self._write_caches_back()
        share = min(1.0, max(1 / (_UPDATES * self._horizon), 2 / count))
        torch._foreach_lerp_(self._average, self._weights, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the average into the model in a `with` block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        self._write_caches_back()
        for weights, average in zip(self._weights, self._average, strict=True):
            pairs = zip(_blocks(weights), _blocks(average), strict=True)
            for ours, theirs in pairs:
                kept = ours.clone()
                ours.copy_(theirs)
                theirs.copy_(kept)
        for kernel in self._kernels:
            kernel.reset_cache_states()

    def _write_caches_back(self) -> None:
        """Writes rows that a GPU caches back to their tables, which are what is read here."""
        for kernel in self._kernels:
            kernel.flush()


def _cloned(value: Tensor) -> Tensor:
    copies = [_copy(part) for part in _parts(value)]
    return with_tensors(value, copies) if isinstance(value, ShardedTensor) else copies[0]


def _copy(part: Tensor) -> Tensor:
    # A plain copy of a table in the machine's memory (fused_uvm) would lie on the GPU.
    if part.is_cuda and torch.ops.fbgemm.is_uvm_tensor(part):
        return torch.ops.fbgemm.new_unified_tensor(part, list(part.shape), False).copy_(part)
    return part.clone()


def _parts(value: Tensor) -> list[Tensor]:
    return [part.detach() for part, _ in shards_of(value)]


def _blocks(part: Tensor) -> tuple[Tensor, ...]:
    """Returns views of a tensor along its rows, each of bounded size."""
    if part.ndim == 0:
        return (part,)
    columns = max(1, part[:1].numel())
    return part.split(max(1, _AT_ONCE // columns))
