"""Rows a second of ready batches, beside a plain pyarrow scan and the speed of training.

python tests/benchmarks/bench_loader.py CONFIG [--set key.path=value] [--rounds 5] [--steps 300]

The configuration's data must be prepared. Each round measures everything once, one after the other,
so that other load on the machine slows all of it down alike; the medians are printed.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq
import torch
from rich.console import Console

from pipelines.executor.session import ensure_ray
from pipelines.prepared.reader import Prepared
from pipelines.process import use_all_cores
from recsys.checkpoint.training_manifest import METRICS_FILE
from recsys.config.config import Config
from recsys.config.load import load_config
from recsys.data.host_batch import HostBatch
from recsys.data.loader import BatchSource, in_process_batches, ray_batches
from recsys.data.plan import TrainingPlan
from recsys.data.reader import read_steps
from recsys.stages.item_neighbours import fit_neighbours
from recsys.training.launch import single_process_group
from recsys.training.rank import train_on_rank
from recsys.training.run import plan_run, training_plan

_COLUMNS = ["query", "item", "history", "weight"]
# Number of first steps that are not timed: lanes open and workers warm up.
_WARM_STEPS = 20


def scan(prepared: Prepared) -> float:
    """Measures rows a second of reading the training examples, a row group at a time."""
    started, rows = time.perf_counter(), 0
    for path in prepared.examples("train"):
        with pq.ParquetFile(path) as parquet:
            for group in range(parquet.num_row_groups):
                rows += len(parquet.read_row_group(group, columns=_COLUMNS))
    return rows / (time.perf_counter() - started)


def read(plan: TrainingPlan, steps: int) -> float:
    """Measures rows a second of reading and shuffling alone."""
    started = time.perf_counter()
    rows = sum(len(local.query) for local in read_steps(plan, 0, steps, 0, 1))
    return rows / (time.perf_counter() - started)


def load(plan: TrainingPlan, config: Config, source: BatchSource, steps: int) -> float:
    """Measures rows a second of ready batches after the first ones."""
    with closing(source(plan, config, 0, 1, 0)) as batches:
        for _ in islice(batches, _WARM_STEPS):
            pass
        started = time.perf_counter()
        for _ in islice(batches, steps - _WARM_STEPS):
            pass
        return plan.examples(_WARM_STEPS, steps) / (time.perf_counter() - started)


def train(config: Config, steps: int) -> tuple[float, float]:
    """Measures rows a second of training, and the fraction of its time spent waiting for data."""

    def short(*arguments: object) -> Iterator[HostBatch]:
        with closing(in_process_batches(*arguments)) as batches:  # type: ignore[arg-type]
            yield from islice(batches, steps)

    with tempfile.TemporaryDirectory() as name, single_process_group(torch.device("cpu")):
        use_all_cores()
        prepared, work_dir = Prepared(config.prepared_dir), Path(name)
        neighbours = fit_neighbours(config, prepared, work_dir, Console(quiet=True))
        run, _ = plan_run(config, prepared, work_dir, neighbours=neighbours)
        train_on_rank(run, torch.device("cpu"), short)  # type: ignore[arg-type]
        lines = [json.loads(line) for line in (Path(name) / METRICS_FILE).read_text().splitlines()]
    lines = [line for line in lines[1:] if "loader_wait" in line]
    speeds, waits = (
        [line[key] for line in lines] for key in ("examples_per_second", "loader_wait")
    )
    return median(speeds), median(waits)


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300, help="batches of each measurement")
    parser.add_argument("--train-steps", type=int, default=100)
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    prepared = Prepared(config.prepared_dir)
    plan = training_plan(prepared, config)
    steps = min(arguments.steps, plan.total_steps)
    print(
        f"{plan.rows:,} examples, at most {plan.batch_size} a batch, {plan.lanes} lanes, "
        f"row groups of {plan.window_rows:,}; ssl {config.ssl.method}"
    )
    ensure_ray()
    found: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        speed, wait = train(config, min(arguments.train_steps, plan.steps_per_epoch - 1))
        measured = {
            "scan": scan(prepared),
            "read": read(plan, steps),
            "local": load(plan, config, in_process_batches, steps),
            "ray": load(plan, config, ray_batches, steps),
            "training": speed,
            "loader_wait": wait,
        }
        for key, value in measured.items():
            found.setdefault(key, []).append(value)
    for key, values in found.items():
        shown = "{:.4f}" if key == "loader_wait" else "{:,.0f} rows/s"
        low, middle, high = (shown.format(f(values)) for f in (min, median, max))
        print(f"{key:12} median {middle}, from {low} to {high}")
    for key in ("local", "ray"):
        of_scan = median(a / b for a, b in zip(found[key], found["scan"], strict=True))
        of_training = median(a / b for a, b in zip(found[key], found["training"], strict=True))
        print(f"{key:12} {of_scan:.3f} of the scan, {of_training:.1f} times training")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of this process: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
