"""Steps: repeatable, in bf16 where it is asked for, and pipelined as they are one by one."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from feature_store.core.errors import UserError
from recsys.config.training import TrainingConfig
from recsys.data.builder import BatchBuilder
from recsys.training.launch import single_process_group
from recsys.training.pipelining import pipelined_steps, plain_steps
from recsys.training.step import Stepper, use_determinism, use_precision
from tests.support.parity import BATCH, CPU, Case, sharded_case, train_case, whole
from tests.support.small_batches import prepared, share

STEPS, INTERVAL = 7, 3
has_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@pytest.fixture(scope="module")
def group():
    with single_process_group(CPU):
        yield


def arrays_from(settings, first):
    builder = BatchBuilder(prepared(), settings)
    for step in range(first, STEPS):
        yield builder.training(share(step, BATCH), 0, 1)


def run(case, is_pipelined, first=0):
    """Losses of each step, what evaluation saw between them, and all tensors at the end."""
    with sharded_case(case) as (settings, sharded, optimizers):
        stepper = Stepper(sharded, optimizers, settings.training, STEPS, earlier_steps=0)
        model, batches = sharded.module.model, arrays_from(settings, first)
        keys = BatchBuilder(prepared(), settings).keys()
        if is_pipelined:
            done = pipelined_steps(
                stepper, model, batches, keys, CPU, first=first, total=STEPS, interval=INTERVAL
            )
        else:
            done = plain_steps(stepper, batches, keys, CPU, first=first)
        losses, seen = [], []
        for step, (parts, batch) in enumerate(done, start=first + 1):
            losses.append(float(parts["main"]))
            if step % INTERVAL == 0 or step == STEPS:
                with torch.no_grad():
                    seen.append(model(batch).items.sum().item())
        return losses, seen, whole(sharded.state_dict())


@pytest.mark.parametrize("kind", ["table_wise", "data_parallel", "row_wise"])
@pytest.mark.parametrize("first", [0, 2])
def test_pipelined_steps_are_those_of_the_plain_loop(group, kind, first):
    plain, pipelined = (run(Case(kind), is_pipelined, first) for is_pipelined in (False, True))
    assert len(plain[0]) == STEPS - first
    assert plain[:2] == pipelined[:2]
    for name, tensor in plain[2].items():
        assert torch.equal(tensor, pipelined[2][name]), name


def test_only_linear_layers_in_training_are_bfloat16():
    if not has_bfloat16:
        pytest.skip("this processor has no bf16 instructions")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8))
    inputs = torch.randn(5, 64)
    exact = module(inputs)
    use_precision(module, TrainingConfig(precision="bf16"), CPU)
    rounded = module(inputs)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05
    assert torch.equal(module.eval()(inputs), exact)


def test_bfloat16_learns_what_fp32_learns(group):
    if not has_bfloat16:
        pytest.skip("this processor has no bf16 instructions")
    exact = train_case(Case("table_wise"), steps=20)
    rounded = train_case(Case("table_wise", {"training": {"precision": "bf16"}}), steps=20)
    assert rounded.losses != exact.losses
    for one, other in zip(rounded.losses, exact.losses, strict=True):
        assert one["main"] == pytest.approx(other["main"], rel=0.05)


def test_bfloat16_without_the_instructions_is_an_error(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    with pytest.raises(UserError, match="needs a processor with bf16 instructions"):
        use_precision(nn.Linear(2, 2), TrainingConfig(precision="bf16"), CPU)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_same_seed_gives_the_same_bits(group, threads, precision):
    case = Case("row_wise", {"sharding": {"precision": precision}, "model": {"dropout": 0.2}})
    before = torch.get_num_threads()
    use_determinism(TrainingConfig(deterministic=True))
    torch.set_num_threads(threads)
    try:
        first, second = (train_case(case, steps=4) for _ in range(2))
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(False)
    assert first.losses == second.losses
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name


def test_another_seed_gives_other_losses(group):
    case = Case("row_wise")
    other = replace(case, sections={"training": {"seed": 1}})
    assert train_case(case, steps=1).losses != train_case(other, steps=1).losses
