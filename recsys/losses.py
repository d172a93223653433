"""Batch softmax as a pipeline of small transforms of the logits."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def scaled_similarities(left: Tensor, right: Tensor, *, temperature: float) -> Tensor:
    """Dot products over the temperature, [rows, columns].

    Args:
        left: [rows, dim], L2-normalised.
        right: [columns, dim], L2-normalised.
        temperature: Of the softmax.
    """
    return left @ right.T / temperature


def correct_for_sampling(logits: Tensor, *, log_q: Tensor, strength: float) -> Tensor:
    """Takes the log-probability of each in-batch item off its logit (Yi et al. 2019, eq. 3).

    Popular items are in the batch more often, and so are negatives more often; the correction makes
    up for it. It belongs to training only: serving scores are not corrected.

    Args:
        logits: [rows, columns].
        log_q: [columns] log of the probability that an example's item is this one.
        strength: 1 is the paper's; 0 is none.
    """
    return logits - strength * log_q


def mask_hits(logits: Tensor, *, hits: Tensor) -> Tensor:
    """Minus infinity where a negative is in truth a positive.

    Args:
        logits: [rows, columns].
        hits: [n, 2] row and column; never a row's own target.
    """
    return logits.index_put((hits[:, 0], hits[:, 1]), logits.new_tensor(float("-inf")))


def mask_equal(logits: Tensor, *, left: Tensor, right: Tensor, targets: Tensor) -> Tensor:
    """Minus infinity where row and column are the same item, but at the row's own target.

    So are columns of padding, which is item -1.

    Args:
        logits: [rows, columns].
        left: [rows] items.
        right: [columns] items.
        targets: [rows] columns.
    """
    equal = (left[:, None] == right[None, :]) | (right < 0)
    equal[torch.arange(len(left), device=left.device), targets] = False
    return logits.masked_fill(equal, float("-inf"))


def weighted_cross_entropy(logits: Tensor, *, targets: Tensor, weight: Tensor) -> Tensor:
    """Mean over rows of weight times cross-entropy; the weights are not normalised.

    Args:
        logits: [rows, columns].
        targets: [rows] columns.
        weight: [rows].
    """
    return (weight * F.cross_entropy(logits, targets, reduction="none")).mean()


class _GatherWithGradient(torch.autograd.Function):
    """All ranks' rows, one rank after the other; each row's gradient is the sum over ranks."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather(local: Tensor) -> Tensor:
    """The rows of all ranks in rank order, [world_size x rows, ...], with gradients.

    Each rank must have the same number of rows. Without a process group of several ranks it is the
    identity.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return local
    return _GatherWithGradient.apply(local)


def own_columns(rows: int, device: torch.device) -> Tensor:
    """Where this rank's rows lie among gathered rows, [rows]."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    return torch.arange(rank * rows, (rank + 1) * rows, device=device)
