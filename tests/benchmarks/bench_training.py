"""Examples a second of one rank, by the clock and by the processor, beside plain PyTorch.

python tests/benchmarks/bench_training.py LOG [--rounds 5] [--steps 120] [--batch 1024]
    [--hidden 256] [--threads 1] [--profile] [--json FILE]

LOG is movielens-1m in the log layout. Sizes: user id and 4 fields, item id, year and genres, 64
columns each, towers 256-128, batches of 1,024, in-batch softmax. The reference is a hand-written
model for just that: an embedding bag for each feature, two towers, sparse Adagrad, AdamW, batches
ready in memory; once without a history, which ours always has, and once with one item. "Equal"
arms mask nothing, as the reference; ours includes loading, checks and logging.

Each round measures everything once, one after the other, so that other load on the machine slows
all of it down alike; medians are printed, and ratios are medians of the rounds' ratios. The share
of the peak counts the multiplications of the towers and the losses, against the fastest product of
large matrices in the same round.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiled

from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.config.load import parse_config
from recsys.data.host_batch import HostBatch
from recsys.data.loader import in_process_batches
from recsys.products import product
from recsys.stages.prepare import prepare
from recsys.training.launch import single_process_group
from recsys.training.rank import train_on_rank
from recsys.training.run import plan_run

_DIM, _VECTOR = 64, 128
_WARM_STEPS = 20
_USER = ("gender", "age", "occupation", "zip_code")
_USER_SIZES = (6040, 2, 7, 21, 3439)
_PEAK_SIZE = 2048
_EQUAL: dict[str, Any] = {"masked": "target", "id_dropout": 0.0}


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model that an option can change."""

    batch: int
    hidden: int


@dataclass(frozen=True)
class Speed:
    """Examples a second, by the clock and by the processor."""

    clock: float
    processor: float


class Stopwatch:
    """Measures the steps after the first ones.

    Args:
        batch: Number of examples of a step.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._started = self._now()

    def over(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yields batches, and notes when each is asked for."""
        self.steps = -_WARM_STEPS
        for entry in batches:
            if self.steps == 0:
                self._started = self._now()
            yield entry
            self.steps += 1
        self._ended = self._now()

    def speed(self) -> Speed:
        """Returns the speed of the steps after the first ones."""
        seconds = [end - start for start, end in zip(self._started, self._ended, strict=True)]
        clock, processor = (self.steps * self._batch / each for each in seconds)
        return Speed(clock, processor)

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


def log_config(log: Path, output: Path, history: int, sizes: Sizes) -> Config:
    """Builds the configuration for movielens-1m with at most `history` items of history."""
    user = [{"name": name, "kind": "categorical", "dim": _DIM} for name in _USER]
    document: dict[str, Any] = {
        "output": str(output),
        "executor": "local",
        "data": {
            "events": str(log / "events"),
            "items": str(log / "items.parquet"),
            "queries": str(log / "queries.parquet"),
            "split": {"kind": "random_hash"},
            "history": {"kind": "others", "max_length": history},
        },
        "features": {
            "item": [
                {"name": "item_id", "kind": "id", "dim": _DIM},
                {"name": "release_year", "kind": "categorical", "dim": _DIM},
                {"name": "genres", "kind": "multi_valued", "dim": _DIM},
            ],
            "query": [{"name": "query_id", "kind": "id", "dim": _DIM}, *user],
        },
        "model": {"dim": _VECTOR, "item_tower": [sizes.hidden], "query_tower": [sizes.hidden]},
        "ssl": {"method": "none"},
        "training": {"batch_size": sizes.batch, "epochs": 1},
    }
    return parse_config(document)


def changed(config: Config, **sections: dict[str, Any]) -> Config:
    """Returns the configuration with other settings, on the same prepared data."""
    document = config.model_dump(mode="json")
    for name, settings in sections.items():
        document[name] = settings if name == "ssl" else {**document[name], **settings}
    return parse_config(document)


