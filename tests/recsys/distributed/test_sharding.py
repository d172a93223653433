"""Placement and precision of tables, and errors that name a mistake of the configuration."""

import zlib

import numpy as np
import pytest
import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    DenseTableBatchedEmbeddingBagsCodegen,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection

from feature_store.core.errors import UserError
from feature_store.core.hashing import hash_uniform
from recsys.distributed.plan_table import TablePlan, format_plan
from recsys.distributed.planner import part_columns, place, topology_of
from recsys.distributed.sharding import lookup_modules
from recsys.model.two_tower import TwoTower
from recsys.training.launch import single_process_group
from tests.support.parity import (
    CPU,
    ITEM_INPUTS,
    QUERY_INPUTS,
    TABLES,
    Case,
    sharded_case,
    train_case,
)
from tests.support.small_batches import config


@pytest.fixture(scope="module")
def group():
    with single_process_group(CPU):
        yield


@pytest.mark.parametrize(
    ("sharding", "expected"),
    [
        ({"tables": {"item.tag": {"type": "row_wise"}}}, "no feature .*; the nearest is item.tags"),
        ({"tables": {"item.price": {"type": "row_wise"}}}, "item.price: no feature with a table"),
        ({"tables": {"item.tags": {}}}, "item.tags sets nothing; set type, precision or kernel"),
        (
            {"tables": {"item.tags": {"type": "data_parallel", "kernel": "fused"}}},
            "kernel has no effect with type data_parallel",
        ),
        ({"tables": {"item.tags": {"typ": "row_wise"}}}, r"\(did you mean type\?"),
    ],
)
def test_a_mistake_names_the_table(sharding, expected):
    with pytest.raises(UserError, match=expected):
        config(sharding=sharding)


def test_names_may_be_nested_so_that_set_can_reach_them():
    nested = {"item": {"tags": {"type": "row_wise"}}, "item.kind": {"type": "table_wise"}}
    tables = config(sharding={"tables": nested}).sharding.tables
    assert {name: table.type for name, table in tables.items()} == {
        "item.tags": "row_wise",
        "item.kind": "table_wise",
    }
    both = {"item.tags": {"precision": "fp16"}, **nested}
    assert config(sharding={"tables": both}).sharding.tables["item.tags"].precision == "fp16"


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"type": "grid_shard"}, "type grid_shard needs GPUs; on a CPU use one of: data_parallel"),
        ({"kernel": "fused_uvm"}, "kernel fused_uvm needs a GPU"),
        ({"precision": "bf16"}, "item.tags cannot be bf16 on a CPU"),
    ],
)
def test_what_only_a_gpu_can_is_an_error_on_a_cpu(group, tables, expected):
    sections = {"sharding": {"tables": {"item.tags": tables}}}
    with pytest.raises(UserError, match=expected), sharded_case(Case("table_wise", sections)):
        pass


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_rule_splits_large_tables_by_rows_over_several_ranks(group, ranks):
    sections = {"sharding": {"tables": {}, "row_wise_from": 30}}
    with sharded_case(Case("unused", sections)) as (settings, _, _):
        module = TwoTower(
            ITEM_INPUTS, QUERY_INPUTS, [], settings.model, 50, table_device=torch.device("meta")
        )
        configs = module.tables.embedding_bag_configs()
        topology = topology_of("cpu", ranks)
        placement = place(module, configs, settings.training, settings.sharding, topology)
        (placed,) = placement.plan.plan.values()
        types = {name: table.sharding_type for name, table in placed.items()}
    large = "row_wise" if ranks > 1 else "table_wise"
    assert types == {
        "item/item_id": large,
        "item/kind": "table_wise",
        "item/tags": large,
        "query/country": "table_wise",
    }


@pytest.mark.parametrize("kind", ["data_parallel", "table_wise", "column_wise"])
def test_every_sharding_begins_with_the_same_rows(group, kind):
    with sharded_case(Case(kind, parts=2)) as (settings, sharded, _):
        seed, states = settings.training.seed, sharded.state_dict()
        name = next(name for name in states if "item/kind" in name)
        weight = states[name]
        parts = weight.local_shards() if kind != "data_parallel" else None
        found = (
            torch.cat([part.tensor for part in parts], dim=1) if parts is not None else weight
        ).numpy()
    table = zlib.crc32(b"item/kind.weight")
    uniform = hash_uniform(seed, table, np.arange(4)[:, None], np.arange(8))
    np.testing.assert_allclose(found, (2 * uniform - 1) / np.sqrt(8), rtol=1e-6)


