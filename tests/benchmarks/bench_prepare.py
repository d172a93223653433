"""Speed, memory and output of `prepare`, beside a plain pyarrow scan of the same log.

python tests/benchmarks/bench_prepare.py --events 2000000 20000000
python tests/benchmarks/bench_prepare.py --log data/movielens-1m

A log of N events has N / 40 queries and N / 100 items, as `recsys generate` writes them, with the
features that `recsys init` finds. Each run is a process of its own. Memory is the unique set size
(USS) of its processes, sampled ten times a second; blocks in Ray's object store are shared memory,
counted once, as the largest that one process sees.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pyarrow.dataset

from pipelines.datasets.generate import generate
from recsys.autoconfig.init import init_config
from recsys.config.load import load_config

_SECONDS = 0.1
_MIB = 2**20


class Memory:
    """Peak memory of a process and its descendants by kind, in bytes.

    Attributes:
        peaks: Peak of the largest process and peak of all processes together, by kind.
        total: Peak of all kinds together.
    """

    def __init__(self, root: int) -> None:
        self.peaks: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        self.total = 0
        self._root = psutil.Process(root)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SECONDS):
            sizes: dict[str, list[int]] = defaultdict(list)
            shared = 0
            try:
                processes = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in processes:
                try:
                    memory = process.memory_full_info()
                    sizes[_kind(process, self._root)].append(memory.uss)
                    shared = max(shared, memory.shared)
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            sizes["object store"] = [shared]
            self.total = max(self.total, sum(map(sum, sizes.values())))
            for kind, found in sizes.items():
                largest, together = self.peaks[kind]
                self.peaks[kind] = max(largest, *found), max(together, sum(found))


def _kind(process: psutil.Process, root: psutil.Process) -> str:
    if process == root:
        return "driver"
    title = " ".join(process.cmdline())
    return "worker" if "ray::" in title else f"Ray's {process.name()[:15]}"


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _scan(log: Path) -> tuple[int, float]:
    """Returns the number of rows, and the seconds that reading them all takes."""
    started = time.perf_counter()
    batches = pyarrow.dataset.dataset(str(log / "events")).to_batches()
    return sum(len(batch) for batch in batches), time.perf_counter() - started


def measure(log: Path, scratch: Path, rounds: int) -> None:
    """Prints the medians of several runs on one log."""
    path = scratch / "config.yaml"
    tables = {name: log / f"{name}.parquet" for name in ("items", "queries")}
    has = {name: str(file) for name, file in tables.items() if file.exists()}
    init_config(str(log / "events"), has.get("items"), has.get("queries"), path, overwrite=True)
    prepared = load_config(path).prepared_dir
    work = prepared.with_name("prepared.work")
    seconds, scans = [], []
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(rounds):
        rows, scan = _scan(log)
        scans.append(scan)
        subprocess.run(["rm", "-rf", str(prepared), str(work)], check=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", "recsys.cli", "prepare", str(path)]
        process = subprocess.Popen(command, env=environment)
        memory = Memory(process.pid)
        if process.wait():
            sys.exit(process.returncode)
        seconds.append(time.perf_counter() - started)
        memory.stop()
    middle = statistics.median(seconds)
    scan = statistics.median(scans)
    print(f"{rows:,} events: {middle:.1f} s, {rows / middle:,.0f} events/s")
    print(
        f"  pyarrow scan of all columns: {scan:.2f} s, {middle / scan:.0f} times as fast as prepare"
    )
    print(f"  log {_size(log) / _MIB:,.0f} MiB, prepared {_size(prepared) / _MIB:,.0f} MiB,")
    print(f"  kept for the next run {_size(work) / _MIB:,.0f} MiB")
    print(f"  peak memory of all processes {memory.total / _MIB:,.0f} MiB, in the last round")
    for kind, (largest, together) in sorted(memory.peaks.items()):
        print(f"    {kind}: {largest / _MIB:,.0f} MiB, together {together / _MIB:,.0f} MiB")


def main() -> None:
    """Measures the requested logs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="*", default=[], help="sizes of generated logs")
    parser.add_argument("--log", type=Path, nargs="*", default=[], help="directories of logs")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        logs = list(arguments.log)
        for events in arguments.events:
            logs.append(Path(name) / str(events))
            generate(
                logs[-1],
                events=events,
                items=max(100, events // 100),
                queries=max(100, events // 40),
                seed=0,
            )
        for index, log in enumerate(logs):
            scratch = Path(name) / f"run-{index}"
            scratch.mkdir()
            measure(log.resolve(), scratch, arguments.rounds)


if __name__ == "__main__":
    main()
