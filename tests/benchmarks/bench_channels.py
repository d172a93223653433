"""Time, memory and disk of retrieval channels and of the fused ranking on a large log.

python tests/benchmarks/bench_channels.py --events 2000000 --items 100000
python tests/benchmarks/bench_channels.py --events 20000000 --items 1000000 --scratch DIRECTORY

A log of N events and M items as `recsys generate` writes them, with the features that `recsys init`
finds; queries are N / 40, or with `--pages` the items themselves, so that every channel has what it
needs. Nothing is trained: an item's vector is a random projection of its content, and a query's
the mean over its history. For each step the table has seconds, processor seconds, peak memory of
all processes and bytes on disk. Memory is what processes hold for themselves, sampled ten times a
second, and Ray's object store; pages of mapped files, which the system takes back when it needs
them, are not in it. What a scratch directory holds is used again.
"""

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from feature_store.core.columns import Floats, Jagged
from feature_store.core.files import write_array
from pipelines.datasets.generate import generate
from pipelines.executor import Executor, executor_named
from pipelines.prepared.reader import Prepared
from pipelines.process import quiet_engines
from pipelines.statistics.slices import item_slices
from recsys.autoconfig.init import init_config
from recsys.channels.channel import ChannelData
from recsys.channels.content import content_matrix, content_space
from recsys.channels.fit import fit_channel
from recsys.channels.kinds import CHANNELS
from recsys.channels.log import TrainingLog
from recsys.channels.neighbours import Neighbours
from recsys.channels.product import Product
from recsys.channels.trend import popularity_dial, recent_counts, trend_of
from recsys.config.load import load_config
from recsys.evaluation.task import Task, ranked_items
from recsys.fusion.curve import trade_off
from recsys.fusion.fused import ChannelInfo, Fused, FusionInfo, rarity
from recsys.fusion.queries import FusedQueries
from recsys.fusion.sample import draw_sample
from recsys.fusion.search import Search
from recsys.fusion.weights import Weights
from recsys.stages.fuse import one_thread
from recsys.stages.prepare import prepare

_SECONDS = 0.1
_MIB = 2**20
_DIM, _NEIGHBOURS, _DEPTH = 64, 100, 50
_QUERIES, _COMPARED = 1_000, 500


@dataclass
class Usage:
    """Time and memory of a step.

    Attributes:
        seconds: Wall time.
        processor: Processor seconds of all processes.
        peak: Peak memory of all processes, in bytes.
    """

    seconds: float = 0.0
    processor: float = 0.0
    peak: int = 0


@contextmanager
def measured(name: str, disk: Path | None = None) -> Iterator[None]:
    """Prints what the block takes, and what it leaves on disk."""
    usage, ended, spent = Usage(), threading.Event(), dict[int, float]()
    before = {process.pid: _processor(process) for process in _processes()}

    def watch() -> None:
        while not ended.wait(_SECONDS):
            _look()

    def _look() -> None:
        held, shared = 0, 0
        for process in _processes():
            spent[process.pid] = max(_processor(process), spent.get(process.pid, 0.0))
            anonymous, store = _memory(process.pid)
            held, shared = held + anonymous, max(shared, store)
        usage.peak = max(usage.peak, held + shared)

    thread = threading.Thread(target=watch)
    started = time.perf_counter()
    thread.start()
    try:
        yield
    finally:
        usage.seconds = time.perf_counter() - started
        ended.set()
        thread.join()
        _look()
    usage.processor = sum(total - before.get(pid, 0.0) for pid, total in spent.items())
    size = f"{_size(disk) / _MIB:,.0f}" if disk else ""
    print(
        f"| {name} | {usage.seconds:,.1f} | {usage.processor:,.1f} | {usage.peak / _MIB:,.0f} "
        f"| {size} |",
        flush=True,
    )


