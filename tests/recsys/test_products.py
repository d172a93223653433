"""Products of training against PyTorch's own, with their gradients."""

import pytest
import torch
import torch.nn.functional as F

from recsys import products
from recsys.products import is_onednn_available, linear, product


@pytest.fixture(params=["oneDNN", "PyTorch"])
def library(request, monkeypatch):
    """Multiplies by each library in turn."""
    has_onednn = request.param == "oneDNN" and is_onednn_available()
    monkeypatch.setattr(products, "_HAS_ONEDNN", has_onednn)


def test_pytorch_has_the_operator_of_its_onednn():
    # A version that calls it otherwise would make training slower and nothing wrong.
    assert is_onednn_available() == torch.backends.mkldnn.is_available()


def tensors(*sizes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator, dtype=dtype) for size in sizes]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.usefixtures("library")
def test_a_product_of_transposed_and_cut_matrices(dtype, rows):
    left, right, bias = tensors((4, rows), (6, 9), 9, dtype=dtype)
    torch.testing.assert_close(
        product(left.T, right[1:5].T, bias), left.T @ right[1:5] + bias, rtol=1e-5, atol=1e-5
    )
    part = right[:, 2:6]
    torch.testing.assert_close(product(left.T, part), left.T @ part.T, rtol=1e-5, atol=1e-5)
    assert product(left.T, part[:0]).shape == (rows, 0)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (0, 4)])
@pytest.mark.usefixtures("library")
def test_a_linear_layer_has_the_gradients_of_pytorchs(shape, has_bias):
    inputs, weight, bias = tensors(shape, (6, 4), 6)
    arguments = [inputs, weight, *([bias] if has_bias else [])]
    found, expected = ([each.clone().requires_grad_() for each in arguments] for _ in range(2))
    outputs = linear(*found) if has_bias else linear(*found, None)
    other = F.linear(*expected)
    torch.testing.assert_close(outputs, other)
    outputs.square().sum().backward()
    other.square().sum().backward()
    for one, another in zip(found, expected, strict=True):
        torch.testing.assert_close(one.grad, another.grad, rtol=1e-5, atol=1e-5)
