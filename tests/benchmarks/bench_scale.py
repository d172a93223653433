"""Curves of speed and memory as one size grows and all others stay; plots go into docs/.

python tests/benchmarks/bench_scale.py [--curves NAME ...] [--steps 60]
    [--largest 10000000] [--svg docs/scale.svg] [--json FILE]

Each point trains on a generated log in a process of its own, one thread a rank, after 20 steps
that are not timed: examples a CPU second (of all ranks together) and the peak memory of a rank.
Points share a log where they can. `rows` are those of the table of a context feature that has
another value in each event, hashed, so that each example reads and updates a row that is in no
cache. `prepare` is measured in CPU seconds of the whole stage with `executor: local`. Where nothing
else is said: 4 features, 10 items of history, batches of 1,024, 200,000 events, one rank.

A log has an item for each 100 of its events and a query for each 40, or for those of a smaller log,
see `ids_of`. Memory is the peak of what is resident, mapped files included; what is anonymous is
without them. With `--json` of an earlier run, its other curves stay, and are drawn, too.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_WARM_STEPS = 20
_WATCH_SECONDS = 0.02
_BASE: dict[str, Any] = {
    "events": 200_000,
    "ids_of": None,  # As many as the log has events.
    "rows": 0,  # No such table.
    "precision": "fp32",
    "features": 4,
    "history": 10,
    "batch": 1024,
    "ranks": 1,
}
_EVENTS = (200_000, 1_000_000, 5_000_000, 50_000_000)
_ROWS = (10_000, 100_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000)
_CURVES: dict[str, list[dict[str, Any]]] = {
    "log size": [{"events": n} for n in _EVENTS],
    "table rows, fp32": [{"rows": n} for n in _ROWS],
    "table rows, fp16": [{"rows": n, "precision": "fp16"} for n in _ROWS],
    "features": [{"features": n} for n in (2, 4, 10, 20, 40)],
    "history": [{"history": n} for n in (1, 10, 50, 200)],
    # An epoch of few steps would be mostly validation.
    "batch": [
        {"batch": n, "events": max(200_000, 100 * n)} for n in (256, 1024, 4096, 16_384, 32_768)
    ],
    "ranks": [{"ranks": n} for n in (1, 2)],
    "prepare": [{"events": n, "stage": "prepare"} for n in _EVENTS],
    "prepare, ids of 1m events": [
        {"events": n, "stage": "prepare", "ids_of": 1_000_000} for n in _EVENTS[1:]
    ],
}


def write_log(directory: Path, events: int, features: int, ids_of: int | None = None) -> None:
    """Writes a log whose items have `features` - 2 values beside their id.

    Args:
        directory: Directory of the log.
        events: Number of events.
        features: Number of features of the model.
        ids_of: Number of events for which there are enough ids; None: those of this log.
    """
    directory.mkdir(parents=True)
    rng = np.random.default_rng(0)
    known = ids_of or events
    items, queries = max(1000, known // 100), max(1000, known // 40)
    columns = {
        "query_id": rng.integers(0, queries, events),
        "item_id": (items * rng.random(events) ** 3).astype(np.int64),  # A few are popular.
        "session": np.arange(events),
    }
    table = {name: pa.array(values).cast(pa.string()) for name, values in columns.items()}
    table["timestamp"] = pa.array(np.arange(events) + 1_600_000_000)
    pq.write_table(pa.table(table), directory / "events.parquet")
    catalogue = {"item_id": np.arange(items)}
    catalogue |= {f"f{n}": rng.integers(0, 1000, items) for n in range(features - 2)}
    table = {name: pa.array(values).cast(pa.string()) for name, values in catalogue.items()}
    pq.write_table(pa.table(table), directory / "items.parquet")


def document(log: Path, output: Path, point: dict[str, Any]) -> dict[str, Any]:
    """Returns the configuration of a point."""
    categorical = {"kind": "categorical", "dim": 16}
    features: dict[str, Any] = {
        "item": [
            {"name": "item_id", "kind": "id", "dim": 64},
            *({"name": f"f{n}", **categorical} for n in range(point["features"] - 2)),
        ],
        "query": [{"name": "query_id", "kind": "id", "dim": 16}],
    }
    if point["rows"]:
        session = {"name": "session", "kind": "categorical", "dim": 64}
        features["context"] = [{**session, "hash_buckets": point["rows"]}]
    return {
        "output": str(output),
        "executor": "local",
        "data": {
            "events": str(log / "events.parquet"),
            "items": str(log / "items.parquet"),
            "split": {"kind": "leave_last_out"},
            "history": {"kind": "past", "max_length": point["history"]},
        },
        "features": features,
        "model": {"dim": 64, "item_tower": [256], "query_tower": [256]},
        "loss": {"masked": "target"},
        "ssl": {"method": "none"},
        "sharding": {"precision": point["precision"]},
        "training": {"batch_size": point["batch"], "epochs": 1000, "patience": 1000},
    }


def train(point: dict[str, Any], log: Path, scratch: Path, steps: int) -> dict[str, float]:
    """Prepares, trains on each rank, and returns their speed together and the largest's memory."""
    from tests.support.ranks import start_ranks

    config = prepared_config(point, log, scratch)
    results = scratch / "ranks"
    results.mkdir()
    ranks = point["ranks"]
    start_ranks(on_rank, ranks, ranks, config.model_dump_json(), str(results), steps)
    found = [json.loads(path.read_text()) for path in results.glob("*.json")]
    processor = sum(each["processor"] for each in found)
    examples = point["batch"] * steps
    return {
        "examples a CPU second": examples / processor,
        "examples a second": examples / max(each["clock"] for each in found),
        "peak MiB of a rank": max(each["MiB"] for each in found),
    }


