"""Torch's sharded tensors can still be rebuilt from copies of their shards."""

import pytest

from recsys.distributed.shards import ShardedTensor, with_tensors
from recsys.training.launch import single_process_group
from tests.support.parity import CPU, Case, sharded_case


@pytest.mark.parametrize("kind", ["table_wise", "row_wise", "column_wise"])
def test_a_sharded_table_is_rebuilt_from_copies(kind):
    with single_process_group(CPU), sharded_case(Case(kind, parts=2)) as (_, sharded, _):
        tables = [t for name, t in sharded.state_dict().items() if ".embedding_bags." in name]
        assert tables
        assert all(isinstance(table, ShardedTensor) for table in tables), (
            "TorchRec's state dict holds no `ShardedTensor`: look for the type of its tables, and "
            "adapt `recsys.distributed.shards` and those who import it"
        )
        for table in tables:
            copies = [shard.tensor.clone() for shard in table.local_shards()]
            rebuilt = with_tensors(table, copies)
            assert rebuilt.metadata() == table.metadata()
            for shard, copy in zip(rebuilt.local_shards(), copies, strict=True):
                assert shard.tensor is copy
