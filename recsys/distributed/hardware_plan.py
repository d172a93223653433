"""The sharding plan for hardware that is not there: placement, memory and time of each rank."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from torchrec.distributed.planner import Topology

from feature_store.core.errors import UserError
from pipelines.prepared.reader import Prepared
from pipelines.process import quiet_engines
from recsys.config.config import Config
from recsys.config.load import parse_assignment
from recsys.data.builder import BatchBuilder
from recsys.data.plan import plan_training
from recsys.data.reader import read_steps
from recsys.distributed.plan_table import TablePlan, format_plan, table_plans
from recsys.distributed.planner import Load, Placement, place
from recsys.distributed.sharding import set_precision
from recsys.model.two_tower import TwoTower, build_model

_GIB, _MIB = 2**30, 2**20
_RANKS_OF_MACHINE = 8
# Bytes for a dense parameter, its gradient and two moments; float32 each.
_DENSE_BYTES = 16


@dataclass(frozen=True)
class Hardware:
    """Machines, all alike.

    Attributes:
        world_size: Number of ranks: GPUs, or processes of a CPU.
        local_world_size: Number of ranks on one machine.
        device: Device of the tables.
        hbm_gib: Memory of a GPU.
        ddr_gib: Memory of the machine for each of its ranks.
    """

    world_size: int
    local_world_size: int
    device: Literal["cpu", "cuda"]
    hbm_gib: float
    ddr_gib: float

    @classmethod
    def of(
        cls,
        world_size: int,
        local_world_size: int | None,
        device: str,
        hbm_gib: float,
        ddr_gib: float,
    ) -> "Hardware":
        """Checks what a user asks for; without a local size, machines have up to 8 ranks.

        Raises:
            UserError: The device is unknown, or machines would have different numbers of ranks.
        """
        local = local_world_size or min(_RANKS_OF_MACHINE, world_size)
        if device not in ("cpu", "cuda"):
            raise UserError(f"--device {device}: expected cpu or cuda.")
        if world_size % local:
            raise UserError(
                f"--world-size {world_size} is not a multiple of {local} ranks on a machine; set "
                "--local-world-size."
            )
        return cls(world_size, local, device, hbm_gib, ddr_gib)  # type: ignore[arg-type]


@dataclass(frozen=True)
class RankPlan:
    """One rank's memory and time.

    Attributes:
        rank: Number of the rank, from 0.
        table_bytes: Bytes of tables and their optimizer's state.
        lookup_bytes: Bytes of the inputs and outputs of lookups, by TorchRec's estimate.
        gpu_bytes: Bytes of all these in the GPU's memory.
        machine_bytes: Bytes of all these in the machine's memory.
        milliseconds: Time of a step's lookups, their updates and exchange, one after the other.
    """

    rank: int
    table_bytes: int
    lookup_bytes: int
    gpu_bytes: int
    machine_bytes: int
    milliseconds: float


@dataclass(frozen=True)
class HardwarePlan:
    """A plan that fits.

    Attributes:
        hardware: Hardware that was asked for.
        rows: Number of rows of the stacked batch on each rank.
        tables: Placement of each table.
        ranks: Memory and time of each rank.
        dense_bytes: Bytes of the towers on every rank, with gradients and moments.
    """

    hardware: Hardware
    rows: int
    tables: list[TablePlan]
    ranks: list[RankPlan]
    dense_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Returns nested dictionaries."""
        return asdict(self)


def plan_hardware(
    config: Config, hardware: Hardware, rows: Mapping[str, int] | None = None
) -> HardwarePlan:
    """Plans a training without its hardware, on tables that take no memory.

    The load of a step is that of the first batch of the prepared data, at `training.batch_size`
    examples over all ranks. Times are TorchRec's estimates for its default machine (see
    `torchrec.distributed.planner.constants`): to compare plans, not to predict a clock.

    Args:
        config: Configuration; its prepared data must exist.
        hardware: Hardware to plan for.
        rows: Number of rows of a table instead of today's, by feature such as `item.item_id`.

    Raises:
        UserError: A feature in `rows` has no table, or the tables do not fit.
    """
    quiet_engines()
    prepared = Prepared(config.prepared_dir)
    if config.training.batch_size < hardware.world_size:
        raise UserError(
            f"training.batch_size {config.training.batch_size} is less than one example for each "
            f"of {hardware.world_size} ranks; raise it."
        )
    model = build_model(prepared, config.model, torch.device("meta"))
    set_precision(model, config.sharding)
    configs = _with_rows(model.tables.embedding_bag_configs(), rows or {})
    tables = EmbeddingBagCollection(
        tables=configs, is_weighted=model.tables.is_weighted(), device=torch.device("meta")
    )
    load = _load(prepared, config, hardware.world_size)
    module = nn.ModuleDict({"tables": tables})
    topology = _topology(hardware)
    placement = place(module, configs, config.training, config.sharding, topology, load)
    plans = table_plans(placement.plan, configs, config.training, hardware.world_size)
    return HardwarePlan(
        hardware=hardware,
        rows=load.rows,
        tables=plans,
        ranks=_ranks(placement, plans, hardware),
        dense_bytes=_DENSE_BYTES * _dense_parameters(model),
    )


