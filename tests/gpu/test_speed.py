"""Examples a second and a trace, which are kept: `make gpu` says where.

On the CPU tables are small and steps few, to show that it runs.
"""

import json
import time
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from recsys.data.builder import BatchBuilder
from tests.support.parity import Case, sharded_case, trainer_of
from tests.support.small_batches import local_batch, prepared
from tests.support.toy import ToyTraining, toy_config

HUGE = 50_000_000  # Rows of each of two tables, which together take 24 GiB in fp32.
ROOM = 40 * 2**30


def steps_of(device: torch.device, batch: int, steps: int, hidden: int = 16) -> None:
    """Makes steps of a model with both towers."""
    towers = {"dim": 128, "item_tower": [hidden], "query_tower": [hidden]}
    case = Case("row_wise", {"training": {"batch_size": batch}, "model": towers})
    with sharded_case(case, device) as (settings, sharded, optimizers):
        builder = BatchBuilder(prepared(), settings)
        batches = (builder.training(local_batch(step, batch), 0, 1) for step in range(steps))
        trainer = trainer_of(settings, sharded, optimizers, steps, steps)
        for _ in trainer.steps(batches, 0):
            pass
        synchronize(device)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def note(figures: Path, name: str, device: torch.device, **values: float) -> None:
    with (figures / "speed.jsonl").open("a") as file:
        file.write(json.dumps({"what": name, "device": device.type, **values}) + "\n")


def test_a_trace_of_the_pipelined_loop_is_kept(device, figures):
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    steps_of(device, 16, 3)
    started = time.perf_counter()
    with profile(activities=kinds) as found:
        steps_of(device, 16, 6)
    trace = figures / f"trace-{device.type}.json"
    found.export_chrome_trace(str(trace))
    note(figures, "small model, 6 steps", device, seconds=time.perf_counter() - started)
    assert "aten::mm" in trace.read_text() or "linear" in trace.read_text()


def test_towers_of_the_reference_model_are_measured(device, figures):
    batch, steps, hidden = (8192, 50, 1024) if device.type == "cuda" else (16, 2, 16)
    steps_of(device, batch, 3, hidden)
    started = time.perf_counter()
    steps_of(device, batch, steps, hidden)
    speed = steps * batch / (time.perf_counter() - started)
    note(figures, f"towers {hidden}-128, batch {batch}", device, examples_per_second=speed)


def test_a_table_of_a_hundred_million_rows_is_trained(device, figures):
    is_gpu = device.type == "cuda"
    if is_gpu and torch.cuda.get_device_properties(device).total_memory < ROOM:
        pytest.skip("this GPU has less than 40 GiB")
    rows, steps, batch = (HUGE, 200, 65_536) if is_gpu else (1_000, 3, 64)
    training = ToyTraining(toy_config(), rows, 64, 16, device)
    training.train(3, batch)
    synchronize(device)
    started = time.perf_counter()
    training.train(steps, batch)
    synchronize(device)
    seconds = time.perf_counter() - started
    note(figures, f"2 tables of {rows:,} rows", device, examples_per_second=steps * batch / seconds)
    assert all(torch.isfinite(p).all() for p in training.sharded.module.model.tower.parameters())
