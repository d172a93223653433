"""Examples are of every kind, and their reasons are of the query's own items."""

import json

import numpy as np

from recsys.evaluation.metrics import Ranks
from recsys.fusion.examples import choose
from recsys.stages.evaluate import evaluate
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from tests.support.fused.pages_log import pages_config


def test_the_first_examples_are_one_of_each_kind():
    # Query, item, rank: item 0 is rare; even queries have a short history.
    pairs = np.array([[q, 0 if q == 41 else 1, 3 if q < 20 or q == 41 else 99] for q in range(100)])
    ranks = Ranks(*pairs.T, num_queries=100)
    lengths = np.where(np.arange(100) % 2, 50, 5)
    chosen = choose(ranks, np.array([True, False]), lengths, 12).tolist()
    assert chosen[0] == 41
    assert [query < 20 for query in chosen[1:5]] == [True, True, False, False]
    assert [query % 2 for query in chosen[1:5]] == [0, 1, 0, 1]
    assert len(set(chosen)) == 12
    everything = choose(ranks, np.array([True, False]), lengths, 500)
    assert sorted(everything.tolist()) == list(range(100))


def test_reasons_are_of_the_querys_own_items(tmp_path):
    config = pages_config(tmp_path, tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"})
    prepare(config)
    train(config)
    result = evaluate(config)
    written = json.loads((config.evaluation_dir / "examples.json").read_text())["examples"]
    assert len(written) == result.counts["queries"]
    parts = {"towers", "trend", *result.weights}
    for example in written:
        assert {reason["part"] for reason in example["reasons"]} <= parts
        assert all(len(reason["because"]) <= 2 for reason in example["reasons"])
    assert any(reason["because"] for example in written for reason in example["reasons"])
