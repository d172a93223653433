"""Placement of tables: a rule, the configuration's exceptions, and TorchRec's planner."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.distributed.planner.shard_estimators import (
    EmbeddingPerfEstimator,
    EmbeddingStorageEstimator,
)
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    ParameterConstraints,
    PlannerError,
    Shard,
    ShardingOption,
    Stats,
    Storage,
)
from torchrec.distributed.types import (
    ParameterSharding,
    ShardingEnv,
    ShardingPlan,
    ShardingType,
)
from torchrec.modules.embedding_configs import DataType

from feature_store.core.errors import UserError
from recsys.config.sharding import ShardingConfig, TableSharding
from recsys.config.training import TrainingConfig
from recsys.distributed.local_tables import LocalTables
from recsys.distributed.optimizers import fused_settings, state_bytes

DATA_TYPES = {"fp32": DataType.FP32, "fp16": DataType.FP16, "bf16": DataType.BF16}
# The others keep parts of a table on the ranks of one machine, for which there is no gloo code.
_CPU_TYPES = ("data_parallel", "table_wise", "row_wise", "column_wise")
_GIB = 2**30
# Fraction of a GPU's memory for what else runs there.
_RESERVED = 0.15
# Columns of a part of a fused table are a multiple of it.
_ALIGNMENT = 4


class TableSharder(EmbeddingBagCollectionSharder):
    """Offers row-wise sharding on CPU too: it works over gloo, but stock sharders leave it out."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        """Returns all types that the configuration can ask for."""
        if compute_device_type == "cpu":
            return list(_CPU_TYPES)
        return [kind.value for kind in ShardingType]

    def shard(
        self,
        module: EmbeddingBagCollection,
        params: dict[str, ParameterSharding],
        env: ShardingEnv,
        device: torch.device | None = None,
        module_fqn: str | None = None,
    ) -> LocalTables:
        """Returns the sharded tables; `DistributedModelParallel` calls it."""
        return LocalTables(
            module=module,
            table_name_to_parameter_sharding=params,
            env=env,
            fused_params=self.fused_params,
            device=device,
            module_fqn=module_fqn,
        )


def table_sharder(training: TrainingConfig) -> TableSharder:
    """Returns a sharder with the configured optimizer."""
    return TableSharder(fused_params=fused_settings(training))


@dataclass(frozen=True)
class Load:
    """Lookups of one step on one rank.

    Attributes:
        rows: Number of rows of the stacked batch.
        values: Average number of values in a row, by feature.
    """

    rows: int
    values: dict[str, float]


@dataclass(frozen=True)
class Placement:
    """A plan, and the planner's estimates of it.

    Attributes:
        plan: Plan for `DistributedModelParallel`.
        options: Chosen kind and shards of each table.
        topology: The hardware.
    """

    plan: ShardingPlan
    options: list[ShardingOption]
    topology: Topology


def place(
    module: nn.Module,
    configs: Sequence[EmbeddingBagConfig],
    training: TrainingConfig,
    sharding: ShardingConfig,
    topology: Topology,
    load: Load | None = None,
    column_parts: int | None = None,
) -> Placement:
    """Plans without a process group.

    Args:
        module: Module that holds the tables, which may be on the meta device.
        configs: Configurations of the tables.
        training: Training settings; the optimizer and the batch size are used.
        sharding: The rule and its exceptions.
        topology: The hardware.
        load: Lookups of a step; None: one value of each feature for each row.
        column_parts: Most parts of a table in column-wise sharding; None: one for each rank.

    Raises:
        UserError: A table cannot be sharded as the configuration says, or does not fit.
    """
    parts = column_parts or topology.world_size
    constraints = {
        config.name: _constraints(config, training, sharding, topology, load, parts)
        for config in configs
    }
    rows = load.rows if load is not None else training.batch_size // topology.world_size
    sharder = table_sharder(training)
    estimators = [
        EmbeddingPerfEstimator(topology, constraints),
        _StorageEstimator(topology, constraints, training),
    ]
    enumerator = EmbeddingEnumerator(topology, rows, constraints, estimators)
    chosen, reservation = _Chosen(), FixedPercentageStorageReservation(_RESERVED)
    planner = EmbeddingShardingPlanner(
        topology, rows, enumerator, reservation, constraints=constraints, stats=[chosen]
    )
    try:
        with _quiet():
            plan = planner.plan(module, [sharder])
    except PlannerError as error:
        free = reservation.last_reserved_topology or topology
        options = enumerator.enumerate(module, [sharder])
        names = {config.name: config.feature_names[0] for config in configs}
        raise UserError(_misfit(options, free, names)) from error
    return Placement(plan, chosen.options, topology)


def topology_of(device: str, world_size: int, memory: int | None = None) -> Topology:
    """Returns the hardware of the ranks that run now, all alike.

    Args:
        device: Device of the tables, cpu or cuda.
        world_size: Number of ranks.
        memory: Bytes of each rank's GPU; on a CPU the ranks of a machine share its memory.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // local
    return Topology(
        world_size=world_size,
        local_world_size=local,
        compute_device=device,
        hbm_cap=memory if device == "cuda" else 0,
        ddr_cap=machine,
    )


