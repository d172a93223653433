"""Corrections of a batch softmax's logits, and the exchange of its rows between ranks."""

import torch
import torch.distributed as dist
from torch import Tensor


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
    """Computes the correction that is subtracted from logits in training, [columns].

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
