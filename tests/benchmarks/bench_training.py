"""Examples a second of one rank, without and with self-supervision, beside a plain PyTorch model.

python tests/benchmarks/bench_training.py LOG [--rounds 5] [--steps 160] [--threads 1] [--profile]

LOG is movielens-1m in the log layout. Sizes: user id and 4 fields, item id, year and genres, 64
columns each, towers 256-128, batches of 1024, one item of history (the minimum). The
reference is a hand-written model for just that: an embedding bag for each feature, two
towers, in-batch softmax, sparse Adagrad, no history, no masking, batches ready in memory. Each
round measures everything once, one after the other, so that other load on the machine slows all of
it down alike; the medians are printed.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.config.load import parse_config
from recsys.data.host_batch import HostBatch
from recsys.data.loader import in_process_batches
from recsys.stages.prepare import prepare
from recsys.training.launch import single_process_group
from recsys.training.log import METRICS_FILE
from recsys.training.rank import train_on_rank
from recsys.training.run import plan_run

_DIM, _HIDDEN, _VECTOR, _BATCH = 64, 256, 128, 1024
_WARM_STEPS = 20
_USER = ("gender", "age", "occupation", "zip_code")
_METHODS = ("none", "rfm", "cfm")


def log_config(log: Path, output: Path, history: int) -> Config:
    """Builds the configuration for movielens-1m with at most `history` items of history."""
    user = [{"name": name, "kind": "categorical", "dim": _DIM} for name in _USER]
    document: dict[str, Any] = {
        "output": str(output),
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
        "model": {
            "dim": _VECTOR,
            "item_tower": [_HIDDEN],
            "query_tower": [_HIDDEN],
        },
        "ssl": {"method": "none"},
        "training": {"batch_size": _BATCH, "epochs": 1},
    }
    return parse_config(document)


def with_ssl(config: Config, method: str) -> Config:
    """Returns the configuration with another SSL method, on the same prepared data."""
    return parse_config(config.model_dump(mode="json") | {"ssl": {"method": method}})


def training(config: Config, steps: int) -> float:
    """Measures examples a second of the training loop, loading included, after the first steps."""

    def short(*arguments: Any) -> Iterator[HostBatch]:
        with closing(in_process_batches(*arguments)) as batches:
            yield from islice(batches, steps)

    with tempfile.TemporaryDirectory() as name, single_process_group(torch.device("cpu")):
        run, _ = plan_run(config, Prepared(config.prepared_dir), Path(name))
        train_on_rank(run, torch.device("cpu"), short)  # type: ignore[arg-type]
        lines = [json.loads(line) for line in (Path(name) / METRICS_FILE).read_text().splitlines()]
    speeds = [line["examples_per_second"] for line in lines if "loader_wait" in line]
    return median(speeds[1:])


class PlainTowers(nn.Module):
    """Two towers over embedding bags, each feature its own table."""

    def __init__(self, user_sizes: list[int], item_sizes: list[int]) -> None:
        super().__init__()
        self.user, self.item = (
            nn.ModuleList(nn.EmbeddingBag(size, _DIM, mode="mean", sparse=True) for size in sizes)
            for sizes in (user_sizes, item_sizes)
        )
        self.towers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(_DIM * len(sizes), _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _VECTOR)
            )
            for sizes in (user_sizes, item_sizes)
        )

    def forward(
        self, user: list[tuple[Tensor, Tensor]], item: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Returns the loss; each feature comes as its values and the offsets of the rows."""
        vectors = [
            F.normalize(tower(torch.cat([t(*bag) for t, bag in zip(tables, bags, strict=True)], 1)))
            for tower, tables, bags in zip(
                self.towers, (self.user, self.item), (user, item), strict=True
            )
        ]
        logits = vectors[0] @ vectors[1].T / 0.07
        return F.cross_entropy(logits, torch.arange(len(logits)))


def plain(prepared: Prepared, steps: int) -> float:
    """Measures examples a second of the reference, after the first steps."""
    items = prepared.num_items
    model = PlainTowers([6040, 2, 7, 21, 3439], [items, 81, 18])
    tables = [p for part in (model.user, model.item) for p in part.parameters()]
    sparse = torch.optim.Adagrad(tables, lr=0.05)
    dense = torch.optim.AdamW(model.towers.parameters(), lr=0.002)
    generator = torch.Generator().manual_seed(0)
    single = torch.arange(_BATCH)

    def one(size: int) -> tuple[Tensor, Tensor]:
        return torch.randint(size, (_BATCH,), generator=generator), single

    batches = []
    for _ in range(steps):
        lengths = torch.randint(1, 4, (_BATCH,), generator=generator)
        genres = torch.randint(18, (int(lengths.sum()),), generator=generator)
        bag = (genres, lengths.cumsum(0) - lengths)
        batches.append(([one(n) for n in (6040, 2, 7, 21, 3439)], [one(items), one(81), bag]))
    started = time.perf_counter()
    for step, (user, item) in enumerate(batches):
        if step == _WARM_STEPS:
            started = time.perf_counter()
        sparse.zero_grad()
        dense.zero_grad()
        model(user, item).backward()
        sparse.step()
        dense.step()
    return (steps - _WARM_STEPS) * _BATCH / (time.perf_counter() - started)


def profile(config: Config, steps: int) -> None:
    """Prints the operators that take most of a training's CPU time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    with profiled(activities=[ProfilerActivity.CPU]) as found:
        training(config, steps)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))


def main() -> None:
    """Prints the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--history", type=int, default=20, help="history length of a second `none`")
    parser.add_argument("--profile", action="store_true", help="profile each method instead")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.sparse.check_sparse_tensor_invariants.disable()  # Else the reference's Adagrad warns.
    with tempfile.TemporaryDirectory() as name:
        # Each history length needs prepared data of its own.
        configs = {}
        for history, methods in ((1, _METHODS), (arguments.history, ("none",))):
            config = log_config(arguments.log, Path(name) / f"history{history}", history)
            prepare(config, console=Console(quiet=True))
            suffix = "" if history == 1 else f", history {history}"
            configs |= {method + suffix: with_ssl(config, method) for method in methods}
        if arguments.profile:
            for label, config in configs.items():
                print(label)
                profile(config, arguments.steps)
            return
        prepared = Prepared(configs["none"].prepared_dir)
        found: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            found.setdefault("plain PyTorch", []).append(plain(prepared, arguments.steps))
            for label, config in configs.items():
                found.setdefault(label, []).append(training(config, arguments.steps))
    for label, speeds in found.items():
        ratios = [
            median(a / b for a, b in zip(speeds, found[other], strict=True))
            for other in ("none", "plain PyTorch")
        ]
        print(
            f"{label:14} median {median(speeds):8,.0f} examples/s, from {min(speeds):,.0f} to "
            f"{max(speeds):,.0f}; {ratios[0]:.2f} of none, {ratios[1]:.2f} of plain PyTorch"
        )


if __name__ == "__main__":
    main()
