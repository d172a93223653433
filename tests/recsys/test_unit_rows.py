"""Normalised rows: values and gradients are those of PyTorch, with zeros among them."""

import torch
import torch.nn.functional as F

from recsys.unit_rows import unit_rows


def test_rows_and_gradients_are_those_of_torch():
    rows = torch.randn(64, 16, dtype=torch.float64) * torch.logspace(-6, 6, 64).double()[:, None]
    rows[7] = 0.0
    rows.requires_grad_()
    upstream = torch.randn(64, 16, dtype=torch.float64)
    expected = F.normalize(rows, dim=1)
    found = unit_rows(rows)
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(each, rows, upstream)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=0)


def test_any_number_of_leading_dimensions():
    rows = torch.randn(2, 3, 4)
    assert torch.equal(unit_rows(rows), F.normalize(rows, dim=2))