def _processes() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _processor(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _memory(pid: int) -> tuple[int, int]:
    """Returns the bytes that a process holds for itself, and those in shared memory."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # It has ended.
        return 0, 0
    values = dict(line.split(":", 1) for line in lines)
    anonymous, shared = (values.get(name, "0 kB") for name in ("RssAnon", "RssShmem"))
    return int(anonymous.split()[0]) * 1024, int(shared.split()[0]) * 1024


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def prepared_log(scratch: Path, events: int, items: int, pages: bool, executor: str) -> Prepared:
    """Generates and prepares the log, where the scratch directory has not done so."""
    log, config = scratch / "log", scratch / "config.yaml"
    if not log.exists():
        queries = items if pages else max(100, events // 40)
        generate(log, events=events, items=items, queries=queries, progress=lambda _: None)
        if pages:
            _make_queries_items(log)
    queries_table = None if pages else str(log / "queries.parquet")
    arguments = str(log / "events"), str(log / "items.parquet"), queries_table
    init_config(*arguments, config, overwrite=True)
    loaded = load_config(config, [f"executor={executor}"])
    with measured("prepare", loaded.prepared_dir):
        prepare(loaded, console=Console(quiet=True))
    return Prepared(loaded.prepared_dir)


def _make_queries_items(log: Path) -> None:
    """Gives queries and items the same ids, such as `page42`."""
    for path in [*(log / "events").glob("*.parquet"), log / "items.parquet"]:
        table = pq.read_table(path)
        for place, name in enumerate(table.column_names):
            if name in ("query_id", "item_id"):
                page = pc.replace_substring_regex(table[name], "^[qi]", "page")
                table = table.set_column(place, name, page)
        pq.write_table(table, path, compression="zstd")


def fitted(
    data: ChannelData, scratch: Path, executor: Executor
) -> tuple[dict[str, Neighbours], dict[str, ChannelInfo]]:
    """Fits every channel that the log has."""
    lists: dict[str, Neighbours] = {}
    channels: dict[str, ChannelInfo] = {}
    for name, channel in CHANNELS.items():
        why = channel.why_not(data)
        if why is not None:
            print(f"({name}: {why})")
            continue
        channels[name] = ChannelInfo(lists=channel.lists, reads=channel.reads_in(data))
        directory = scratch / "lists" / channel.lists
        if channel.lists in lists:
            continue
        if directory.exists():
            lists[channel.lists] = Neighbours.read(directory)
            continue
        with measured(name, directory):
            found = fit_channel(
                channel,
                data,
                neighbours=_NEIGHBOURS,
                work_dir=scratch / "work" / name,
                executor=executor,
            )
            found.save(directory)
        lists[channel.lists] = Neighbours.read(directory)
        shutil.rmtree(scratch / "work" / name, ignore_errors=True)
    return lists, channels


def content_kept(prepared: Prepared, lists: Neighbours) -> float:
    """Returns what the neighbours that were found score, over what the best ones do."""
    current = prepared.is_current_item
    content = content_matrix(content_space(prepared), prepared.item_columns, current)
    start = prepared.num_items // 2
    stop = min(prepared.num_items, start + _COMPARED)
    best = Product(content, content.T.tocsr()).highest(start, stop, _NEIGHBOURS)
    found = np.bincount(lists.lists.values, lists.scores, prepared.num_items)
    return float(found[start:stop].sum() / best.sum())


def vectors(prepared: Prepared, history: Jagged, directory: Path) -> tuple[Floats, Floats]:
    """Returns vectors of queries and of items, both of length 1."""
    random = np.random.default_rng(0)
    current = prepared.is_current_item
    content = content_matrix(content_space(prepared), prepared.item_columns, current)
    of_values = random.normal(size=(content.shape[1], _DIM)).astype(np.float32)
    noise = random.normal(size=(prepared.num_items, _DIM)).astype(np.float32)
    items = _unit(content @ of_values + noise)
    write_array(directory / "items.npy", items)
    sums = np.zeros((len(history), _DIM), np.float32)
    np.add.at(sums, history.row_of_value(), items[history.values])
    return _unit(sums), items


def _unit(matrix: Floats) -> Floats:
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.maximum(length, 1e-12)).astype(np.float32)


def main() -> None:
    """Measures the requested log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--pages", action="store_true", help="queries are items")
    parser.add_argument("--executor", choices=("ray", "local"), default="ray")
    parser.add_argument("--scratch", type=Path, help="directory to keep log, data and lists in")
    arguments = parser.parse_args()
    quiet_engines()
    with tempfile.TemporaryDirectory() as name:
        scratch = (arguments.scratch or Path(name)).resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        print("| | seconds | processor seconds | peak memory, MiB | on disk, MiB |")
        print("| --- | ---: | ---: | ---: | ---: |")
        sizes = arguments.events, arguments.items, arguments.pages
        prepared = prepared_log(scratch, *sizes, arguments.executor)
        executor = executor_named(arguments.executor)
        executor.start(lambda _: None)
        measure(prepared, scratch, executor)


def measure(prepared: Prepared, scratch: Path, executor: Executor) -> None:
    """Prints what channels, the search and an exact ranking take."""
    with measured("reading of the training events"):
        data = ChannelData(prepared, TrainingLog.read(prepared))
    lists, channels = fitted(data, scratch, executor)
    if "content" in lists:
        print(f"(content: {content_kept(prepared, lists['content']):.4f} of the best scores)")
    counts = recent_counts(data.log, None)
    dial = popularity_dial(counts, prepared.is_current_item, 0.1)
    of_items = rarity(prepared.item_frequency), dial, trend_of(counts)
    info = FusionInfo(weights=Weights(), channels=channels, neighbours=_NEIGHBOURS)
    fused = Fused(info, lists, *of_items)
    task = Task.of(prepared, "validation")
    query_vectors, item_vectors = vectors(prepared, task.history, scratch)
    queries = FusedQueries.of(prepared, task, query_vectors, item_vectors)
    del data
    slices = item_slices(prepared.item_frequency)
    with measured("sample of the search"):
        sample = draw_sample(fused, queries)
    with measured("search"), one_thread():
        weights = Search(sample, slices, 1.0).best()
    with measured("trade-off along the dial"), one_thread():
        trade_off(sample, slices, weights)
    print(f"({sample.candidates.shape[0]:,} queries of up to {sample.candidates.shape[1]:,} items)")
    print(f"({weights.model_dump_json()})")
    every = Weights(
        channels=dict.fromkeys(channels, 0.1),
        rare=dict.fromkeys(channels, 0.1),
        trend=0.1,
        dial=0.1,
    )
    some = task.take(np.arange(min(_QUERIES, len(task.queries))))
    for name, chosen in (("towers", Weights()), ("all channels", every)):
        with measured(f"exact ranking by {name}, {len(some.queries):,} queries"):
            ranked_items(queries.scorer(fused, chosen), prepared, some.excluded, _DEPTH)


if __name__ == "__main__":
    main()
