"""Batch softmax as a pipeline of small transforms of the logits."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def scaled_similarities(left: Tensor, right: Tensor, *, temperature: float) -> Tensor:
    """Computes dot products over the temperature, [rows, columns].

    Args:
        left: [rows, dim], L2-normalised.
        right: [columns, dim], L2-normalised.
        temperature: Temperature of the softmax, a scalar.
    """
    return (left / temperature) @ right.T


def log_mixture(log_q: Tensor, *, uniform: Tensor) -> Tensor:
    """Computes how probable items are as candidates, where some are uniform (Yang et al. 2020).

    Args:
        log_q: [columns] log of the probability that an example's item is this one.
        uniform: [2] the fraction of candidates that are drawn uniformly, the others being examples'
            items, and the probability of each item in a uniform draw.

    Returns:
        [columns] log of the probability that a candidate is this item.
    """
    fraction, probability = uniform.to(log_q.dtype)
    return torch.logaddexp(log_q + torch.log1p(-fraction), (fraction * probability).log())


def sampling_correction(*, log_sampled: Tensor, log_q: Tensor, strength: float) -> Tensor:
    """Computes the correction that `correct_for_sampling` subtracts, [columns].

    A candidate that is drawn w times as often as another is a negative w times as often, which
    log w off its logit makes up for (Yi et al. 2019, eq. 3): logits are then those of a softmax
    over the whole corpus. With a strength below 1, a part of log Q(item) is added to the logits in
    training and not in serving: the model then learns how much more probable the item is than its
    popularity says.

        in the batch        w = Q                        strength x log Q
        mixed with uniform  w = the mixture              log w - (1 - strength) x log Q
        the whole corpus    w = 1, nothing is sampled    - (1 - strength) x log Q

    Args:
        log_sampled: [columns] log of how often the item is a candidate, up to a common factor.
        log_q: [columns] log of the probability that an example's item is this one.
        strength: Strength of the correction: 1 is the paper's; 0, in the batch, is none.
    """
    return log_sampled - (1 - strength) * log_q


def correct_for_sampling(logits: Tensor, *, correction: Tensor) -> Tensor:
    """Subtracts the correction in training; serving scores are not corrected.

    Args:
        logits: [rows, columns].
        correction: [columns], see `sampling_correction`; infinite where there is no candidate.
    """
    return logits - correction


def mask_accidental_hits(logits: Tensor, *, hits: Tensor) -> Tensor:
    """Sets the logits of accidental hits to minus infinity.

    Args:
        logits: [rows, columns].
        hits: [n, 2] row and column of each accidental hit; never a row's own target.
    """
    return logits.index_put((hits[:, 0], hits[:, 1]), logits.new_tensor(float("-inf")))


def mask_equal(logits: Tensor, *, left: Tensor, right: Tensor, targets: Tensor) -> Tensor:
    """Sets logits to minus infinity where row and column are the same item, but not at the target.

    Columns of padding, which is item -1, are set as well.

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
    """Computes the mean over rows of weight times cross-entropy; weights are not normalised.

    Args:
        logits: [rows, columns].
        targets: [rows] columns.
        weight: [rows].
    """
    return (weight * F.cross_entropy(logits, targets, reduction="none")).mean()


# `torch.distributed.nn.functional.all_gather` has this forward pass, but over gloo its backward
# pass adds the ranks' gradients in another order (torch 2.13): from three ranks on results differ
# in the last bits from those of `all_reduce`, and it is no faster.
class _GatherWithGradient(torch.autograd.Function):
    """All ranks' rows, one rank after the other; each row's gradient is the sum over ranks."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # Not ours to change.
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather(local: Tensor) -> Tensor:
    """Returns the rows of all ranks in rank order, [world_size x rows, ...], with gradients.

    Each rank must have the same number of rows. Without a process group of several ranks it is the
    identity.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return local
    return _GatherWithGradient.apply(local)


def target_columns(rows: int, device: torch.device) -> Tensor:
    """Returns the positions of this rank's rows among gathered rows, [rows]."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    return torch.arange(rank * rows, (rank + 1) * rows, device=device)
