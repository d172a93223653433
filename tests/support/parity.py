"""Trains the same steps on any number of gloo ranks, and hands back everything unsharded."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from pipelines.process import quiet_engines
from recsys.config.config import Config
from recsys.data.builder import BatchBuilder
from recsys.distributed.optimizers import Optimizers
from recsys.distributed.sharding import shard
from recsys.distributed.shards import ShardedTensor
from recsys.model.side_inputs import FeatureInput
from recsys.model.two_tower import TwoTower
from recsys.training.launch import single_process_group
from recsys.training.numerics import use_precision
from recsys.training.objective import build_objective
from recsys.training.pipelining import pipelined_steps
from recsys.training.trainer import Trainer
from tests.support.ranks import start_ranks
from tests.support.small_batches import FEATURES, ITEMS, config, local_batch, prepared

STEPS, BATCH = 5, 16
# AdamW's eps in trainings that are compared; see `assert_same`.
EPSILON = 1e-3
CPU = torch.device("cpu")
ITEM_INPUTS = (
    FeatureInput("item.item_id", 16, ITEMS, 0),
    FeatureInput("item.kind", 8, 4, 0),
    FeatureInput("item.tags", 16, 100, 0),
    FeatureInput("item.price", 4, 0, 1),
)
QUERY_INPUTS = (FeatureInput("query.country", 8, 4, 0),)
TABLES = ("item.item_id", "item.kind", "item.tags", "query.country")


@dataclass(frozen=True)
class Case:
    """A training to compare.

    Attributes:
        type: Sharding type of every table.
        sections: Keys of sections of the configuration.
        parts: Parts of a table in column-wise sharding; None: one for each rank.
        is_pipelined: Whether steps are made as on a GPU.
        shares: The item feature whose table queries read, too; None: they have their own.
    """

    type: str
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    parts: int | None = None
    is_pipelined: bool = False
    shares: str | None = None

    def config(self) -> Config:
        """Returns the configuration, without dropout, which differs from rank to rank."""
        sections = dict(self.sections)
        tables = {name: {"type": self.type} for name in TABLES}
        sections["sharding"] = {"tables": tables, **sections.get("sharding", {})}
        sections["training"] = {"batch_size": BATCH, **sections.get("training", {})}
        towers = {"dim": 8, "item_tower": [16], "query_tower": [16]}
        sections["model"] = {**towers, **sections.get("model", {})}
        return config(**sections)


@dataclass
class Trained:
    """Result of a training.

    Attributes:
        losses: Losses of each step: means over ranks.
        tensors: Weights, buffers and optimizer state by name, whole.
    """

    losses: list[dict[str, float]]
    tensors: dict[str, torch.Tensor]


def train_on(ranks: int, cases: Sequence[Case]) -> list[Trained]:
    """Trains each case on the same `ranks` processes, for starting them takes seconds."""
    if ranks == 1:
        with single_process_group(CPU):
            return [train_case(case) for case in cases]
    with tempfile.TemporaryDirectory() as directory:
        start_ranks(_run, ranks, ranks, list(cases), directory)
        return torch.load(Path(directory) / "trained", weights_only=False)


def _run(rank: int, ranks: int, cases: list[Case], directory: str) -> None:
    torch.set_num_threads(1)
    os.environ["LOCAL_WORLD_SIZE"] = str(ranks)
    store = dist.FileStore(f"{directory}/store", ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    trained = [train_case(case) for case in cases]
    if rank == 0:
        torch.save(trained, Path(directory) / "trained")
    dist.destroy_process_group()


@contextmanager
def sharded_case(
    case: Case, device: torch.device = CPU
) -> Iterator[tuple[Config, Any, Optimizers]]:
    """Yields the configuration, the sharded objective and its optimizers, in a process group."""
    quiet_engines()
    settings = case.config()
    torch.manual_seed(settings.training.seed)
    model = TwoTower(
        ITEM_INPUTS,
        [replace(query, shares=case.shares) for query in QUERY_INPUTS],
        [],
        settings.model,
        max_length=50,
        table_device=torch.device("meta"),
    )
    objective = build_objective(model, settings, prepared())
    use_precision(model, settings.training, device)
    sharded, _ = shard(
        objective, model, settings.training, settings.sharding, device, column_parts=case.parts
    )
    yield settings, sharded, Optimizers(sharded, settings.training)


def trainer_of(
    settings: Config, sharded: Any, optimizers: Optimizers, steps: int, interval: int
) -> Trainer:
    """Returns a trainer of a sharded case that may be validated every `interval` steps."""
    return Trainer(
        sharded,
        sharded.module.model,
        optimizers,
        settings.training,
        BatchBuilder(prepared(), settings).keys(),
        sharded.device,
        total_steps=steps,
        validation_steps=interval,
    )


def train_case(case: Case, steps: int = STEPS, device: torch.device = CPU) -> Trained:
    """Trains in this process's group; the tensors are on rank 0."""
    with sharded_case(case, device) as (settings, sharded, optimizers):
        # Only AdamW's groups have it: the kernels of tables keep theirs to themselves.
        of_adamw = [group for group in optimizers.combined.param_groups if "eps" in group]
        assert of_adamw
        for group in of_adamw:
            group["eps"] = EPSILON
        builder = BatchBuilder(prepared(), settings)
        rank, ranks = dist.get_rank(), dist.get_world_size()
        batches = (
            builder.training(local_batch(step, BATCH, rank, ranks), rank, ranks)
            for step in range(steps)
        )
        trainer = trainer_of(settings, sharded, optimizers, steps, interval=3)
        if case.is_pipelined:
            trained = pipelined_steps(trainer, batches, 0)
        else:
            trained = trainer.plain_steps(batches, 0)
        losses = []
        for parts, _ in trained:
            for value in parts.values():
                dist.all_reduce(value)
            losses.append({name: float(value) / ranks for name, value in parts.items()})
        state = sharded.state_dict()
        for parameter, values in optimizers.combined.state_dict()["state"].items():
            state.update({f"{parameter}:{key}": value for key, value in values.items()})
        return Trained(losses, whole(state))


