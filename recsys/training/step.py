"""One optimisation step, and what makes it fast or repeatable."""

import os
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec.distributed import DistributedModelParallel

from feature_store.core.errors import UserError
from feature_store.core.hashing import hash64
from recsys.config.training import TrainingConfig
from recsys.data.batch import Batch
from recsys.distributed.optimizers import Optimizers
from recsys.training.schedules import learning_rate_factor

_DROPOUT = 31


class Stepper:
    """Makes steps of one rank's training.

    Args:
        sharded: The objective with its model.
        optimizers: Of all its parameters.
        settings: Seed, schedule and clipping.
        total_steps: Of this training.
        earlier_steps: Of those that it goes on from; see `learning_rate_factor`.
    """

    def __init__(
        self,
        sharded: DistributedModelParallel,
        optimizers: Optimizers,
        settings: TrainingConfig,
        total_steps: int,
        earlier_steps: int,
    ) -> None:
        self._sharded = sharded
        self._optimizers = optimizers
        self._settings = settings
        self._total_steps = total_steps
        self._earlier_steps = earlier_steps

    def step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Updates every parameter once; returns what the objective wants to be logged.

        Args:
            step: Of this training, from 0.
            batch: This rank's, on its device.

        Raises:
            UserError: The loss or a gradient is not finite.
        """
        self.begin(step)
        loss, parts = self.forward(step, batch)
        loss.backward()
        self.finish(step, loss)
        return parts

    def begin(self, step: int) -> None:
        """Sets the learning rates."""
        factor = learning_rate_factor(
            self._settings.schedule,
            step,
            total_steps=self._total_steps,
            earlier_steps=self._earlier_steps,
        )
        self._optimizers.begin(self._earlier_steps + step, factor)

    def forward(self, step: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, which is finite, and what is to be logged."""
        # Dropout of the towers: the same after a resumption, different on each rank.
        key = hash64(self._settings.seed, _DROPOUT, step, dist.get_rank())
        torch.manual_seed(int(key) % 2**63)
        loss, parts = self._sharded(batch)
        check_loss(step, loss)
        return loss, parts

    def finish(self, step: int, loss: Tensor) -> None:
        """Clips and applies the gradients, then lets the objective update what has none."""
        check_gradients(step, loss, (p.grad for p in self._optimizers.dense))
        self._optimizers.finish()
        self._sharded.module.after_step()


def use_precision(module: nn.Module, settings: TrainingConfig, device: torch.device) -> None:
    """Lets the linear layers of a module multiply in bf16 while it trains, if it is asked for.

    Their results are fp32 again, so that norms, softmax and losses are.

    Raises:
        UserError: The processor has no instructions for it, and would be slower and less exact.
    """
    if settings.precision == "fp32":
        return
    check_bfloat16(device)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.forward = _in_bfloat16(layer)  # type: ignore[method-assign, assignment]


def check_bfloat16(device: torch.device) -> None:
    """Whether the processor multiplies bf16 matrices by itself.

    Raises:
        UserError: It does not.
    """
    if device.type == "cuda":
        is_able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        is_able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if not is_able:
        raise UserError(
            f"training.precision bf16 needs a processor with bf16 instructions (avx512_bf16, AMX, "
            f"or a GPU from Ampere on), and this {device.type} has none; set it to fp32."
        )


def _in_bfloat16(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The forward pass of a linear layer; in evaluation it is as it was."""
    plain = layer.forward

    def forward(inputs: Tensor) -> Tensor:
        if not layer.training:
            return plain(inputs)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return plain(inputs).float()

    return forward


def use_determinism(settings: TrainingConfig) -> None:
    """Has torch choose kernels whose sums have one order; before anything runs on a GPU."""
    if not settings.deterministic:
        return
    # Of cuBLAS, which otherwise shares workspaces between streams in any order.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


# Steps between two checks on a GPU, each of which waits for it.
_GPU_STEPS = 20


_ADVICE = (
    "lower training.sparse_learning_rate or training.dense_learning_rate, or raise "
    "loss.temperature; the last checkpoint is intact."
)


def check_loss(step: int, loss: Tensor) -> None:
    """Before the backward pass, which updates the tables.

    On a GPU only now and then, as reading a number waits for all that is queued. Checkpoints are
    kept clean by the check of the mean losses before each one.

    Args:
        step: Steps done before this one.
        loss: A scalar.

    Raises:
        UserError: It is not finite.
    """
    if _is_due(step, loss) and not bool(loss.isfinite()):
        raise not_finite(step + 1)


def not_finite(step: int) -> UserError:
    """The error for a loss of step number `step`."""
    return UserError(f"the loss is not finite at step {step}; {_ADVICE}")


def check_gradients(step: int, loss: Tensor, gradients: Iterable[Tensor | None]) -> None:
    """Before the dense optimizer's step.

    Args:
        step: Steps done before this one.
        loss: The step's, a scalar.
        gradients: Of the dense parameters.

    Raises:
        UserError: Their norm is not finite, with a finite loss: they have exploded.
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
