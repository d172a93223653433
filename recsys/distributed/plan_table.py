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
    """Where a table is.

    Attributes:
        feature: Such as `item.genres`.
        rows: Of the whole table.
        dim: Its columns.
        precision: Such as FP32.
        type: Such as row_wise.
        kernel: Such as fused.
        bytes: By rank: of weights, optimizer state, and the gradient of a replicated table.
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
    """What a plan does with each table.

    Args:
        plan: Of one collection of tables.
        configs: Of its tables.
        training: The tables' optimizer.
        ranks: Over which the plan is.
    """
    (placed,) = plan.plan.values()
    found = []
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
            held[rank] += copies * weights + state_bytes(size[0], size[1], training)
        found.append(
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
    return found


def format_plan(tables: Sequence[TablePlan]) -> str:
    """Lines in columns; sizes are of the rank that holds most of the table."""
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
    """Such as `0-3, 7`."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and rank == parts[-1][1] + 1:
            parts[-1][1] = rank
        else:
            parts.append([rank, rank])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
