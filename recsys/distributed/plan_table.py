"""A sharding plan in a few lines: one for each table, and what the fullest rank holds."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torchrec import EmbeddingBagConfig
from torchrec.distributed.types import ShardingPlan
from torchrec.modules.embedding_configs import DATA_TYPE_NUM_BITS

from recsys.config.training import TrainingConfig
from recsys.distributed.optimizers import state_bytes

_MIB = 2**20


@dataclass(frozen=True)
class TablePlan:
    """Placement of a table.

    Attributes:
        feature: Feature of the table, such as `item.genres`.
        rows: Number of rows of the whole table.
        dim: Number of columns.
        precision: Data type, such as fp32.
        type: Sharding type, such as row_wise.
        kernel: Compute kernel, such as fused.
        bytes: Bytes of weights, optimizer state, and the gradient of a replicated table, by rank.
    """

    feature: str
    rows: int
    dim: int
    precision: str
    type: str
    kernel: str
    bytes: dict[int, int]


def table_plans(
    plan: ShardingPlan, configs: Iterable[EmbeddingBagConfig], training: TrainingConfig, ranks: int
) -> list[TablePlan]:
    """Returns the placement of each table of a plan.

    Args:
        plan: Plan of one collection of tables.
        configs: Configurations of its tables.
        training: Training settings; the tables' optimizer and averaging are used.
        ranks: Number of ranks that the plan is for.
    """
    (placed,) = plan.plan.values()
    tables = []
    for config in configs:
        sharding = placed[config.name]
        rows, dim = config.num_embeddings, config.embedding_dim
        shards = [(rank, [rows, dim]) for rank in range(ranks)]
        if sharding.sharding_spec is not None:
            shards = [
                (shard.placement.rank(), shard.shard_sizes)
                for shard in sharding.sharding_spec.shards
            ]
        held: Counter[int] = Counter()
        for rank, size in shards:
            weights = math.prod(size) * DATA_TYPE_NUM_BITS[config.data_type] // 8
            copies = 2 if sharding.sharding_type == "data_parallel" else 1  # And the gradient.
            copies += training.averaging is not None
            held[rank] += copies * weights + state_bytes(size[0], size[1], training)
        tables.append(
            TablePlan(
                feature=config.feature_names[0],
                rows=rows,
                dim=dim,
                precision=config.data_type.name.lower(),
                type=sharding.sharding_type,
                kernel=sharding.compute_kernel,
                bytes=dict(held),
            )
        )
    return tables


def format_plan(tables: Sequence[TablePlan]) -> str:
    """Formats lines in columns; sizes are those of the rank that holds most of the table."""
    cells = [["table", "rows", "dim", "precision", "type", "kernel", "ranks", "MiB a rank"]]
    for table in tables:
        cells.append(
            [
                table.feature,
                f"{table.rows:,}",
                str(table.dim),
                table.precision,
                table.type,
                table.kernel,
                _ranges(sorted(table.bytes)),
                _mib(max(table.bytes.values())),
            ]
        )
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for row in cells:
        shown = [
            cell.rjust(width) if column in (1, 2, 7) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(shown).rstrip())
    held: Counter[int] = Counter()
    for table in tables:
        held.update(table.bytes)
    sizes = held.values() or [0]
    lines.append(
        f"tables and optimizer state: {_mib(sum(sizes))} MiB, at most {_mib(max(sizes))} on a rank"
    )
    return "\n".join(lines) + "\n"


def _mib(size: int) -> str:
    value = size / _MIB
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _ranges(ranks: Sequence[int]) -> str:
    """Formats ranks as in `0-3,7`."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and rank == parts[-1][1] + 1:
            parts[-1][1] = rank
        else:
            parts.append([rank, rank])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
