"""One training step's input for one rank, on its device."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from recsys.data.host_batch import HostBatch


@dataclass
class Batch(Pipelineable):
    """`HostBatch` as tensors, with the bags of all sparse features in one `KeyedJaggedTensor`.

                   candidates K                 views V x S     history U
        item.f     positives B, negatives N     item            distinct items of all histories
        query.f    queries B, -                 -               -
        context.f  queries B, -                 -               -

    Attributes:
        sparse: Keys `item.<feature>`, `query.<feature>` and `context.<feature>`, stride K + VS + U.

    The other attributes are those of `HostBatch`.
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
    accidental_hits: Tensor
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
    def from_host(cls, host: HostBatch, keys: Sequence[str], history_rows: int) -> "Batch":
        """Wraps the arrays in tensors, without a copy where none is needed.

        Args:
            host: Arrays that `BatchBuilder` made.
            keys: Names of the sparse features, in the order of the arrays.
            history_rows: U, padded with empty rows: ranks must agree on it, because gloo's
                collectives need equal shapes.
        """
        rows = len(host.candidates) + host.view_items.size + history_rows
        padding = rows - host.num_rows
        tensors = {
            field.name: torch.from_numpy(np.ascontiguousarray(getattr(host, field.name)))
            for field in fields(host)
        }
        sparse = KeyedJaggedTensor(
            keys=list(keys),
            values=tensors.pop("values"),
            weights=tensors.pop("weights"),
            lengths=F.pad(tensors.pop("lengths"), (0, padding)).view(-1),
            stride=rows,
        )
        for name in ("item_dense", "item_dense_present"):
            tensors[name] = F.pad(tensors[name], (0, 0, 0, padding))
        return cls(sparse=sparse, **tensors)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Returns a copy on the device."""
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
        """Returns a copy in page-locked memory, from which the device can copy by itself."""
        return replace(
            self, **{field.name: getattr(self, field.name).pin_memory() for field in fields(self)}
        )


def agreed_batch(host: HostBatch, keys: Sequence[str], device: torch.device) -> Batch:
    """Returns a batch as large as that of every other rank, on the device; a collective call."""
    rows = torch.tensor(host.history_rows, device=device)
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(rows, op=dist.ReduceOp.MAX)
    return Batch.from_host(host, keys, int(rows)).to(device)
