"""Tables of a single rank: looked up without the exchange between ranks.

TorchRec makes the exchange with one rank, too: buckets of rows, splits, collectives and copies,
which on a CPU take longer than the lookup. What it keeps private is used here; seen in TorchRec
1.8.
"""

from typing import Any

import torch
from torchrec import KeyedJaggedTensor
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection, construct_output_kt
from torchrec.distributed.types import ShardingType
from torchrec.sparse.jagged_tensor import KeyedTensor

# Types that keep a table in one part where there is one rank; columns are always in parts.
_WHOLE = {
    ShardingType.TABLE_WISE.value,
    ShardingType.ROW_WISE.value,
    ShardingType.DATA_PARALLEL.value,
}


class LocalTables(ShardedEmbeddingBagCollection):
    """Sharded tables whose lookups exchange nothing, where one rank has all of them whole."""

    _has_uninitialized_input_dist: bool

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """Looks up a batch; see `ShardedEmbeddingBagCollection`."""
        if self._env.world_size > 1 or not _WHOLE.issuperset(self._sharding_types):
            return super().forward(*inputs, **keywords)
        return self._look_up(*inputs)

    def _look_up(self, features: KeyedJaggedTensor) -> KeyedTensor:
        if self._has_uninitialized_input_dist:
            self._create_input_dist(features.keys())
            self._has_uninitialized_input_dist = False
        with torch.no_grad():
            if self._has_features_permute:
                features = features.permute(self._features_order, self._features_order_tensor)
            parts = features.split(self._feature_splits)
        pooled = [lookup(part) for lookup, part in zip(self._lookups, parts, strict=True)]
        return construct_output_kt(pooled, self._embedding_names, self._embedding_dims)
