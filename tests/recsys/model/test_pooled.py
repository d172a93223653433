"""Division of a lookup's output, with its gradients."""

import pytest
import torch
from torchrec.sparse.jagged_tensor import KeyedTensor

from recsys.model.pooled import split_pooled

WIDTHS = {"item.a": 2, "item.b": 1, "query.a": 3, "query.b": 2}
SIDES = (("item.a", "item.b"), ("query.a", "query.b"), ())
ROWS = (5, 3, 3)


@pytest.mark.parametrize(
    "order",
    [
        ("item.a", "item.b", "query.a", "query.b"),
        ("query.b", "item.a", "query.a", "item.b"),
        ("query.a", "query.b", "item.b", "item.a"),
    ],
)
def test_sides_get_their_columns_and_the_matrix_its_gradient(order):
    generator = torch.Generator().manual_seed(0)
    columns = {
        key: torch.randn(5, width, generator=generator).requires_grad_()
        for key, width in WIDTHS.items()
    }
    widths = [WIDTHS[key] for key in order]
    pooled = KeyedTensor(list(order), widths, torch.cat([columns[key] for key in order], dim=1))
    parts = split_pooled(pooled, SIDES, ROWS)
    total = torch.zeros(())
    for part, keys, rows in zip(parts, SIDES, ROWS, strict=True):
        expected = [columns[key][:rows] for key in keys]
        assert part.shape == (rows, sum(WIDTHS[key] for key in keys))
        if keys:
            assert torch.equal(part, torch.cat(expected, dim=1))
            weight = torch.arange(part.numel(), dtype=torch.float32).view(part.shape)
            total = total + (weight * part).sum()
    found = torch.autograd.grad(total, list(columns.values()))
    for gradient, (key, column) in zip(found, columns.items(), strict=True):
        side = next(index for index, keys in enumerate(SIDES) if key in keys)
        width = sum(WIDTHS[other] for other in SIDES[side])
        first = sum(WIDTHS[other] for other in SIDES[side][: SIDES[side].index(key)])
        weight = torch.arange(ROWS[side] * width, dtype=torch.float32).view(ROWS[side], width)
        expected = torch.zeros_like(column)
        expected[: ROWS[side]] = weight[:, first : first + column.shape[1]]
        assert torch.equal(gradient, expected)


@pytest.mark.parametrize("sides", [SIDES[:1], (*SIDES, ("item.b",))])
def test_columns_of_no_side_or_of_two_are_refused(sides):
    pooled = KeyedTensor(list(WIDTHS), list(WIDTHS.values()), torch.randn(5, 8))
    with pytest.raises(AssertionError):
        split_pooled(pooled, sides, [3] * len(sides))


def test_columns_that_lie_together_are_not_copied():
    values = torch.randn(5, 8)
    pooled = KeyedTensor(list(WIDTHS), list(WIDTHS.values()), values)
    items, queries, nothing = split_pooled(pooled, SIDES, ROWS)
    assert items.data_ptr() == values.data_ptr()
    assert queries.data_ptr() == values[:, 3:].data_ptr()
    assert nothing.shape == (3, 0)
