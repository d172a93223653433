"""Batch softmax: the loss and its gradients in one pass over the matrix of logits."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys.products import product

# Logits that are in memory at once, unless so few rows would make matrix products slow.
_LOGITS = 2**20
_LEAST_ROWS = 128


class Masked(Protocol):
    """Logits that are left out of a softmax; never a row's own target."""

    def of_rows(self, start: int, stop: int) -> "Masked":
        """Returns those of some rows, counted from `start`."""
        ...

    def fill(self, logits: Tensor) -> None:
        """Sets logits to minus infinity, in place.

        Args:
            logits: [rows, columns].
        """
        ...


@dataclass(frozen=True)
class Pairs:
    """Logits by row and column: accidental hits.

    Attributes:
        positions: [n] row x columns + column of each, those of a row before those of later ones.
        columns: Number of columns.
    """

    positions: Tensor
    columns: int

    @classmethod
    def of(cls, pairs: Tensor, columns: int) -> "Pairs":
        """Returns the logits of [n, 2] rows and columns; rows ascend."""
        return cls(pairs[:, 0] * columns + pairs[:, 1], columns)

    def of_rows(self, start: int, stop: int) -> "Pairs":
        """Returns those of some rows, counted from `start`."""
        ends = self.positions.new_tensor([start, stop]) * self.columns
        first, last = torch.searchsorted(self.positions, ends).tolist()
        return Pairs(self.positions[first:last] - start * self.columns, self.columns)

    def fill(self, logits: Tensor) -> None:
        """Sets logits to minus infinity, in place; see `Masked`."""
        logits.view(-1).index_fill_(0, self.positions, float("-inf"))


@dataclass(frozen=True)
class Equal:
    """Logits whose row and column share an item, except at the target, and those of padding.

    Attributes:
        left: [n, rows] items: a logit is left out where any of the n equals that of its column.
        right: [n, columns] items; -1 is padding.
        targets: [rows] columns.
    """

    left: Tensor
    right: Tensor
    targets: Tensor

    def of_rows(self, start: int, stop: int) -> "Equal":
        """Returns those of some rows, counted from `start`."""
        return Equal(self.left[:, start:stop], self.right, self.targets[start:stop])

    def fill(self, logits: Tensor) -> None:
        """Sets logits to minus infinity, in place; see `Masked`."""
        left, right = self.left.int(), self.right.int()  # Half the bytes to compare.
        equal = (left[0, :, None] == right[0]) | (right[0] < 0)
        for row, column in zip(left[1:], right[1:], strict=True):
            equal |= row[:, None] == column
        equal.scatter_(1, self.targets[:, None], False)
        logits.masked_fill_(equal, float("-inf"))


def batch_softmax(
    left: Tensor,
    right: Tensor,
    *,
    temperature: float,
    targets: Tensor,
    weight: Tensor,
    correction: Tensor | None = None,
    masked: Masked | None = None,
) -> Tensor:
    """Computes the mean over rows of weight times cross-entropy; weights are not normalised.

    The logits are left @ right.T / temperature - correction. They are never kept: their gradient
    takes their place, and of a large matrix only some rows are there at a time.

    Args:
        left: [rows, dim], L2-normalised.
        right: [columns, dim], L2-normalised.
        temperature: Temperature of the softmax; lower is sharper.
        targets: [rows] columns.
        weight: [rows].
        correction: [columns], see `sampling_correction`; infinite where there is no candidate.
            Serving scores are not corrected.
        masked: Logits that are left out.
    """
    loss: Tensor = _BatchSoftmax.apply(
        left, right, temperature, targets, weight, correction, masked
    )
    return loss


class _BatchSoftmax(torch.autograd.Function):
    """Computes the gradients of both sides in the forward pass."""

    @staticmethod
    def forward(
        context: Any,
        left: Tensor,
        right: Tensor,
        temperature: float,
        targets: Tensor,
        weight: Tensor,
        correction: Tensor | None,
        masked: Masked | None,
    ) -> Tensor:
        rows = len(left)
        bias = None if correction is None else -correction.to(left.dtype)
        needs_left, needs_right, *_ = context.needs_input_grad
        size = max(_LEAST_ROWS, _LOGITS // max(1, len(right)))
        losses, left_gradients, right_gradient = [], [], None
        for start in range(0, rows, size):
            part = slice(start, min(rows, start + size))
            scaled = left[part] / temperature
            logits = product(scaled, right, bias)
            if masked is not None:
                (masked if size >= rows else masked.of_rows(start, part.stop)).fill(logits)
            loss, of_logits = _softmax(logits, targets[part])
            losses.append(loss * weight[part])
            share = weight[part, None] / rows
            if needs_left:
                left_gradients.append(product(of_logits, right.T).mul_(share / temperature))
            if needs_right:
                # Transposed twice: so oneDNN takes two thirds of the time.
                added = product((scaled * share).T, of_logits.T).T
                right_gradient = added if right_gradient is None else right_gradient.add_(added)
        context.save_for_backward(
            torch.cat(left_gradients) if left_gradients else None, right_gradient
        )
        return torch.cat(losses).sum() / rows

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, right = (None if one is None else one * gradient for one in context.saved_tensors)
        return left, right, None, None, None, None, None


def _softmax(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the cross-entropy of each row, [rows], and its gradient in the place of the logits.

    Not `log_softmax`, whose exponentials would have to be computed again for the gradient.

    Args:
        logits: [rows, columns]; overwritten, for a new matrix costs as much as the softmax.
        targets: [rows] columns.
    """
    column = targets[:, None]
    target, largest = logits.gather(1, column), logits.amax(dim=1, keepdim=True)
    shares = torch.softmax(logits, dim=1, out=logits)
    # The largest share is 1 over the sum of exponentials, and never rounded to 0.
    loss = largest - target - shares.amax(dim=1, keepdim=True).log()
    return loss.squeeze(1), shares.scatter_add_(1, column, shares.new_full(column.shape, -1.0))
