"""One training step's input for one rank."""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from recsys.collate import Arrays


@dataclass
class Batch(Pipelineable):
    """Stacked rows, so that one sparse forward looks everything up.

    All ranks have as many rows. Where a global batch cannot be shared out equally, the last ranks
    have rows of padding: item -1, no query, and weight 0; they are hits of every row.

                   examples B   view A S   view B S   history U
        item.f     positive     item       item       distinct items of all histories
        query.f    query        -          -          -
        context.f  query        -          -          -

    Attributes:
        sparse: Keys `item.<feature>`, `query.<feature>` and `context.<feature>`, stride B + 2S + U;
            the weights of a bag sum to 1. An empty bag is an absent or masked value.
        item_dense: [rows, width] float32, the dense item features side by side.
        item_dense_present: [rows, dense item features] bool.
        query_dense: [B, width] float32.
        query_dense_present: [B, dense query features] bool.
        context_dense: [B, width] float32.
        context_dense_present: [B, dense context features] bool.
        history: [total] int64, history items as rows of the history block.
        history_offsets: [B + 1] int64.
        items: [B] int64, the positives' indices.
        log_q: [B] float32, log-probability that a training example's item is this one.
        weight: [B] float32; where there is padding, the others are scaled up to make up for it.
        hits: [n, 2] int64: example, and column among the global batch's examples, of the pairs that
            are positives in training, or padding, but are not this example's own target.
        view_items: [S] int64; -1 is padding.
    """

    sparse: KeyedJaggedTensor
    item_dense: Tensor
    item_dense_present: Tensor
    query_dense: Tensor
    query_dense_present: Tensor
    context_dense: Tensor
    context_dense_present: Tensor
    history: Tensor
    history_offsets: Tensor
    items: Tensor
    log_q: Tensor
    weight: Tensor
    hits: Tensor
    view_items: Tensor

    @property
    def num_examples(self) -> int:
        """B."""
        return len(self.history_offsets) - 1

    @property
    def num_views(self) -> int:
        """S."""
        return len(self.view_items)

    @classmethod
    def from_arrays(cls, arrays: Arrays, keys: list[str], history_rows: int) -> "Batch":
        """From what `BatchBuilder` made.

        Args:
            arrays: By name of the attribute; `values`, `weights` and `lengths` [keys, rows] instead
                of `sparse`.
            keys: Of the sparse features.
            history_rows: U, padded with empty rows: ranks must agree on it, for gloo's collectives
                need equal shapes.
        """
        examples = len(arrays["history_offsets"]) - 1
        rows = examples + 2 * len(arrays["view_items"]) + history_rows
        padding = rows - len(arrays["item_dense"])
        lengths = np.pad(arrays["lengths"].reshape(len(keys), -1), ((0, 0), (0, padding)))
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()
        }
        sparse = KeyedJaggedTensor(
            keys=keys,
            values=tensors.pop("values"),
            weights=tensors.pop("weights"),
            lengths=torch.from_numpy(np.ascontiguousarray(lengths.reshape(-1))),
            stride=rows,
        )
        del tensors["lengths"]
        for name in ("item_dense", "item_dense_present"):
            tensors[name] = torch.nn.functional.pad(tensors[name], (0, 0, 0, padding))
        return cls(sparse=sparse, **tensors)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """A copy on the device."""
        moved = {
            field.name: getattr(self, field.name).to(device, non_blocking=non_blocking)
            for field in fields(self)
        }
        return replace(self, **moved)

    def record_stream(self, stream: torch.Stream) -> None:
        """Keeps the memory until the stream is done with it."""
        for field in fields(self):
            getattr(self, field.name).record_stream(stream)

    def pin_memory(self) -> "Batch":
        """A copy in page-locked memory, from which the device can copy by itself."""
        return replace(
            self, **{field.name: getattr(self, field.name).pin_memory() for field in fields(self)}
        )


def agreed_batch(arrays: Arrays, keys: list[str], device: torch.device) -> Batch:
    """A batch as large as that of every other rank, on the device; a collective call."""
    rows = torch.tensor(history_rows(arrays), device=device)
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(rows, op=dist.ReduceOp.MAX)
    return Batch.from_arrays(arrays, keys, int(rows)).to(device)


def history_rows(arrays: Arrays) -> int:
    """U of one rank, before ranks agree on the largest.

    At least 1, so that there is a row to read where every history is empty.
    """
    examples = len(arrays["history_offsets"]) - 1
    return max(1, len(arrays["item_dense"]) - examples - 2 * len(arrays["view_items"]))