@pytest.mark.parametrize("kind", ["data_parallel", "table_wise", "row_wise", "column_wise"])
def test_half_precision_tables_learn_what_others_learn(group, kind):
    exact = train_case(Case(kind), steps=15)
    half = train_case(
        Case(
            kind,
            {
                "sharding": {
                    "precision": "fp16",
                    "tables": {name: {"type": kind} for name in TABLES},
                }
            },
        ),
        steps=15,
    )
    tables = [tensor for name, tensor in half.tensors.items() if name.endswith("tags.weight")]
    assert torch.equal(tables[0], tables[0].half().float())
    for one, other in zip(half.losses, exact.losses, strict=True):
        assert one["main"] == pytest.approx(other["main"], rel=0.03)
    assert half.losses != exact.losses


@pytest.mark.parametrize("kind", ["data_parallel", "table_wise", "row_wise"])
def test_no_gradient_of_the_weights_of_bags_is_computed(group, kind, monkeypatch):
    told = []
    for kernel in (DenseTableBatchedEmbeddingBagsCodegen, SplitTableBatchedEmbeddingBagsCodegen):

        def forward(self, *arguments, original=kernel.forward, **named):
            told.append(named.get("feature_requires_grad"))
            return original(self, *arguments, **named)

        monkeypatch.setattr(kernel, "forward", forward)
    train_case(Case(kind), steps=1)
    assert told, "FBGEMM's kernels are not called: see `recsys.distributed.sharding`"
    assert all(learnt is not None and not learnt.any() for learnt in told)


@pytest.mark.parametrize("kind", ["data_parallel", "table_wise", "row_wise", "column_wise"])
def test_the_kernels_of_a_sharded_collection_are_found(group, kind):
    with sharded_case(Case(kind)) as (_, sharded, _):
        (tables,) = (m for m in sharded.modules() if isinstance(m, ShardedEmbeddingBagCollection))
        kernels = [type(module).__name__ for module in lookup_modules(tables)]
    assert any("TableBatchedEmbeddingBags" in name for name in kernels), (
        "TorchRec keeps the kernels elsewhere than in `_lookups` of a sharded collection: look for "
        "the list of lookups in torchrec/distributed/embeddingbag.py, and adapt `lookup_modules`"
    )


def test_one_table_may_have_another_precision(group):
    tables = {"item.tags": {"precision": "fp16"}}
    with sharded_case(Case("unused", {"sharding": {"tables": tables}})) as (_, sharded, _):
        types = {
            name.split("item/")[-1]: weight.local_shards()[0].tensor.dtype
            for name, weight in sharded.state_dict().items()
            if "embedding_bags" in name
        }
    assert types["tags.weight"] == torch.float16
    assert types["kind.weight"] == torch.float32


@pytest.mark.parametrize(
    ("dim", "parts", "expected"),
    [(16, 2, 8), (16, 4, 4), (16, 64, 4), (64, 3, 32), (24, 4, 8), (20, 2, 20), (8, 1, 8)],
)
def test_columns_are_split_in_equal_parts_of_at_least_four(dim, parts, expected):
    assert part_columns(dim, parts) == expected


def test_the_plan_is_a_line_for_each_table_and_the_sum_of_the_fullest_rank():
    mib = 2**20
    tables = [
        TablePlan("item.a", 1_000_000, 16, "fp32", "row_wise", "fused", {0: 2 * mib, 1: mib}),
        TablePlan("item.b", 4, 8, "fp16", "table_wise", "fused", {1: 3 * mib}),
        TablePlan("query.c", 4, 8, "fp16", "table_wise", "fused", {0: 100, 1: 100, 3: 100}),
    ]
    lines = format_plan(tables).splitlines()
    lines = [" ".join(line.split()) for line in lines]
    assert lines[0] == "table rows dim precision type kernel ranks MiB a rank"
    assert lines[1] == "item.a 1,000,000 16 fp32 row_wise fused 0-1 2.00"
    assert lines[3].endswith(" 0-1,3 <0.01")
    assert lines[-1] == "tables and optimizer state: 6.00 MiB, at most 4.00 on a rank"
