"""Costs of a step and of a batch in counts, which other load on a machine does not change.

Bounds are a few per cent above what is needed today, with the products of oneDNN (PyTorch's own
need more operators). Where one is exceeded, something was added to every step: see with
`tests/benchmarks/bench_training.py --profile` what it costs, and raise the bound only for what is
worth it.
"""

import sys

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from recsys.data.batch import agreed_batch
from recsys.data.builder import BatchBuilder
from recsys.data.loader import TimedIterator
from recsys.training.launch import single_process_group
from recsys.training.log import TrainingLog
from tests.support.parity import BATCH, CPU, Case, sharded_case, trainer_of
from tests.support.small_batches import local_batch, prepared

WARM_STEPS = 3
# Operators of a step; numbers that they read; KiB that they allocate; calls of functions while a
# batch is built.
BOUNDS = {"none": (345, 4, 135, 850), "cfm": (405, 4, 225, 930)}


class Operators(TorchDispatchMode):
    """Counts the operators that are called, in the backward pass, too."""

    count = 0
    reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        self.reads += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def python_calls(function):
    """Counts calls of functions, Python's and built-in ones."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("method", list(BOUNDS))
def test_a_step_and_a_batch_cost_no_more_than_they_need(method):
    case = Case("table_wise", {"ssl": {"method": method}})
    with single_process_group(CPU), sharded_case(case) as (settings, sharded, optimizers):
        builder = BatchBuilder(prepared(), settings)
        trainer = trainer_of(settings, sharded, optimizers, steps=10, interval=10)
        calls = []
        for step in range(WARM_STEPS + 2):
            local = local_batch(step, BATCH)
            calls.append(python_calls(lambda local=local: builder.training(local, 0, 1)))
            batch = agreed_batch(builder.training(local, 0, 1), trainer.keys, CPU)
            if step < WARM_STEPS:
                trainer.train_step(step, batch)
            elif step == WARM_STEPS:
                with Operators() as operators:
                    trainer.train_step(step, batch)
            else:
                with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
                    trainer.train_step(step, batch)
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in found.events())
    most_operators, most_reads, most_kib, most_calls = BOUNDS[method]
    assert operators.count <= most_operators
    assert operators.reads <= most_reads
    assert allocated <= most_kib * 1024
    assert calls[-1] <= most_calls


def test_logging_a_step_calls_no_operator():
    # A line reads the losses of all of its steps at once: reading one waits for a GPU.
    log = TrainingLog(None, TimedIterator([]), None, CPU)
    losses = {"main": torch.ones(())}
    with Operators() as operators:
        log.add(losses)
    assert operators.count == 0