class _StorageEstimator(EmbeddingStorageEstimator):
    """Counts what TorchRec does not: optimizers' state, averages, replicated tables' gradients."""

    def __init__(
        self,
        topology: Topology,
        constraints: dict[str, ParameterConstraints],
        training: TrainingConfig,
    ) -> None:
        super().__init__(topology, constraints)
        self._training = training

    def estimate(self, sharding_options: list[ShardingOption], *args: Any, **kwargs: Any) -> None:
        """Estimates the storage of options; the planner calls it."""
        super().estimate(sharding_options, *args, **kwargs)
        for option in sharding_options:
            for shard in option.shards:
                assert shard.storage is not None
                rows, columns = shard.size
                state = state_bytes(rows, columns, self._training)
                weights = rows * columns * option.tensor.element_size()
                if option.sharding_type == ShardingType.DATA_PARALLEL.value:
                    state += weights  # The gradient.
                if self._training.averaging is not None:
                    state += weights  # The average.
                # All of it lies with most of the table.
                is_in_gpu = shard.storage.hbm > shard.storage.ddr
                shard.storage += Storage(state, 0) if is_in_gpu else Storage(0, state)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences a warning by the root logger that a replicated table is in no parts."""

    def is_news(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Sharding spec not found")

    logging.getLogger().addFilter(is_news)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(is_news)


class _Chosen(Stats):
    """Keeps the planner's options, which a plan leaves out."""

    options: list[ShardingOption]

    def log(self, *args: object, best_plan: list[ShardingOption], **kwargs: object) -> None:
        """Takes the best plan; the planner calls it."""
        self.options = best_plan


def _constraints(
    config: EmbeddingBagConfig,
    training: TrainingConfig,
    sharding: ShardingConfig,
    topology: Topology,
    load: Load | None,
    column_parts: int,
) -> ParameterConstraints:
    feature, device = config.feature_names[0], topology.compute_device
    kind = _sharding_type(config, training, sharding, topology)
    wanted = sharding.table(feature)
    kernel = EmbeddingComputeKernel(wanted.kernel or "fused")
    if kind == "data_parallel":
        kernel = EmbeddingComputeKernel.DENSE
    _check_device(feature, kind, wanted, sharding, device)
    return ParameterConstraints(
        sharding_types=[kind],
        compute_kernels=[kernel.value],
        min_partition=part_columns(config.embedding_dim, column_parts),
        pooling_factors=[load.values[f] if load is not None else 1.0 for f in config.feature_names],
        is_weighted=True,
    )


def _sharding_type(
    config: EmbeddingBagConfig,
    training: TrainingConfig,
    sharding: ShardingConfig,
    topology: Topology,
) -> str:
    feature, device = config.feature_names[0], topology.compute_device
    wanted = sharding.table(feature).type
    # Only fbgemm's fused kernels of a GPU have Adam.
    is_replicated = training.sparse_optimizer == "adam" and device == "cpu"
    if is_replicated and wanted not in (None, "data_parallel"):
        raise UserError(
            f"sharding.tables.{feature}: training.sparse_optimizer adam works on a CPU with type "
            f"data_parallel alone, got {wanted}; remove it, or use rowwise_adagrad or sgd."
        )
    if is_replicated:
        return "data_parallel"
    # A single rank has every table whole, and looks all of one type up at once.
    is_large = topology.world_size > 1 and config.num_embeddings >= sharding.row_wise_from
    return wanted or ("row_wise" if is_large else "table_wise")


def _check_device(
    feature: str, kind: str, wanted: TableSharding, sharding: ShardingConfig, device: str
) -> None:
    if device != "cpu":
        return
    if kind not in _CPU_TYPES:
        raise UserError(
            f"sharding.tables.{feature}: type {kind} needs GPUs; on a CPU use one of: "
            f"{', '.join(_CPU_TYPES)}."
        )
    if wanted.kernel not in (None, "fused"):
        raise UserError(
            f"sharding.tables.{feature}: kernel {wanted.kernel} needs a GPU; remove it."
        )
    if sharding.precision_of(feature) == "bf16":
        raise UserError(
            f"the table of {feature} cannot be bf16 on a CPU, whose kernels know fp32 and fp16; "
            "set sharding.precision, or that of the table, to one of them."
        )


def part_columns(dim: int, parts: int) -> int:
    """Returns the width of equal parts of a table: as many as can be, and at most `parts`."""
    fits = [n for n in range(_ALIGNMENT, dim, _ALIGNMENT) if dim % n == 0 and dim // n <= parts]
    return min(fits, default=dim)


def _misfit(options: Sequence[ShardingOption], free: Topology, names: Mapping[str, str]) -> str:
    """Describes which table does not fit, and by how much."""
    kind = "hbm" if free.compute_device == "cuda" else "ddr"
    room = min(getattr(device.storage, kind) for device in free.devices)

    def largest(option: ShardingOption) -> int:
        return max(_bytes(shard, kind) for shard in option.shards)

    worst = max(options, key=largest)
    name = names[worst.name]
    if largest(worst) > room:
        return (
            f"the table of {name} ({worst.tensor.shape[0]:,} rows of {worst.tensor.shape[1]}, "
            f"{worst.sharding_type}) needs {largest(worst) / _GIB:,.1f} GiB on one rank, which is "
            f"{(largest(worst) - room) / _GIB:,.1f} GiB more than the {room / _GIB:,.1f} GiB that "
            "are free; use more ranks, more memory, another sharding.tables type or precision."
        )
    total = sum(_bytes(shard, kind) for option in options for shard in option.shards)
    rooms = sum(getattr(device.storage, kind) for device in free.devices)
    return (
        f"the tables need {total / _GIB:,.1f} GiB over all ranks, of which {rooms / _GIB:,.1f} GiB "
        f"are free, and {name} is the largest; use more ranks, more memory, or a lower "
        "sharding.precision."
    )


def _bytes(shard: Shard, kind: str) -> int:
    return getattr(shard.storage, kind) if shard.storage is not None else 0
