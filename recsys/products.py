"""Matrix products on the CPU.

On a CPU PyTorch multiplies float32 by MKL, which uses AVX-512 on Intel's processors alone: on an
EPYC 9005 it is 2.3 times as slow as oneDNN, which PyTorch brings, too, and calls for bf16. PyTorch
has no switch for it that keeps float32's precision. The public way, `Tensor.to_mkldnn`, copies: it
takes 1.2 times as long, and twice as long where matrices are small. So the operator here is the
one that PyTorch's compiler calls, seen in torch 2.13.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def is_onednn_available() -> bool:
    """Returns whether this process can multiply float32 on the CPU by oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


_HAS_ONEDNN = is_onednn_available()


def has_bfloat16() -> bool:
    """Returns whether the CPU has instructions that multiply bf16 matrices."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes left @ right.T + bias, [rows, columns]; it has no gradient, see `linear`.

    Args:
        left: [rows, dim].
        right: [columns, dim]; both may be transposed matrices.
        bias: [columns]; None: zeros.
    """
    is_known = left.dtype == right.dtype and left.dtype in (torch.float32, torch.bfloat16)
    if _HAS_ONEDNN and is_known and left.device.type == "cpu" and left.numel() and len(right):
        return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return left @ right.T if bias is None else torch.addmm(bias, left, right.T)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Computes what `torch.nn.functional.linear` does, and all of its gradients, by `product`.

    Args:
        inputs: [..., dim].
        weight: [columns, dim].
        bias: [columns]; None: zeros.
    """
    outputs: Tensor = _Linear.apply(inputs.reshape(-1, inputs.shape[-1]), weight, bias)
    return outputs.view(*inputs.shape[:-1], len(weight))


class _Linear(torch.autograd.Function):
    """The product of rows with a weight, and a bias."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(inputs, weight)
        return product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = context.saved_tensors
        needs_inputs, needs_weight, needs_bias = context.needs_input_grad
        return (
            product(gradient, weight.T) if needs_inputs else None,
            product(gradient.T, inputs.T) if needs_weight else None,
            gradient.sum(dim=0) if needs_bias else None,
        )
