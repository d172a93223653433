from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from recsys.training.launch import single_process_group
from tests.support.parity import CPU, Case, Trained, train_case

OPTIMIZERS = ("rowwise_adagrad", "adam", "sgd")


def case_of(optimizer: str, device: torch.device) -> Case:
    """Returns a training with an optimizer of the tables; a CPU has no fused Adam."""
    is_copied = optimizer == "adam" and device.type == "cpu"
    kind = "data_parallel" if is_copied else "table_wise"
    return Case(kind, {"training": {"sparse_optimizer": optimizer}})


@pytest.fixture(scope="session")
def on_cpu() -> dict[str, Trained]:
    """Trains with each optimizer on the CPU, before there is a process group of the GPU's."""
    with single_process_group(CPU):
        return {optimizer: train_case(case_of(optimizer, CPU)) for optimizer in OPTIMIZERS}


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest, on_cpu) -> Iterator[torch.device]:
    """Yields a device in a process group of its own; on the CPU the tests show that they run."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here (torch.cuda.is_available() is false)")
    found = torch.device("cuda", 0) if request.param == "cuda" else CPU
    with single_process_group(found):
        yield found


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """Returns the GPU, for what a CPU does not have."""
    if device.type != "cuda":
        pytest.skip("a CPU has no memory of its own beside the machine's")
    return device


@pytest.fixture(scope="session")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the directory of speeds and traces, below pytest's --basetemp."""
    return tmp_path_factory.mktemp("figures", numbered=False)
