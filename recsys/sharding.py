"""The one place where a model is sharded: planner, DistributedModelParallel and optimizers."""

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.types import ParameterConstraints
from torchrec.distributed.types import ShardingEnv, ShardingPlan, ShardingType
from torchrec.optim.keyed import KeyedOptimizerWrapper

from feature_store.history import hash_uniform
from recsys.model import TwoTower
from recsys.training_settings import TrainingConfig

# Part of the name of every table's parameter.
_TABLES = ".embedding_bags."
# Rows that are initialised at once, which bounds the memory that it takes.
_INIT_ROWS = 65_536


class _Sharder(EmbeddingBagCollectionSharder):
    """Offers row-wise sharding on CPU too: it works over gloo, but stock sharders leave it out."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        return [ShardingType.ROW_WISE.value, ShardingType.TABLE_WISE.value]


def shard(
    module: nn.Module, model: TwoTower, settings: TrainingConfig, device: torch.device
) -> DistributedModelParallel:
    """Shards the tables of `module` over the process group and replicates the rest.

    Tables of at least `row_wise_from` rows are split by rows over all ranks; smaller ones are whole
    on one rank each, placed by TorchRec's planner.

    Args:
        module: Holds `model`, whose tables are on the meta device.
        model: The model.
        settings: Its thresholds and the sparse learning rate are used.
        device: Of this rank.
    """
    sharder = _Sharder(
        fused_params={
            "optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            "learning_rate": settings.sparse_learning_rate,
            "eps": 1e-8,
        }
    )
    plan = plan_sharding(module, model, sharder, settings.row_wise_from, device)
    sharded = DistributedModelParallel(
        module,
        env=ShardingEnv.from_process_group(dist.group.WORLD),
        device=device,
        plan=plan,
        sharders=[sharder],
    )
    initialise_tables(sharded, settings.seed)
    return sharded


def plan_sharding(
    module: nn.Module,
    model: TwoTower,
    sharder: EmbeddingBagCollectionSharder,
    row_wise_from: int,
    device: torch.device,
) -> ShardingPlan:
    """One plan for all ranks."""
    constraints = {
        config.name: ParameterConstraints(
            sharding_types=[
                ShardingType.ROW_WISE.value
                if config.num_embeddings >= row_wise_from
                else ShardingType.TABLE_WISE.value
            ],
            compute_kernels=[EmbeddingComputeKernel.FUSED.value],
        )
        for config in model.tables.embedding_bag_configs()
    }
    topology = Topology(world_size=dist.get_world_size(), compute_device=device.type)
    planner = EmbeddingShardingPlanner(topology=topology, constraints=constraints)
    return planner.collective_plan(module, [sharder], dist.group.WORLD)


def dense_optimizer(
    sharded: DistributedModelParallel, settings: TrainingConfig
) -> KeyedOptimizerWrapper:
    """AdamW over every parameter but the tables, which the fused optimizer updates."""
    # By name: a rank also lists tables that are on other ranks, and no optimizer of its own has.
    dense = {name: p for name, p in sharded.named_parameters() if _TABLES not in name}
    return KeyedOptimizerWrapper(
        dense,
        lambda parameters: torch.optim.AdamW(
            parameters, lr=settings.dense_learning_rate, weight_decay=settings.weight_decay
        ),
    )


def initialise_tables(module: nn.Module, seed: int) -> None:
    """Fills tables with uniform numbers in +-1/sqrt(dim), a hash of seed, table, row and column.

    So a row's first value is the same under any sharding, and when the table has grown.
    """
    for name, weight in module.state_dict().items():
        if _TABLES not in name:
            continue
        table = zlib.crc32(name.split(_TABLES)[1].encode())
        for part, first_row in _local_parts(weight):
            _fill(part, seed, table, first_row)


def _local_parts(weight: Any) -> Iterator[tuple[Tensor, int]]:
    """This rank's shards of a table, each with the row that it begins at."""
    if isinstance(weight, ShardedTensor):
        for part in weight.local_shards():
            yield part.tensor, part.metadata.shard_offsets[0]
    else:
        yield weight, 0


@torch.no_grad()
def _fill(part: Tensor, seed: int, table: int, first_row: int) -> None:
    rows, dim = part.shape
    columns = np.arange(dim)
    for start in range(0, rows, _INIT_ROWS):
        end = min(rows, start + _INIT_ROWS)
        index = np.arange(first_row + start, first_row + end)[:, None]
        uniform = hash_uniform(seed, table, index, columns)
        values = torch.from_numpy(((2 * uniform - 1) / np.sqrt(dim)).astype(np.float32))
        part[start:end].copy_(values)
