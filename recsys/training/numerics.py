"""Numerics of a training: precision, repeatable kernels, and checks for non-finite numbers."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from feature_store.core.errors import UserError
from feature_store.core.hashing import hash64
from recsys import products
from recsys.config.training import TrainingConfig
from recsys.products import linear

_DROPOUT = 31
# Number of steps between two checks on a GPU, each of which waits for the GPU.
_GPU_STEPS = 20
_ADVICE = (
    "lower training.sparse_learning_rate or training.dense_learning_rate, or raise "
    "loss.temperature; the last checkpoint is intact."
)


class TrainedLinear(nn.Linear):
    """Linear layer that trains by `recsys.products`, and is an `nn.Linear` in evaluation."""

    @classmethod
    def sharing(cls, layer: nn.Linear) -> "TrainedLinear":
        """Returns a layer with the parameters of another one, not with copies of them."""
        has_bias = layer.bias is not None
        shared = cls(layer.in_features, layer.out_features, has_bias, device="meta")
        shared.weight, shared.bias = layer.weight, layer.bias
        return shared.train(layer.training)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns [..., out_features] float32."""
        if not self.training:
            return super().forward(inputs)
        return linear(inputs, self.weight, self.bias)


class BFloat16Linear(TrainedLinear):
    """Linear layer that multiplies in bf16 while it trains, and is an `nn.Linear` in evaluation.

    Its results are fp32 again, so that norms, softmax and losses are.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns [..., out_features] float32."""
        if not self.training:
            return super().forward(inputs)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return F.linear(inputs, self.weight, self.bias).float()


def use_precision(module: nn.Module, settings: TrainingConfig, device: torch.device) -> None:
    """Replaces the linear layers of a module by those that the settings ask for.

    Args:
        module: Module that holds the layers; it is changed in place.
        settings: Training section of the configuration.
        device: Device that will train the module.

    Raises:
        UserError: The device has no bf16 instructions, so that bf16 would be slower and less exact.
    """
    kind = TrainedLinear if settings.precision == "fp32" else BFloat16Linear
    if kind is BFloat16Linear and not has_bfloat16(device):
        raise UserError(
            f"training.precision bf16 needs a processor with bf16 instructions (avx512_bf16, AMX, "
            f"or a GPU from Ampere on), and this {device.type} has none; set it to fp32."
        )
    for parent in list(module.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Linear):
                setattr(parent, name, kind.sharing(layer))


def has_bfloat16(device: torch.device) -> bool:
    """Returns whether a device has instructions that multiply bf16 matrices."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return products.has_bfloat16()


@contextmanager
def repeatable(settings: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Makes torch choose kernels that sum in one order; open it before anything runs on a GPU.

    On a CPU they cost nothing that could be measured, so they are always chosen: else the same
    training would find something else each time, where several threads add to the same rows.
    """
    if device.type == "cuda" and not settings.deterministic:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # Types do not know its setting.
    was_filling = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # Else each new tensor is filled, in case something reads what nothing wrote.
    memory.fill_uninitialized_memory = False
    if device.type == "cuda":
        # Without it cuBLAS shares workspaces between streams in any order.
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = was_filling


def seed_dropout(seed: int, step: int) -> None:
    """Sets the seed of a step's dropout, which is equal after a resumption and differs by rank."""
    key = int(hash64(seed, _DROPOUT, step, dist.get_rank())) % 2**63
    # Not `torch.manual_seed`, which formats a stack for each kind of device that is not there.
    torch.default_generator.manual_seed(key)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(key)


def check_loss(step: int, loss: Tensor) -> None:
    """Raises where the loss is not finite, before the backward pass updates the tables.

    On a GPU it looks only at every 20th step, as reading a number waits for all queued work.
    Checkpoints stay clean, because the mean losses are checked before each one.

    Args:
        step: Number of steps done before this one.
        loss: Loss of the step, a scalar.

    Raises:
        UserError: The loss is not finite.
    """
    if _is_due(step, loss) and not bool(loss.isfinite()):
        raise not_finite(step + 1)


def not_finite(step: int) -> UserError:
    """Returns the error for a loss of step number `step` that is not finite."""
    return UserError(f"the loss is not finite at step {step}; {_ADVICE}")


def check_gradients(step: int, loss: Tensor, gradients: Iterable[Tensor | None]) -> None:
    """Raises where the gradients have exploded, before the dense optimizer's step.

    Args:
        step: Number of steps done before this one.
        loss: Loss of the step, a scalar.
        gradients: Gradients of the dense parameters.

    Raises:
        UserError: Their norm is not finite.
    """
    if not _is_due(step, loss):
        return
    norm = torch.nn.utils.get_total_norm([g for g in gradients if g is not None])
    if not bool(norm.isfinite()):
        raise UserError(
            f"the gradients' norm is not finite at step {step + 1} (loss {float(loss):.4g}); "
            f"{_ADVICE}"
        )


def _is_due(step: int, loss: Tensor) -> bool:
    return not loss.is_cuda or (step + 1) % _GPU_STEPS == 0
