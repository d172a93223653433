"""The pooled embeddings of a lookup, divided into the inputs of the sides."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torchrec.sparse.jagged_tensor import KeyedTensor

# Columns that lie together, as their first one and the end.
Run = tuple[int, int]


def split_pooled(
    pooled: KeyedTensor, sides: Sequence[Sequence[str]], rows: Sequence[int]
) -> tuple[Tensor, ...]:
    """Returns the embeddings of each side's keys side by side, [rows, width].

    Without a copy where the keys lie together, as they do on a single rank.

    Args:
        pooled: Output of the tables.
        sides: Keys of each side, in the order of its columns; each key is one side's.
        rows: Number of rows of each side: the first ones.
    """
    starts = dict(zip(pooled.keys(), pooled.offset_per_key(), strict=False))
    ends = dict(zip(pooled.keys(), pooled.offset_per_key()[1:], strict=True))
    runs = [_runs([(starts[key], ends[key]) for key in keys]) for keys in sides]
    # Columns of no side, or of two, would get a wrong gradient, and no error.
    assert sorted(key for keys in sides for key in keys) == sorted(pooled.keys())
    parts: tuple[Tensor, ...] = _Split.apply(pooled.values(), runs, rows)
    return parts


def _runs(columns: Sequence[Run]) -> list[Run]:
    """Joins columns that lie together."""
    runs: list[Run] = []
    for start, end in columns:
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
    return runs


class _Split(torch.autograd.Function):
    """Parts of a matrix, whose gradients are written into one matrix."""

    @staticmethod
    def forward(
        context: Any, values: Tensor, runs: list[list[Run]], rows: Sequence[int]
    ) -> tuple[Tensor, ...]:
        context.layout = values.shape, runs, rows
        return tuple(
            _joined([values[:count, start:end] for start, end in of_side], values[:count])
            for of_side, count in zip(runs, rows, strict=True)
        )

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        shape, runs, rows = context.layout
        whole = gradients[0].new_empty(shape)
        for gradient, of_side, count in zip(gradients, runs, rows, strict=True):
            first = 0
            for start, end in of_side:
                width = end - start
                whole[:count, start:end] = gradient[:, first : first + width]
                whole[count:, start:end] = 0.0
                first += width
        return whole, None, None


def _joined(parts: list[Tensor], rows: Tensor) -> Tensor:
    """Returns parts side by side, or no columns of the rows."""
    if len(parts) > 1:
        return torch.cat(parts, dim=1)
    return parts[0] if parts else rows[:, :0]
