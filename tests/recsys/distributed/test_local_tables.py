"""Lookups of a single rank against those with TorchRec's exchange."""

import pytest
import torch
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection

from recsys.data.batch import agreed_batch
from recsys.data.builder import BatchBuilder
from recsys.training.launch import single_process_group
from tests.support.parity import BATCH, CPU, Case, sharded_case
from tests.support.small_batches import local_batch, prepared


@pytest.mark.parametrize("kind", ["data_parallel", "table_wise", "row_wise", "column_wise"])
@pytest.mark.parametrize("others", [{}, {"item.kind": {"type": "table_wise"}}])
def test_a_lookup_is_that_with_the_exchange(monkeypatch, kind, others):
    tables = {name: {"type": kind} for name in ("item.item_id", "item.tags", "query.country")}
    sections = {"sharding": {"tables": {"item.kind": {"type": kind}, **tables, **others}}}
    with single_process_group(CPU), sharded_case(Case(kind, sections, parts=2)) as case:
        settings, sharded, _ = case
        builder = BatchBuilder(prepared(), settings)
        host = builder.training(local_batch(0, BATCH), 0, 1)
        batch, tables = agreed_batch(host, builder.keys(), CPU), sharded.module.model.tables
        exchanged = ShardedEmbeddingBagCollection.forward(tables, batch.sparse).to_dict()
        if kind != "column_wise":
            monkeypatch.setattr(tables, "input_dist", None)  # The exchange would call it.
        found = tables(batch.sparse).to_dict()
    assert found.keys() == exchanged.keys()
    for name, pooled in found.items():
        assert torch.equal(pooled, exchanged[name])
