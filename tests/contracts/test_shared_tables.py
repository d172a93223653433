"""Queries that are items as well share the items' tables: pages that link to pages."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import serving
from feature_store.core.columns import Jagged
from feature_store.schema import FeatureSchema
from pipelines.prepared.reader import Prepared
from pipelines.quality.coverage import coverage
from recsys.checkpoint.load import load_model
from recsys.checkpoint.table_rows import table_rows
from recsys.config.evaluation import EvaluationConfig, evaluation_fault
from recsys.config.load import parse_config
from recsys.config.sharding import ShardingConfig, sharding_fault
from recsys.data.builder import BatchBuilder
from recsys.data.candidates import CandidateBuilder
from recsys.model.encode import encode_queries
from recsys.model.side_inputs import feature_inputs
from recsys.model.two_tower import build_model
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from serving.exporting.export import export
from tests.support.prepare_logs import run, write_log

PAGES = 60
ITEM = [
    {"name": "item_id", "kind": "id", "dim": 8},
    {"name": "topic", "kind": "categorical", "dim": 4},
    {"name": "words", "kind": "multi_valued", "dim": 4, "hash_buckets": 50},
]
SHARING = {
    "item": ITEM,
    "query": [
        {"name": "query_id", "kind": "id", "dim": 8, "shares": "item.item_id"},
        {"name": "subject", "kind": "categorical", "dim": 4, "shares": "item.topic"},
        {"name": "words", "kind": "multi_valued", "dim": 4, "shares": "item.words"},
        {"name": "see_also", "kind": "multi_valued", "dim": 8, "shares": "item.item_id"},
        {"name": "language", "kind": "categorical", "dim": 4},
    ],
    "context": [{"name": "came_from", "kind": "categorical", "dim": 8, "shares": "item.item_id"}],
}
SCHEMA = FeatureSchema.model_validate(SHARING)


def pages_log(directory):
    """Writes links between pages of one topic; none leads to page 0, and none leaves page 59."""
    random = np.random.default_rng(0)
    sources = np.repeat(np.arange(PAGES - 1), 8)
    targets = (sources + 3 * random.integers(1, 19, len(sources))) % PAGES
    targets[targets == 0] = 3
    names = np.array([f"p{i}" for i in range(PAGES)])
    topics = [f"t{i % 3}" for i in range(PAGES)]
    return write_log(
        directory,
        events=pa.table(
            {
                "query_id": names[sources],
                "item_id": names[targets],
                "came_from": [None if i % 3 else f"p{i % PAGES}" for i in range(len(sources))],
            }
        ),
        items=pa.table(
            {"item_id": names, "topic": topics, "words": [[f"w{i % 7}"] for i in range(PAGES)]}
        ),
        queries=pa.table(
            {
                "query_id": [*names[:-1], "elsewhere"],
                "subject": ["t2", "of no page", *topics[2:]],
                "words": [[f"w{i % 7}"] for i in range(PAGES)],
                "see_also": [["p7", "gone", "p3"], *([["p1"]] * (PAGES - 1))],
                "language": [f"l{i % 2}" for i in range(PAGES)],
            }
        ),
    )


DATA = {
    "columns": {"timestamp": None},
    "split": {"kind": "random_hash"},
    "history": {"kind": "others", "max_length": 8},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pages")
    return run(directory / "prepared", SCHEMA, **pages_log(directory / "log"), **DATA)


def rows(column, row):
    assert isinstance(column, Jagged)
    return column.take(np.array([row])).values.tolist()


def test_values_are_the_rows_of_the_item_feature(prepared):
    items, queries = prepared.item_encoder, prepared.query_encoder
    page = {name: i for i, name in enumerate(items.ids.tokens.to_pylist())}
    place = {name: i for i, name in enumerate(queries.ids.tokens.to_pylist())}
    topic = dict(zip(items.vocabularies["topic"].tokens.to_pylist(), (1, 2, 3), strict=True))
    columns = prepared.query_columns
    assert rows(columns["query_id"], place["p5"]) == [page["p5"]]
    assert rows(columns["query_id"], place["elsewhere"]) == []
    assert rows(columns["subject"], place["p0"]) == [topic["t2"]]
    assert rows(columns["subject"], place["p1"]) == [0]  # Row 0: out of the vocabulary.
    assert rows(columns["see_also"], place["p0"]) == [page["p7"], page["p3"]]
    assert rows(columns["words"], place["p9"]) == rows(prepared.item_columns["words"], page["p9"])
    assert set(queries.vocabularies) == {"language"}
    asked = {"query_id": ["p9"], "see_also": [["p4"]], "subject": ["t1"]}
    encoded = queries.encode(pa.table(asked))
    assert rows(encoded["query_id"], 0) == [page["p9"]]
    assert rows(encoded["see_also"], 0) == [page["p4"]]
    context = prepared.context_encoder.encode(pa.table({"came_from": ["p8", "gone"]}))
    assert [rows(context["came_from"], i) for i in (0, 1)] == [[page["p8"]], []]


def test_values_that_no_item_has_are_reported(prepared):
    current = np.ones(prepared.num_queries, bool)
    found = coverage(prepared.directory, SCHEMA, "query", current, current.astype(np.int64))
    outside = {each.feature: each.out_of_vocabulary for each in found}
    assert outside["subject"] == pytest.approx(1 / PAGES)
    assert outside["words"] is None  # Hashed features have no vocabulary.


def test_a_slice_needs_values_with_names():
    hashed = EvaluationConfig(slices=("query.words",))
    assert "is not a slice" in (evaluation_fault(hashed, SCHEMA, has_time=False) or "")
    named = EvaluationConfig(slices=("query.subject", "item.topic"))
    assert evaluation_fault(named, SCHEMA, has_time=False) is None


def test_an_id_is_learnt_on_either_side(prepared):
    page = prepared.item_encoder.ids.tokens.to_pylist().index("p0")
    assert prepared.item_frequency[page] == 0
    assert prepared.has_learnt_id[page]


def test_a_query_is_never_its_own_answer(prepared):
    items = prepared.item_encoder.ids.tokens.to_pylist()
    queries = prepared.query_encoder.ids.tokens.to_pylist()
    for split in ("validation", "test"):
        known, excluded = prepared.query_state.known(split), prepared.excluded(split)
        for row, query in enumerate(queries):
            own = [items.index(query)] if query in items else []
            assert sorted(rows(excluded, row)) == sorted(rows(known, row) + own)
    config = parse_config({"output": "out", "data": {"events": "e"}, "features": SHARING})
    row, page = queries.index("p5"), items.index("p5")
    candidates = CandidateBuilder(prepared, config)
    positives, bag = candidates._positives(SimpleNamespace(query=np.array([row])))
    assert page in rows(positives, bag[0])


def test_there_is_one_table_for_all_who_share_it(prepared):
    config = parse_config({"output": "out", "data": {"events": "e"}, "features": SHARING})
    model = build_model(prepared, config.model)
    tables = {c.name: c.feature_names for c in model.tables.embedding_bag_configs()}
    assert tables == {
        "item/item_id": ["item.item_id", "query.query_id", "query.see_also", "context.came_from"],
        "item/topic": ["item.topic", "query.subject"],
        "item/words": ["item.words", "query.words"],
        "query/language": ["query.language"],
    }
    sizes = {i.name: i.num_embeddings for i in feature_inputs(prepared.query_encoder)}
    assert sizes["query.query_id"] == sizes["query.see_also"] == PAGES
    assert sizes["query.words"] == 51
    owners = {"item.item_id", "item.topic", "item.words", "query.language"}
    assert set(table_rows(prepared)) == owners


@pytest.mark.parametrize(
    ("feature", "sentence"),
    [
        ({"shares": "item.nothing"}, "no item feature with a table; expected one of: item.item_id"),
        ({"shares": "item.topic", "dim": 16}, "whose dim is 4; set its dim to that"),
        ({"shares": "item.topic", "min_count": 3}, "min_count has no effect"),
        ({"shares": "item.topic", "kind": "id"}, "an id shares an id's rows alone"),
        ({"shares": "query.topic"}, "should match pattern"),
    ],
)
def test_what_cannot_be_shared_is_said(feature, sentence):
    query = {"name": "subject", "kind": "categorical", "dim": 4, **feature}
    with pytest.raises(ValueError, match=sentence):
        FeatureSchema.model_validate({"item": ITEM, "query": [query]})


def test_items_share_nothing():
    item = {"name": "brand", "kind": "categorical", "dim": 4, "shares": "item.topic"}
    with pytest.raises(ValueError, match="only query and context features share"):
        FeatureSchema.model_validate({"item": [*ITEM, item]})


def test_sharding_names_the_owner_of_a_table():
    sharding = ShardingConfig.model_validate({"tables": {"query.subject": {"type": "row_wise"}}})
    assert "the nearest is" in (sharding_fault(sharding, SCHEMA) or "")


def test_it_trains_grows_and_is_served_as_trained(tmp_path, tracking_uri):
    paths = pages_log(tmp_path / "log")
    document = {
        "output": str(tmp_path / "out"),
        "executor": "local",
        "data": {**paths, **DATA},
        "features": SHARING,
        "model": {"dim": 8, "item_tower": [8], "query_tower": [8]},
        "training": {"epochs": 2, "batch_size": 64, "start": "previous"},
        "tracking": {"uri": tracking_uri},
    }
    config = parse_config(document)
    prepare(config)
    train(config)
    events, items = pq.read_table(paths["events"]), pq.read_table(paths["items"])
    new = pa.table({"query_id": ["p1"], "item_id": ["new"], "came_from": ["p2"]})
    pq.write_table(pa.concat_tables([events, new]), paths["events"])
    row = pa.table({"item_id": ["new"], "topic": ["t9"], "words": [["w1"]]})
    pq.write_table(pa.concat_tables([items, row]), paths["items"])
    prepare(config)
    train(config)
    model, _ = load_model(config)
    assert model.tables.embedding_bags["item/item_id"].weight.shape == (PAGES + 1, 8)
    export(config)
    found = serving.load(config.bundle_dir).encode(["p4", "p9"])
    prepared = Prepared(config.prepared_dir)
    queries = prepared.query_encoder.ids.rows(pa.array(["p4", "p9"]))
    history = prepared.query_state.history("test").take(queries)
    builder = BatchBuilder(prepared, config)
    context = prepared.context_encoder.encode(pa.table({"": pa.nulls(2)}))
    expected = encode_queries(model, builder, queries, history, context, torch.device("cpu"))
    np.testing.assert_allclose(found, expected, atol=2e-6)
