"""The one place where a model is sharded: precision, plan, DistributedModelParallel and rows."""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    DenseTableBatchedEmbeddingBagsCodegen,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection
from torchrec.distributed.types import ShardingEnv, ShardingPlan

from feature_store.core.errors import UserError
from feature_store.core.hashing import hash_uniform
from recsys.config.sharding import ShardingConfig
from recsys.config.training import TrainingConfig
from recsys.distributed.optimizers import TABLES
from recsys.distributed.plan_table import TablePlan, table_plans
from recsys.distributed.planner import DATA_TYPES, place, table_sharder, topology_of
from recsys.distributed.shards import ShardedTensor
from recsys.model.two_tower import TwoTower

# Rows that are initialised at once, which bounds the memory for it.
_INIT_ROWS = 65_536


def shard(
    module: nn.Module,
    model: TwoTower,
    training: TrainingConfig,
    sharding: ShardingConfig,
    device: torch.device,
    column_parts: int | None = None,
) -> tuple[DistributedModelParallel, list[TablePlan]]:
    """Shards the tables of `module` over the process group and replicates the rest.

    A collective call: rank 0 plans for all.

    Args:
        module: Module that holds `model`, whose tables are on the meta device.
        model: The model.
        training: Training settings; the seed, batch size and the tables' optimizer are used.
        sharding: Sharding of each table.
        device: Device of this rank.
        column_parts: Most parts of a table in column-wise sharding; None: one for each rank.

    Returns:
        The sharded module, and the placement of its tables.

    Raises:
        UserError: A table cannot be sharded as the configuration says, or does not fit.
    """
    set_precision(model, sharding)
    configs = model.tables.embedding_bag_configs()
    plan = _agreed_plan(module, model, training, sharding, device, column_parts)
    sharded = DistributedModelParallel(
        module,
        env=ShardingEnv.from_process_group(dist.group.WORLD),
        device=device,
        plan=plan,
        sharders=[table_sharder(training)],
        # A single rank has nothing to reduce.
        init_data_parallel=dist.get_world_size() > 1,
    )
    _hold_bag_weights_constant(sharded)
    initialise_tables(sharded, training.seed)
    return sharded, table_plans(plan, configs, training, dist.get_world_size())


def _hold_bag_weights_constant(sharded: nn.Module) -> None:
    """Skips the gradient of the weights of bags, which are not learnt.

    FBGEMM computes it by default; on a CPU that takes longer than the rest of a table's backward
    pass.
    """
    kernels = (SplitTableBatchedEmbeddingBagsCodegen, DenseTableBatchedEmbeddingBagsCodegen)
    for tables in sharded.modules():
        if not isinstance(tables, ShardedEmbeddingBagCollection):
            continue
        for module in lookup_modules(tables):
            if isinstance(module, kernels):
                features = len(module.D_offsets) - 1
                learnt = torch.zeros(features, dtype=torch.int32, device=module.D_offsets.device)
                module.register_forward_pre_hook(
                    partial(_with_argument, "feature_requires_grad", learnt), with_kwargs=True
                )


def lookup_modules(tables: ShardedEmbeddingBagCollection) -> Iterator[nn.Module]:
    """Yields the modules that look rows up, FBGEMM's kernels among them.

    A collection keeps them from `modules()`, and has no public way to them; seen in TorchRec 1.8.
    """
    return chain.from_iterable(lookup.modules() for lookup in tables._lookups)


def _with_argument(
    name: str, value: Tensor, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, {**kwargs, name: value}


def set_precision(model: TwoTower, sharding: ShardingConfig) -> None:
    """Gives the tables, which must be on the meta device, the configured data types."""
    configs = model.tables.embedding_bag_configs()
    model.tables = EmbeddingBagCollection(
        tables=[
            replace(config, data_type=DATA_TYPES[sharding.precision_of(config.feature_names[0])])
            for config in configs
        ],
        is_weighted=model.tables.is_weighted(),
        device=torch.device("meta"),
    )


def _agreed_plan(
    module: nn.Module,
    model: TwoTower,
    training: TrainingConfig,
    sharding: ShardingConfig,
    device: torch.device,
    column_parts: int | None,
) -> ShardingPlan:
    """Returns rank 0's plan, or raises its error, on every rank."""
    answer: list[Any] = [None]
    if dist.get_rank() == 0:
        is_cuda = device.type == "cuda"
        memory = torch.cuda.get_device_properties(device).total_memory if is_cuda else None
        topology = topology_of(device.type, dist.get_world_size(), memory)
        configs = model.tables.embedding_bag_configs()
        try:
            placement = place(
                module, configs, training, sharding, topology, column_parts=column_parts
            )
            answer[0] = placement.plan
        except UserError as error:
            answer[0] = error
    dist.broadcast_object_list(answer)
    if isinstance(answer[0], UserError):
        raise answer[0]
    return answer[0]


def initialise_tables(module: nn.Module, seed: int) -> None:
    """Fills tables with uniform numbers in +-1/sqrt(dim), a hash of seed, table, row and column.

    So a row's first values are the same under any sharding, and when the table has grown.
    """
    for name, weight in module.state_dict().items():
        if TABLES not in name:
            continue
        table = zlib.crc32(name.split(TABLES)[1].encode())
        for part, (first_row, first_column) in _local_parts(weight):
            _fill(part, seed, table, weight.size()[1], first_row, first_column)


def _local_parts(weight: Any) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Yields this rank's shards of a table, each with the row and the column that it begins at."""
    if isinstance(weight, ShardedTensor):
        for part in weight.local_shards():
            first_row, first_column = part.metadata.shard_offsets
            yield part.tensor, (first_row, first_column)
    else:
        yield weight, (0, 0)


@torch.no_grad()
def _fill(part: Tensor, seed: int, table: int, dim: int, first_row: int, first_column: int) -> None:
    rows, width = part.shape
    columns = np.arange(first_column, first_column + width)
    for start in range(0, rows, _INIT_ROWS):
        end = min(rows, start + _INIT_ROWS)
        index = np.arange(first_row + start, first_row + end)[:, None]
        uniform = hash_uniform(seed, table, index, columns)
        values = torch.from_numpy(((2 * uniform - 1) / np.sqrt(dim)).astype(np.float32))
        part[start:end].copy_(values)
