"""A small sharded model without data, for tests that hold for every model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.distributed import DistributedModelParallel

from recsys.checkpoint.manifest import Progress, checkpoint_path, read_checkpoint
from recsys.checkpoint.state import checkpoint_state, restore, warm_start
from recsys.checkpoint.writer import CheckpointWriter
from recsys.config.config import Config
from recsys.config.sharding import ShardingConfig
from recsys.distributed.optimizers import Optimizers
from recsys.distributed.sharding import shard
from tests.support.planted import planted_config
from tests.support.ranks import start_ranks

CPU = torch.device("cpu")
ROWS, DIM, WIDTH = 30, 8, 4


class Toy(nn.Module):
    """Two tables and a layer, in place of the objective with its model."""

    def __init__(self, rows: int, dim: int, width: int) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.tables = EmbeddingBagCollection(
            device=torch.device("meta"),
            is_weighted=True,
            tables=[
                EmbeddingBagConfig(
                    name=f"item/{name}", embedding_dim=dim, num_embeddings=rows, feature_names=[key]
                )
                for name, key in (("group", "item.group"), ("tags", "item.tags"))
            ],
        )
        torch.manual_seed(0)
        self.model.tower = nn.Linear(2 * dim, width)

    def forward(self, batch: KeyedJaggedTensor) -> Tensor:
        return self.model.tower(self.model.tables(batch).values()).square().mean()


class ToyTraining:
    """Training of the toy model on one rank.

    Args:
        config: Configuration, whose training and sharding are used.
        rows: Rows of each table.
        dim: Embedding dimension of each table.
        width: Width of the layer.
        device: Device of the rank.
    """

    def __init__(
        self,
        config: Config,
        rows: int = ROWS,
        dim: int = DIM,
        width: int = WIDTH,
        device: torch.device = CPU,
    ) -> None:
        toy = Toy(rows, dim, width)
        self.rows = rows
        self.device = device
        sharded, _ = shard(toy, toy.model, config.training, config.sharding, device)
        self.sharded: DistributedModelParallel = sharded
        self.optimizers = Optimizers(self.sharded, config.training)
        self.step = 0

    def train(self, steps: int, batch_size: int = 8) -> None:
        """Makes steps, each on the same global batch whatever the number of ranks."""
        for _ in range(steps):
            self.optimizers.set_learning_rates(self.step, 1.0)
            self.optimizers.zero_grad()
            batch = _batch(self.step, self.rows, batch_size).to(self.device)
            self.sharded(batch).backward()
            self.optimizers.step()
            self.step += 1

    def state(self) -> dict[str, Any]:
        return checkpoint_state(self.sharded, self.optimizers.combined)

    def restore(self, path: Path) -> None:
        checkpoint = read_checkpoint(path)
        restore(checkpoint, self.sharded, self.optimizers.combined)
        self.step = checkpoint.manifest.progress.schedule_step

    def warm_start(self, path: Path, unknown: dict[str, Any] | None = None) -> None:
        checkpoint = read_checkpoint(path)
        warm_start(checkpoint, self.sharded, self.optimizers.combined, unknown or {})
        self.step = checkpoint.manifest.progress.schedule_step


def _batch(step: int, rows: int, batch_size: int) -> KeyedJaggedTensor:
    random = torch.Generator().manual_seed(step)
    values = torch.randint(rows, (2 * batch_size,), generator=random)
    size = batch_size // dist.get_world_size()
    begin = dist.get_rank() * size
    local = values.view(2, batch_size)[:, begin : begin + size].reshape(-1)
    lengths = torch.ones(2 * size, dtype=torch.int64)
    return KeyedJaggedTensor(["item.group", "item.tags"], local, torch.ones(len(local)), lengths)


def toy_config(kind: str = "row_wise", **training: Any) -> Config:
    """Returns a configuration whose tables are all sharded in one way."""
    config = planted_config(Path("log"), Path("out"), training=training)
    tables = {name: {"type": kind} for name in ("item.group", "item.tags")}
    return config.model_copy(update={"sharding": ShardingConfig(tables=tables)})


def toy_writer(directory: Path, config: Config) -> CheckpointWriter:
    return CheckpointWriter(directory, config, "", {})


def save(training: ToyTraining, directory: Path, config: Config) -> Path:
    """Writes a checkpoint and waits for it."""
    writer = toy_writer(directory, config)
    writer.save(training.state(), progress(training.step))
    writer.wait()
    dist.barrier()
    return checkpoint_path(directory, training.step)


def progress(step: int, best_step: int | None = None) -> Progress:
    best = step if best_step is None else best_step
    return Progress(step=step, plan="plan", best_step=best, best_value=0.5, stale=0)


def on_ranks(ranks: int, function: Callable[..., None], *arguments: Any) -> None:
    """Calls `function(*arguments)` on gloo ranks, each a process of its own."""
    directory = next(a for a in arguments if isinstance(a, Path))
    directory.mkdir(parents=True, exist_ok=True)
    store = directory / f"store-{ranks}"
    store.unlink(missing_ok=True)
    start_ranks(_run, ranks, ranks, str(store), function, arguments)


def _run(
    rank: int, ranks: int, store: str, function: Callable[..., None], arguments: Sequence[Any]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, ranks), rank=rank, world_size=ranks)
    function(*arguments)
    dist.destroy_process_group()
