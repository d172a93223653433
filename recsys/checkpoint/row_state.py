"""Row-wise state of optimizers, which column-wise sharding keeps for each part of the columns."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from recsys.distributed.optimizers import TABLES
from recsys.distributed.shards import ShardedTensor

State = dict[str, Any]
# Metadata of the saved tensors (`TensorStorageMetadata`), by name.
Saved = Mapping[str, Any]

# Prefixes of the names of tensors in a checkpoint; see `recsys.checkpoint.state`.
MODEL, OPTIMIZER = "model.", "optimizer."


@dataclass(frozen=True)
class RowState:
    """Row-wise state of a table whose columns are split otherwise than in the checkpoint.

    The state is [parts x rows], one part after the other: the mean square of the gradient over the
    part's columns. So the mean over the parts is exactly the number of the whole row. In the other
    direction each part gets the whole row's number, which is right for the row and not for each
    part.

    Attributes:
        name: Name in the checkpoint.
        value: Tensor to fill.
        before: First column and width of each part, in the checkpoint.
        after: First column and width of each part, now.
        rows_before: Rows of the table in the checkpoint.
        rows_after: Rows of the table now.
    """

    name: str
    value: Tensor
    before: list[tuple[int, int]]
    after: list[tuple[int, int]]
    rows_before: int
    rows_after: int

    @torch.no_grad()
    def fill(self, saved: Tensor) -> None:
        """Fills this rank's shards; rows that the checkpoint does not have stay as they are.

        Args:
            saved: [parts before x rows before] state in the checkpoint.
        """
        parts = saved.view(len(self.before), self.rows_before)
        for local, offset in shards_of(self.value):
            part, first = divmod(offset, self.rows_after)
            last = min(first + len(local), self.rows_before)
            overlaps = torch.tensor([_overlap(old, self.after[part]) for old in self.before])
            values = (overlaps / overlaps.sum()) @ parts[:, first:last]
            local.view(-1)[: len(values)].copy_(values)


def row_state(name: str, state: State, saved: Saved) -> RowState | None:
    """Returns the state of a name that must be converted; None where it is read as it is."""
    parameter, _, _ = name.removeprefix(OPTIMIZER).rpartition(".")
    weight = f"{MODEL}{parameter}"
    if not name.startswith(OPTIMIZER) or TABLES not in name or name not in saved:
        return None
    rows_before, rows_after = saved[weight].size[0], state[weight].size()[0]
    before, after = _parts_of_chunks(saved[weight]), _parts(state[weight])
    is_row_wise = math.prod(saved[name].size) == len(before) * rows_before
    is_other = before != after or (len(after) > 1 and rows_before != rows_after)
    if not (is_row_wise and is_other):
        return None
    return RowState(name, state[name], before, after, rows_before, rows_after)


def _overlap(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Returns the number of columns that two parts have in common."""
    end = min(first[0] + first[1], second[0] + second[1])
    return float(max(0, end - max(first[0], second[0])))


def _parts_of_chunks(entry: TensorStorageMetadata) -> list[tuple[int, int]]:
    return sorted({(chunk.offsets[1], chunk.sizes[1]) for chunk in entry.chunks})


def _parts(weight: Tensor) -> list[tuple[int, int]]:
    if not isinstance(weight, ShardedTensor):
        return [(0, weight.shape[1])]
    shards = weight.metadata().shards_metadata
    return sorted({(shard.shard_offsets[1], shard.shard_sizes[1]) for shard in shards})


def shards_of(value: Tensor) -> list[tuple[Tensor, int]]:
    """Returns this rank's parts of a table or of its state, each with its first row."""
    if not isinstance(value, ShardedTensor):
        return [(value, 0)]
    return [(shard.tensor, shard.metadata.shard_offsets[0]) for shard in value.local_shards()]
