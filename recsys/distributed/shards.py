"""Sharded tables: the one place that reaches into torch's `ShardedTensor`.

TorchRec's state dicts hold tables and their optimizers' state as `ShardedTensor`. Torch keeps the
class in a private module, and has no public way to make one from copied shards; seen in torch 2.13
with TorchRec 1.8.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.distributed._shard.sharded_tensor import Shard, ShardedTensor

__all__ = ["ShardedTensor", "with_tensors"]


def with_tensors(sharded: ShardedTensor, tensors: Sequence[Tensor]) -> ShardedTensor:
    """Returns a sharded tensor with the layout of another.

    Args:
        sharded: Sharded tensor whose layout is taken.
        tensors: Tensor of each local shard.
    """
    shards = [
        Shard(tensor, shard.metadata)
        for tensor, shard in zip(tensors, sharded.local_shards(), strict=True)
    ]
    return ShardedTensor._init_from_local_shards_and_global_metadata(
        shards, sharded.metadata(), sharded._process_group
    )
