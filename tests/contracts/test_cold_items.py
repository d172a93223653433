"""Items without training events are found by their features: in evaluation and in serving."""

import numpy as np
import pytest
import torch

import serving
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.load import load_model
from recsys.config.ssl.main_task import NoSelfSupervision
from recsys.data.builder import BatchBuilder
from recsys.model.encode import encode_items
from recsys.stages.evaluate import evaluate
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from serving.exporting.export import export
from serving.recommend.options import RecommendOptions
from tests.support.planted import GROUPS, ITEMS_IN_GROUP, planted_config, write_planted_log

CPU = torch.device("cpu")

pytestmark = pytest.mark.slow


def trained(log, output, tracking_uri, id_dropout):
    """Trains a model to which nothing but its group tells anything about a cold item."""
    config = planted_config(
        log,
        output,
        data={"split": {"kind": "cold_items"}, "history": {"kind": "past"}},
        features={
            "item": [
                {"name": "item_id", "kind": "id", "dim": 32},
                {"name": "group", "kind": "categorical", "dim": 4},
            ],
            "query": [],
        },
        loss={"id_dropout": id_dropout},
        training={"epochs": 8},
        tracking={"uri": tracking_uri},
    )
    config = config.model_copy(update={"ssl": NoSelfSupervision()})
    prepare(config)
    train(config)
    return config


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cold")
    write_planted_log(directory)
    return directory


@pytest.fixture(scope="module")
def config(log, tmp_path_factory, tracking_uri):
    return trained(log, tmp_path_factory.mktemp("cold-out"), tracking_uri, 0.3)


def cold_items(config):
    prepared = Prepared(config.prepared_dir)
    return np.flatnonzero(prepared.item_frequency == 0)


def test_cold_items_are_found_by_their_features(config):
    prepared = Prepared(config.prepared_dir)
    held_out = prepared.query_state.test.values
    assert np.isin(held_out, cold_items(config)).all()
    cold = evaluate(config).slices["cold"]
    assert cold["count"] == len(held_out)
    chance = 10 / prepared.num_items
    assert cold["recall@10"] > 8 * chance


def test_cold_items_are_answers_of_the_bundle(config):
    export(config)
    recommender = serving.load(config.bundle_dir)
    prepared = Prepared(config.prepared_dir)
    items = prepared.item_encoder.ids.tokens.to_pylist()
    queries = prepared.query_encoder.ids.tokens.to_pylist()
    # Cold items are those of the test, which a bundle knows as later events of the queries.
    options = RecommendOptions(exclude_seen=False)
    found = recommender.recommend_batch(queries, ITEMS_IN_GROUP + 3, options).to_pylist()
    answers = {(line["query_id"], line["item_id"]) for line in found}
    shares = {True: [], False: []}  # Keys: whether an item is of the query's group.
    for query in queries:
        for item in cold_items(config):
            is_own = int(query[1:]) % GROUPS == int(items[item][1:]) // ITEMS_IN_GROUP
            shares[is_own].append((query, items[item]) in answers)
    assert np.mean(shares[True]) > 0.7
    assert np.mean(shares[False]) < 0.2


def test_id_dropout_teaches_features_to_stand_for_the_id(config, log, tmp_path, tracking_uri):
    without = trained(log, tmp_path, tracking_uri, 0.0)
    similarity = {}
    for name, each in (("with", config), ("without", without)):
        model, manifest = load_model(each)
        builder = BatchBuilder(Prepared(each.prepared_dir), manifest.config)
        whole = encode_items(model, builder, CPU)
        builder._has_learnt_id[:] = False
        warm = np.setdiff1d(np.arange(len(whole)), cold_items(each))
        similarity[name] = (whole * encode_items(model, builder, CPU)).sum(axis=1)[warm].mean()
    assert similarity["with"] > similarity["without"] + 0.05
