"""The fused softmax: its gradients, and parts of rows that give what all rows at once give."""

import pytest
import torch
import torch.nn.functional as F

from recsys.losses import batch_softmax as module
from recsys.losses.batch_softmax import Equal, Pairs, batch_softmax

ROWS, COLUMNS, DIM = 7, 9, 4
TARGETS = torch.tensor([3, 0, 8, 1, 1, 5, 2])
HITS = torch.tensor([[0, 1], [0, 8], [2, 0], [5, 2], [6, 4], [6, 0]])
LEFT_ITEMS = torch.tensor([4, 5, 6, 7, 7, 8, 5])
RIGHT_ITEMS = torch.tensor([5, 7, 5, 4, 4, 8, -1, 4, 6])


def inputs(dtype):
    generator = torch.Generator().manual_seed(0)
    sizes = (ROWS, DIM), (COLUMNS, DIM), (ROWS,), (COLUMNS,)
    left, right, weight, correction = (
        torch.randn(size, generator=generator, dtype=dtype) for size in sizes
    )
    left, right = (F.normalize(one, dim=1).requires_grad_() for one in (left, right))
    return left, right, weight.abs(), correction


def reference(left, right, weight, correction, is_masked):
    """Computes the loss by PyTorch's own functions and gradients."""
    logits = (left @ right.T / 0.2 - correction).masked_fill(is_masked, float("-inf"))
    return (weight * F.cross_entropy(logits, TARGETS, reduction="none")).mean()


def masks():
    pairs = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    pairs[HITS[:, 0], HITS[:, 1]] = True
    equal = (LEFT_ITEMS[:, None] == RIGHT_ITEMS) | (RIGHT_ITEMS < 0)
    equal[torch.arange(ROWS), TARGETS] = False
    return [
        (None, torch.zeros(ROWS, COLUMNS, dtype=torch.bool)),
        (Pairs.of(HITS, COLUMNS), pairs),
        (Equal(LEFT_ITEMS[None], RIGHT_ITEMS[None], TARGETS), equal),
        (
            Equal(torch.stack([LEFT_ITEMS + 90, LEFT_ITEMS]), RIGHT_ITEMS.expand(2, -1), TARGETS),
            equal,
        ),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows_at_once", [ROWS, 3, 1])
@pytest.mark.parametrize(("masked", "is_masked"), masks())
def test_loss_and_gradients_are_those_of_pytorch(
    monkeypatch, dtype, rows_at_once, masked, is_masked
):
    monkeypatch.setattr(module, "_LOGITS", rows_at_once * COLUMNS)
    monkeypatch.setattr(module, "_LEAST_ROWS", 1)
    left, right, weight, correction = inputs(dtype)
    expected = reference(left, right, weight, correction, is_masked)
    gradients = torch.autograd.grad(3 * expected, (left, right))
    found = batch_softmax(
        left,
        right,
        temperature=0.2,
        targets=TARGETS,
        weight=weight,
        correction=correction,
        masked=masked,
    )
    torch.testing.assert_close(found, expected)
    for one, other in zip(torch.autograd.grad(3 * found, (left, right)), gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_target_far_below_the_largest_logit_has_a_finite_loss():
    left = torch.tensor([[1.0, 0.0]], requires_grad=True)
    right = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    loss = batch_softmax(
        left, right, temperature=0.001, targets=torch.tensor([1]), weight=torch.ones(1)
    )
    assert loss.item() == pytest.approx(2000)
    torch.testing.assert_close(torch.autograd.grad(loss, left)[0], torch.tensor([[2000.0, 0.0]]))


def test_large_matrices_are_never_whole(monkeypatch):
    sizes = []
    monkeypatch.setattr(
        module,
        "product",
        lambda *arguments: sizes.append(_size(*arguments)) or _product(*arguments),
    )
    left, right = torch.randn(1000, 2), torch.randn(30_000, 2)
    batch_softmax(
        left,
        right.requires_grad_(),
        temperature=1.0,
        targets=torch.zeros(1000, dtype=torch.int64),
        weight=torch.ones(1000),
    )
    assert max(sizes) == 128 * 30_000


_product = module.product


def _size(left, right, bias=None):
    return len(left) * len(right)