def arms(one: Config, many: Config, history: int) -> dict[str, Config]:
    """Returns what of ours is measured."""
    bf16 = {"precision": "bf16"}
    return {
        "equal": changed(one, loss=_EQUAL),
        "equal, bf16": changed(one, loss=_EQUAL, training=bf16),
        f"equal, {history} items of history": changed(many, loss=_EQUAL),
        "equal, CFM": changed(one, loss=_EQUAL, ssl={"method": "cfm"}),
        "equal, CFM, bf16": changed(one, loss=_EQUAL, ssl={"method": "cfm"}, training=bf16),
        "known positives masked (default)": one,
    }


def training(config: Config, steps: int) -> Speed:
    """Measures the training loop, with loading and logging."""
    watch = Stopwatch(config.training.batch_size)

    def short(*arguments: Any) -> Iterator[HostBatch]:
        with closing(in_process_batches(*arguments)) as batches:
            yield from watch.over(islice(batches, steps))

    with tempfile.TemporaryDirectory() as name, single_process_group(torch.device("cpu")):
        run, _ = plan_run(config, Prepared(config.prepared_dir), Path(name))
        train_on_rank(run, torch.device("cpu"), short)  # type: ignore[arg-type]
    return watch.speed()


class PlainTowers(nn.Module):
    """Two towers over embedding bags, each feature its own table.

    Args:
        items: Number of items.
        hidden: Width of the hidden layers.
        has_history: Whether queries have the features of an item, too.
    """

    def __init__(self, items: int, hidden: int, has_history: bool) -> None:
        super().__init__()
        sides = _USER_SIZES, (items, 81, 18)
        self.user, self.item = (
            nn.ModuleList(nn.EmbeddingBag(size, _DIM, mode="mean", sparse=True) for size in sizes)
            for sizes in sides
        )
        user, item = (_DIM * len(sizes) for sizes in sides)
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, _VECTOR))
            for width in (user + item * has_history, item)
        )

    def forward(self, user: list[Any], item: list[Any], history: list[Any]) -> Tensor:
        """Returns the loss; each feature comes as its values and the offsets of the rows."""
        query = [table(*bag) for table, bag in zip(self.user, user, strict=True)]
        query += [table(*bag) for table, bag in zip(self.item, history, strict=False)]
        items = [table(*bag) for table, bag in zip(self.item, item, strict=True)]
        queries, candidates = (
            F.normalize(tower(torch.cat(embeddings, dim=1)))
            for tower, embeddings in zip(self.towers, (query, items), strict=True)
        )
        logits = queries @ candidates.T / 0.07
        return F.cross_entropy(logits, torch.arange(len(logits)))


def plain(prepared: Prepared, steps: int, sizes: Sizes, has_history: bool) -> Speed:
    """Measures the reference."""
    model = PlainTowers(prepared.num_items, sizes.hidden, has_history)
    tables = [p for part in (model.user, model.item) for p in part.parameters()]
    optimizers = torch.optim.Adagrad(tables, lr=0.05), torch.optim.AdamW(model.towers.parameters())
    generator = torch.Generator().manual_seed(0)
    single = torch.arange(sizes.batch)

    def one(size: int) -> tuple[Tensor, Tensor]:
        return torch.randint(size, (sizes.batch,), generator=generator), single

    def item() -> list[tuple[Tensor, Tensor]]:
        lengths = torch.randint(1, 4, (sizes.batch,), generator=generator)
        genres = torch.randint(18, (int(lengths.sum()),), generator=generator)
        return [one(prepared.num_items), one(81), (genres, lengths.cumsum(0) - lengths)]

    batches = [
        ([one(size) for size in _USER_SIZES], item(), item() if has_history else [])
        for _ in range(steps)
    ]
    watch = Stopwatch(sizes.batch)
    for batch in watch.over(iter(batches)):
        for optimizer in optimizers:
            optimizer.zero_grad()
        model(*batch).backward()
        for optimizer in optimizers:
            optimizer.step()
    return watch.speed()


def peak() -> float:
    """Measures the fastest product of large fp32 matrices, in operations a CPU second."""
    left, right = torch.randn(2, _PEAK_SIZE, _PEAK_SIZE)
    product(left, right)
    seconds = []
    for _ in range(5):
        started = time.process_time()
        product(left, right)
        seconds.append(time.process_time() - started)
    return 2 * _PEAK_SIZE**3 / min(seconds)


