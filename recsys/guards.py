"""Stops a training whose numbers are no longer finite before it spoils the tables."""

from collections.abc import Iterable

import torch
from torch import Tensor

from feature_store.core.errors import UserError

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
