"""A GPU learns what a CPU does: with every optimizer, kernel and number format of the tables."""

import pytest
import torch
import torch.distributed as dist

from recsys.training.numerics import has_bfloat16
from tests.gpu.conftest import OPTIMIZERS, case_of
from tests.support.parity import Case, Trained, assert_same_tensors, train_case

ROW_WISE = "row_wise"


def assert_close(trained: Trained, expected: Trained, relative: float) -> None:
    for step, (one, other) in enumerate(zip(trained.losses, expected.losses, strict=True)):
        assert one == pytest.approx(other, rel=relative), f"losses of step {step}"


@pytest.fixture(scope="module")
def expected(device: torch.device) -> Trained:
    """Trains on the device with the defaults."""
    return train_case(Case(ROW_WISE), device=device)


def test_ranks_speak_through_the_library_of_the_device(device):
    assert dist.get_backend() == ("nccl" if device.type == "cuda" else "gloo")
    value = torch.ones(3, device=device)
    dist.all_reduce(value)
    assert value.tolist() == [dist.get_world_size()] * 3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fused_optimizers_update_as_on_a_cpu(device, on_cpu, optimizer):
    found = train_case(case_of(optimizer, device), device=device)
    assert_close(found, on_cpu[optimizer], 1e-3)


def test_pipelined_steps_are_those_of_the_plain_loop(device, expected):
    pipelined = train_case(Case(ROW_WISE, is_pipelined=True), device=device)
    assert_close(pipelined, expected, 1e-6)
    assert_same_tensors(pipelined, expected)


@pytest.mark.parametrize("kernel", ["fused_uvm", "fused_uvm_caching"])
def test_tables_in_the_memory_of_the_machine_learn_the_same(gpu, expected, kernel):
    tables = {"item.item_id": {"type": ROW_WISE, "kernel": kernel}}
    found = train_case(Case(ROW_WISE, {"sharding": {"tables": tables}}), device=gpu)
    assert_close(found, expected, 1e-5)


def test_tables_of_several_number_formats_learn_nearly_the_same(device, expected):
    small = "bf16" if device.type == "cuda" else "fp32"
    tables = {
        "item.item_id": {"type": ROW_WISE, "precision": "fp16"},
        "item.tags": {"type": ROW_WISE, "precision": small},
    }
    found = train_case(Case(ROW_WISE, {"sharding": {"tables": tables}}), device=device)
    assert_close(found, expected, 0.02)


def test_towers_in_bf16_learn_nearly_the_same(device, expected):
    if not has_bfloat16(device):
        pytest.skip(f"this {device.type} has no bf16 products")
    found = train_case(Case(ROW_WISE, {"training": {"precision": "bf16"}}), device=device)
    assert_close(found, expected, 0.05)
