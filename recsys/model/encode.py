"""Vectors of all items and of queries, by one process or by all ranks together."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from feature_store.core.columns import Column, Ints, Jagged
from recsys.data.batch import agreed_batch
from recsys.data.builder import BatchBuilder
from recsys.data.host_batch import HostBatch
from recsys.losses.softmax import gather
from recsys.model.two_tower import Encoded, TwoTower

Floats = npt.NDArray[np.float32]

# Number of rows of one forward pass on one rank.
_BLOCK = 1024


def encode_items(
    model: TwoTower, builder: BatchBuilder, device: torch.device, items: Ints | None = None
) -> Floats:
    """Computes the L2-normalised vectors of items, [items, dim].

    A collective call where there is a process group; ranks other than 0 get an empty matrix.

    Args:
        model: The towers.
        builder: Builder of batches.
        device: Device of the model.
        items: [items] indices; None: the whole catalogue.
    """
    chosen = np.arange(builder.num_items) if items is None else items

    def build(rows: Ints) -> HostBatch:
        return builder.items(chosen[rows])

    return _encode(model, len(chosen), build, lambda encoded: encoded.items, builder, device)


def encode_queries(
    model: TwoTower,
    builder: BatchBuilder,
    queries: Ints,
    history: Jagged,
    context: Mapping[str, Column],
    device: torch.device,
) -> Floats:
    """Computes the L2-normalised vectors of queries, [queries, dim].

    A collective call where there is a process group; ranks other than 0 get an empty matrix.

    Args:
        model: The towers.
        builder: Builder of batches.
        queries: [queries] indices.
        history: [queries] items, oldest first.
        context: [queries] context of each, by feature name.
        device: Device of the model.
    """

    def build(rows: Ints) -> HostBatch:
        of_rows = {name: column.take(rows) for name, column in context.items()}
        return builder.queries(queries[rows], history.take(rows), of_rows)

    return _encode(model, len(queries), build, lambda encoded: encoded.queries, builder, device)


def _encode(
    model: TwoTower,
    total: int,
    build: Callable[[Ints], HostBatch],
    select: Callable[[Encoded], Tensor],
    builder: BatchBuilder,
    device: torch.device,
) -> Floats:
    """Encodes blocks, one rank after the other; the last one wraps around to row 0, to be full."""
    is_group = dist.is_initialized()
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if is_group else (0, 1)
    block = min(_BLOCK, -(-total // world_size))
    vectors = np.empty((total if rank == 0 else 0, model.dim), np.float32)
    with evaluation_mode(model), torch.no_grad():
        for start in range(0, total, max(1, block * world_size)):
            rows = (start + rank * block + np.arange(block)) % total
            batch = agreed_batch(build(rows), builder.keys(), device)
            encoded = gather(select(model(batch))).cpu().numpy()
            if rank == 0:
                vectors[start : start + len(encoded)] = encoded[: total - start]
    return vectors


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switches dropout and all else that only training does off."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
