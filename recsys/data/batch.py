"""One training step's input for one rank."""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from recsys.data.builder import Arrays


@dataclass
class Batch(Pipelineable):
    """Stacked rows, so that one sparse forward looks everything up.

    All ranks have as many rows. Where a global batch cannot be shared out equally, the last ranks
    have rows of padding: item -1, no query, and weight 0; they are hits of every row.

                   candidates K                 views V x S   history U
        item.f     positives B, negatives N     item          distinct items of all histories
        query.f    queries B, -                 -             -
        context.f  queries B, -                 -             -

    The candidates may be a share of the corpus instead, which holds the positives.

    Attributes:
        sparse: Keys `item.<feature>`, `query.<feature>` and `context.<feature>`, stride K + VS + U;
            the weights of a bag sum to 1. An empty bag is an absent or masked value.
        item_dense: [rows, width] float32, the dense item features side by side.
        item_dense_present: [rows, dense item features] bool.
        query_dense: [B, width] float32.
        query_dense_present: [B, dense query features] bool.
        context_dense: [B, width] float32.
        context_dense_present: [B, dense context features] bool.
        history: [total] int64, history items as rows of the history block.
        history_offsets: [histories + 1] int64; of an example each, or of several.
        read: [B] int64, the latest element of the histories that the example sees, -1 for none; see
            `recsys.history_encoders`.
        items: [B] int64, the positives' indices.
        weight: [B] float32; where there is padding, the others are scaled up to make up for it.
        candidates: [K] int64, indices of the items that this rank encodes; see `recsys.negatives`.
        log_q: [K] float32, log-probability that a training example's item is this one.
        uniform: [2] float32, which share of all ranks' candidates was drawn uniformly, and how
            probable each item is in such a draw.
        targets: [B] int64, the column of the example's own item among all ranks' candidates.
        hits: [n, 2] int64: example, and column of a candidate that is no negative of it, or that
            is padding; never the target.
        known: [n, 2] int64: example, and item that is no negative of it in the memory.
        view_items: [V, S] int64, the items of self-supervision, alike in every view; -1 is padding.
        view_hidden: [V, item features] bool, the features that each view hides.
        view_key: [1] int64, key of the random numbers of self-supervision in this step.
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
    read: Tensor
    items: Tensor
    weight: Tensor
    candidates: Tensor
    log_q: Tensor
    uniform: Tensor
    targets: Tensor
    hits: Tensor
    known: Tensor
    view_items: Tensor
    view_hidden: Tensor
    view_key: Tensor

    @property
    def num_examples(self) -> int:
        """B."""
        return len(self.read)

    @property
    def num_candidates(self) -> int:
        """K."""
        return len(self.candidates)

    @property
    def num_view_rows(self) -> int:
        """V x S."""
        return self.view_items.numel()

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
        rows = len(arrays["candidates"]) + arrays["view_items"].size + history_rows
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
    others = len(arrays["candidates"]) + arrays["view_items"].size
    return max(1, len(arrays["item_dense"]) - others)