def operations(config: Config) -> float:
    """Counts multiplications and additions of an example: products of a step, three for each."""
    hidden, batch = config.model.item_tower[0], config.training.batch_size
    item, query = 3 * _DIM, (len(_USER_SIZES) + 3) * _DIM
    views = 0 if config.ssl.view_plan is None else config.ssl.view_plan.count
    towers = (query + (1 + views) * item + (2 + views) * _VECTOR) * hidden
    losses = batch * _VECTOR * (1 if views == 0 else 2)
    return 3 * 2 * (towers + losses)


def profile(config: Config, steps: int) -> None:
    """Prints the operators that take most of a training's CPU time, and calls and bytes a step."""
    with profiled(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        training(config, steps)
    averages = found.key_averages()
    print(averages.table(sort_by="self_cpu_time_total", row_limit=25))
    calls = sum(event.count for event in averages if event.key.startswith(("aten::", "fbgemm::")))
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in averages)
    print(f"a step: {calls / steps:,.0f} operators, {allocated / steps / 2**20:,.1f} MiB allocated")


def measured(arguments: argparse.Namespace) -> list[dict[str, float | str]]:
    """Returns a line for each arm; or prints profiles, where they are asked for."""
    sizes = Sizes(arguments.batch, arguments.hidden)
    with tempfile.TemporaryDirectory() as name:
        configs = []
        for history in (1, arguments.history):  # Each needs prepared data of its own.
            config = log_config(arguments.log, Path(name) / str(history), history, sizes)
            prepare(config, console=Console(quiet=True))
            configs.append(config)
        ours = arms(configs[0], configs[1], arguments.history)
        if arguments.profile:
            for label, config in ours.items():
                print(label)
                profile(config, arguments.steps)
            return []
        prepared = Prepared(configs[0].prepared_dir)
        calls: dict[str, Callable[[], Speed]] = {
            "plain PyTorch": lambda: plain(prepared, arguments.steps, sizes, True),
            "plain PyTorch, no history": lambda: plain(prepared, arguments.steps, sizes, False),
        }
        for label, config in ours.items():
            calls[label] = lambda config=config: training(config, arguments.steps)  # type: ignore[misc]
        rounds = []
        for number in range(arguments.rounds):
            # Forwards and backwards in turn, so that drift favours nobody.
            order = list(calls) if number % 2 == 0 else list(calls)[::-1]
            rounds.append(({label: calls[label]() for label in order}, peak()))
    return [_line(label, rounds, ours.get(label)) for label in calls]


def _line(
    label: str, rounds: list[tuple[dict[str, Speed], float]], config: Config | None
) -> dict[str, float | str]:
    line: dict[str, float | str] = {
        "what": label,
        "examples a CPU second": median(r[label].processor for r, _ in rounds),
        "examples a second": median(r[label].clock for r, _ in rounds),
    }
    for other in ("plain PyTorch", "equal"):
        ratios = [r[label].processor / r[other].processor for r, _ in rounds]
        line[f"of {other}"] = median(ratios)
    if config is not None and config.training.precision == "fp32":
        done = operations(config)
        line["of the peak"] = median(done * r[label].processor / best for r, best in rounds)
    return line


def main() -> None:
    """Prints the medians and their ratios as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--history", type=int, default=20, help="items of the longer history")
    parser.add_argument("--profile", action="store_true", help="profile each method instead")
    parser.add_argument("--json", type=Path, help="write the lines here, too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.sparse.check_sparse_tensor_invariants.disable()  # Else the reference's Adagrad warns.
    lines = measured(arguments)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(lines, indent=1))
    names = list(lines[-1]) if lines else []
    for row in [names, ["---", *["---:"] * (len(names) - 1)]][: 2 * bool(lines)]:
        print("|", " | ".join(row), "|")
    for line in lines:
        cells = [_shown(line.get(name)) for name in names]
        print("|", " | ".join(cells), "|")


def _shown(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,.0f}" if value > 100 else f"{value:.2f}"


if __name__ == "__main__":
    main()