def whole(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Joins the shards of all ranks; returns tensors by name; a collective call."""
    own = {}
    for name, value in state.items():
        parts = [((0,) * value.dim(), value.detach().clone())]
        if isinstance(value, ShardedTensor):
            parts = [(p.metadata.shard_offsets, p.tensor.clone()) for p in value.local_shards()]
        own[name] = (tuple(value.size()), parts)
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, own)  # A rank knows no optimizer state of others' tables.
    joined: dict[str, torch.Tensor] = {}
    for of_rank in every:
        for name, (size, parts) in of_rank.items():
            tensor = joined.setdefault(name, torch.full(size, torch.nan))
            for offsets, part in parts:
                region = (slice(o, o + n) for o, n in zip(offsets, part.shape, strict=True))
                tensor[tuple(region)] = part.to(tensor.dtype)
    return dict(sorted(joined.items()))


def assert_same(trained: Trained, expected: Trained) -> None:
    """Asserts that two trainings differ by no more than sums in another order do.

    Ranks round a gradient by about 1e-6 of its tensor's size, each in its own order. AdamW divides
    an element by its own size plus eps: at the usual 1e-8 the few that cancel to almost 0 move by
    any part of the learning rate, 0.002, in a direction that is rounding alone, whatever computes
    them. `EPSILON` is above that rounding, so that one bound holds for every element.
    """
    for step, (one, other) in enumerate(zip(trained.losses, expected.losses, strict=True)):
        assert one == pytest.approx(other, rel=1e-5), f"losses of step {step}"
    assert_same_tensors(trained, expected)


def assert_same_tensors(trained: Trained, expected: Trained) -> None:
    """Asserts what `assert_same` does, of weights, buffers and optimizer state alone."""
    assert trained.tensors.keys() == expected.tensors.keys()
    assert not any(tensor.isnan().any() for tensor in trained.tensors.values())
    for key, tensor in trained.tensors.items():
        torch.testing.assert_close(tensor, expected.tensors[key], rtol=1e-4, atol=1e-5, msg=key)


assert FEATURES.item  # The inputs above are of these features.