def prepared_config(point: dict[str, Any], log: Path, scratch: Path) -> Any:
    """Prepares the log for a point, and returns the configuration."""
    from rich.console import Console

    from recsys.config.load import parse_config
    from recsys.stages.prepare import prepare

    config = parse_config(document(log, scratch / "out", point))
    prepare(config, console=Console(quiet=True))
    return config


def on_rank(rank: int, ranks: int, document: str, results: str, steps: int) -> None:
    """Trains on one rank, and writes its times and memory."""
    import torch
    import torch.distributed as dist

    from pipelines.prepared.reader import Prepared
    from recsys.config.load import parse_config
    from recsys.data.loader import in_process_batches
    from recsys.training.rank import train_on_rank
    from recsys.training.run import plan_run

    torch.set_num_threads(1)
    config, work = parse_config(json.loads(document)), Path(results) / f"work-{rank}"
    store = dist.FileStore(f"{results}/store", ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    work.mkdir()
    times: list[tuple[float, float]] = []

    def short(*arguments: Any) -> Iterator[Any]:
        with closing(in_process_batches(*arguments)) as batches:
            for batch in islice(batches, _WARM_STEPS + steps):
                times.append((time.perf_counter(), time.process_time()))
                yield batch
            times.append((time.perf_counter(), time.process_time()))

    run, _ = plan_run(config, Prepared(config.prepared_dir), work)
    train_on_rank(run, torch.device("cpu"), short)  # type: ignore[arg-type]
    if len(times) != _WARM_STEPS + steps + 1:
        raise SystemExit(f"training ended after {len(times) - 1} steps")
    clock, processor = (
        end - begin for begin, end in zip(times[_WARM_STEPS], times[-1], strict=True)
    )
    found = {"clock": clock, "processor": processor, "MiB": peak_memory()}
    (Path(results) / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def measure_prepare(point: dict[str, Any], log: Path, scratch: Path) -> dict[str, float]:
    """Measures `prepare` in this process."""
    started = time.perf_counter(), time.process_time()
    with anonymous_memory() as seen:
        prepared_config(point, log, scratch)
    return {
        "examples a CPU second": point["events"] / (time.process_time() - started[1]),
        "examples a second": point["events"] / (time.perf_counter() - started[0]),
        "peak MiB of a rank": peak_memory(),
        "anonymous": max(seen),
    }


def peak_memory() -> float:
    """Returns the peak of this process' resident memory, in MiB.

    `ru_maxrss` is as much as the process had in which it was started, which here wrote the log.
    """
    return memory("VmHWM")


def memory(field: str) -> float:
    """Returns a field of this process' status, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


@contextmanager
def anonymous_memory() -> Iterator[list[float]]:
    """Yields a list to which the anonymous memory of this process is added all the while."""
    seen: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_WATCH_SECONDS):
            seen.append(memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def in_a_process(point: dict[str, Any], log: Path, steps: int) -> dict[str, Any]:
    """Runs this script for one point, so that no point sees the memory of another."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, "--steps", str(steps)]
        command += ["--point", json.dumps(point), str(log), scratch]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no word"])[-1][:200]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def plot(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draws a chart for each curve: speed, and memory on the axis at the right."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.fonttype"] = "none"  # Letters stay letters.
    columns = 3
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    for axes, (name, points) in zip(
        figure.subplots(rows, columns, squeeze=False).flat, found.items(), strict=False
    ):
        points = [point for point in points if "failed" not in point]
        if not points:
            continue
        sizes = [point["size"] for point in points]
        speeds = [p["examples a CPU second"] / 1000 for p in points]
        memory = [p["peak MiB of a rank"] / 1024 for p in points]
        axes.plot(sizes, speeds, "o-", color="C0")
        axes.set(title=name, xscale="log", xticks=sizes, xlabel="")
        axes.set_xticklabels([_short(size) for size in sizes], rotation=45)
        axes.minorticks_off()
        axes.set_ylim(0, 1.1 * max(speeds))
        axes.set_ylabel("thousand a CPU second", color="C0")
        right = axes.twinx()
        right.plot(sizes, memory, "s--", color="C1")
        right.set_ylim(0, 1.25 * max(memory))
        right.set_ylabel("peak memory, GiB", color="C1")
    for axes in figure.axes[len(found) : rows * columns]:
        axes.remove()
    figure.savefig(path)


def _short(size: float) -> str:
    for unit, letter in ((1_000_000, "m"), (1000, "k")):
        if size >= unit and size % unit == 0:
            return f"{size / unit:g}{letter}"
    return f"{size:,}"


def main() -> None:
    """Measures the curves, prints tables and draws the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", nargs="+", choices=list(_CURVES), default=list(_CURVES))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--largest", type=int, default=10_000_000, help="events or rows, at most")
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--point", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.point:
        point, (log, scratch) = json.loads(given.point[0]), map(Path, given.point[1:])
        if point.pop("stage", None) == "prepare":
            result = measure_prepare(point, log, scratch)
        else:
            result = train(point, log, scratch, given.steps)
        print(json.dumps(result))
        return
    found: dict[str, list[dict[str, Any]]] = {}
    if given.json is not None and given.json.exists():
        found = json.loads(given.json.read_text())
    with tempfile.TemporaryDirectory() as name:
        for curve in given.curves:
            found[curve] = []
            columns = ["examples a CPU second", "a second", "peak MiB of a rank"]
            columns += ["of these anonymous"] * curve.startswith("prepare")
            print(f"\n| {' | '.join([curve, *columns])} |")
            print(f"|{' ---: |' * (1 + len(columns))}", flush=True)
            for change in _CURVES[curve]:
                key, size = next(iter(change.items()))
                if key in ("rows", "events") and size > given.largest:
                    continue
                point = {**_BASE, **change}
                log = Path(name) / f"{point['events']}-{point['ids_of']}-{point['features']}"
                if not log.exists():
                    write_log(log, point["events"], point["features"], point["ids_of"])
                result = {"size": size, **in_a_process(point, log, given.steps)}
                found[curve].append(result)
                if "failed" in result:
                    print(f"| {size:,} | failed: {result['failed']} |", flush=True)
                    continue
                cells = [f"{value:,.0f}" for key, value in result.items() if key != "size"]
                print(f"| {size:,} | {' | '.join(cells)} |", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))
    if given.svg is not None:
        plot(found, given.svg)


if __name__ == "__main__":
    main()
