"""Numerics: bf16 where it is asked for, and numbers that are not finite are errors."""

import pytest
import torch
from torch import nn

from feature_store.core.errors import UserError
from recsys.config.training import TrainingConfig
from recsys.training.launch import single_process_group
from recsys.training.numerics import (
    BFloat16Linear,
    check_gradients,
    check_loss,
    has_bfloat16,
    use_precision,
)
from tests.support.parity import CPU, Case, train_case

BFLOAT16 = TrainingConfig(precision="bf16")
needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16(CPU), reason="this processor has no bf16 instructions"
)


@needs_bfloat16
def test_only_linear_layers_in_training_are_bfloat16():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8))
    inputs = torch.randn(5, 64)
    exact = module(inputs)
    use_precision(module, BFLOAT16, CPU)
    rounded = module(inputs)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05
    assert torch.equal(module.eval()(inputs), exact)


@needs_bfloat16
def test_a_bfloat16_layer_is_an_autocast_one_with_the_same_parameters():
    torch.manual_seed(0)
    plain = nn.ModuleDict({"a": nn.Linear(64, 8), "b": nn.Linear(64, 8, bias=False)})
    inputs = torch.randn(5, 64)
    with torch.autocast("cpu", torch.bfloat16):
        expected = [layer(inputs).float() for layer in plain.values()]
    parameters, state = dict(plain.named_parameters()), list(plain.state_dict())
    use_precision(plain, BFLOAT16, CPU)
    assert all(isinstance(layer, BFloat16Linear) for layer in plain.values())
    assert list(plain.state_dict()) == state
    assert all(parameter is parameters[name] for name, parameter in plain.named_parameters())
    for layer, outputs in zip(plain.values(), expected, strict=True):
        assert torch.equal(layer(inputs), outputs)


@needs_bfloat16
def test_changing_the_precision_draws_no_random_numbers():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 8))
    before = torch.get_rng_state()
    use_precision(module, BFLOAT16, CPU)
    assert torch.equal(torch.get_rng_state(), before)


@needs_bfloat16
def test_bfloat16_learns_what_fp32_learns():
    with single_process_group(CPU):
        exact = train_case(Case("table_wise"), steps=20)
        rounded = train_case(Case("table_wise", {"training": {"precision": "bf16"}}), steps=20)
    assert rounded.losses != exact.losses
    for one, other in zip(rounded.losses, exact.losses, strict=True):
        assert one["main"] == pytest.approx(other["main"], rel=0.05)


def test_fp32_layers_are_plain_ones_in_evaluation_and_nearly_so_in_training():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8))
    inputs = torch.randn(5, 64)
    exact = module(inputs)
    parameters = dict(module.named_parameters())
    use_precision(module, TrainingConfig(), CPU)
    assert all(parameter is parameters[name] for name, parameter in module.named_parameters())
    torch.testing.assert_close(module(inputs), exact, rtol=1e-5, atol=1e-5)
    assert torch.equal(module.eval()(inputs), exact)


def test_bfloat16_without_the_instructions_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(UserError, match="needs a processor with bf16 instructions"):
        use_precision(nn.Linear(2, 2), BFLOAT16, CPU)


def test_numbers_that_are_not_finite_name_the_step():
    check_loss(4, torch.tensor(1.0))
    with pytest.raises(UserError, match="the loss is not finite at step 5; lower"):
        check_loss(4, torch.tensor(float("nan")))
    check_gradients(4, torch.tensor(1.0), [torch.ones(2), None])
    huge = torch.tensor([3e38, 3e38])
    with pytest.raises(UserError, match=r"gradients' norm is not finite at step 5 \(loss 1.5\)"):
        check_gradients(4, torch.tensor(1.5), [torch.ones(2), huge])