def format_hardware_plan(plan: HardwarePlan) -> str:
    """Formats the tables, then the extremes of the ranks."""
    hardware = plan.hardware
    fullest, emptiest = max(plan.ranks, key=_held), min(plan.ranks, key=_held)
    slowest = max(plan.ranks, key=lambda rank: rank.milliseconds)
    mean = sum(rank.milliseconds for rank in plan.ranks) / len(plan.ranks)
    is_cuda = hardware.device == "cuda"
    gpu = max(rank.gpu_bytes for rank in plan.ranks) + (plan.dense_bytes if is_cuda else 0)
    machine = max(rank.machine_bytes for rank in plan.ranks) + (0 if is_cuda else plan.dense_bytes)
    memory = [_used(machine, hardware.ddr_gib, "machine")]
    if is_cuda:
        memory.insert(0, _used(gpu, hardware.hbm_gib, "GPU"))

    def line(name: str, rank: RankPlan) -> str:
        return (
            f"{name} rank {rank.rank}: {rank.table_bytes / _GIB:,.2f} GiB of tables and optimizer "
            f"state, {rank.lookup_bytes / _MIB:,.1f} MiB of lookups"
        )

    return "\n".join(
        [
            f"{hardware.world_size} ranks of {hardware.device}, {hardware.local_world_size} on a "
            f"machine, {plan.rows:,} rows a step on each",
            format_plan(plan.tables).rstrip(),
            line("fullest", fullest),
            line("emptiest", emptiest),
            f"towers on every rank, with gradients and moments: {plan.dense_bytes / _MIB:,.1f} MiB",
            f"at most, of a rank: {', '.join(memory)}",
            f"tables' part of a step, estimated: {mean:.2f} ms on average, "
            f"{slowest.milliseconds:.2f} ms on the slowest rank ({slowest.rank})",
        ]
    )


def _used(used: int, capacity: float, name: str) -> str:
    return f"{used / _GIB:,.2f} of {capacity:,.1f} GiB of the {name}"


def _held(rank: RankPlan) -> int:
    return rank.gpu_bytes + rank.machine_bytes


def parse_rows(options: Sequence[str]) -> dict[str, int]:
    """Parses options such as `item.item_id=2000000000`.

    Raises:
        UserError: One of them is not of this form.
    """
    rows = {}
    for option in options:
        name, value = parse_assignment("--rows", option, "feature=rows")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"--rows {option!r}: expected a whole number of rows.")
        rows[name] = value
    return rows


def _with_rows(
    configs: Sequence[EmbeddingBagConfig], rows: Mapping[str, int]
) -> list[EmbeddingBagConfig]:
    names = [config.feature_names[0] for config in configs]
    for name in rows:
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0.0)
            hint = f"; the nearest is {near[0]}" if near else ""
            raise UserError(f"--rows {name}: no feature with a table has this name{hint}.")
    return [
        replace(config, num_embeddings=rows.get(config.feature_names[0], config.num_embeddings))
        for config in configs
    ]


def _load(prepared: Prepared, config: Config, world_size: int) -> Load:
    """Measures the first batch on rank 0."""
    training = config.training
    plan = plan_training(
        prepared.examples("train"),
        batch_size=training.batch_size,
        workers=training.workers,
        epochs=1,
        seed=training.seed,
    )
    builder = BatchBuilder(prepared, config)
    local = next(read_steps(plan, 0, 1, 0, world_size))
    host = builder.training(local, 0, world_size)
    values = host.lengths.mean(axis=1) if host.num_rows else host.lengths.sum(axis=1)
    return Load(host.num_rows, dict(zip(builder.keys(), values.tolist(), strict=True)))


def _topology(hardware: Hardware) -> Topology:
    return Topology(
        world_size=hardware.world_size,
        local_world_size=hardware.local_world_size,
        compute_device=hardware.device,
        hbm_cap=int(hardware.hbm_gib * _GIB) if hardware.device == "cuda" else 0,
        ddr_cap=int(hardware.ddr_gib * _GIB),
    )


def _ranks(placement: Placement, tables: Sequence[TablePlan], hardware: Hardware) -> list[RankPlan]:
    ranks = []
    for rank in range(hardware.world_size):
        shards = [
            shard for option in placement.options for shard in option.shards if shard.rank == rank
        ]
        held = sum(table.bytes.get(rank, 0) for table in tables)
        gpu = sum(shard.storage.hbm for shard in shards if shard.storage is not None)
        machine = sum(shard.storage.ddr for shard in shards if shard.storage is not None)
        time = sum(shard.perf.total for shard in shards if shard.perf is not None)
        ranks.append(RankPlan(rank, held, max(0, gpu + machine - held), gpu, machine, time))
    return ranks


def _dense_parameters(model: TwoTower) -> int:
    tables = {id(parameter) for parameter in model.tables.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in tables)
