"""Training with few labels: its examples are a part of all, and held-out events are the same."""

from collections import Counter

import numpy as np
import pytest

from pipelines.prepared.examples import SPLITS
from tests.support.prepare_logs import (
    FEATURES,
    examples,
    items_table,
    queries_table,
    random_events,
    run,
    write_log,
)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("labels")
    paths = write_log(
        directory,
        events=random_events(0, queries=40, rows=3000),
        items=items_table(),
        queries=queries_table(),
    )
    kind = {"split": {"kind": "random_hash"}, "history": {"kind": "others", "max_length": 90}}
    return {
        fraction: run(directory / str(fraction), FEATURES, label_fraction=fraction, **paths, **kind)
        for fraction in (1.0, 0.5, 0.1)
    }


def pairs(prepared, split):
    return {(e["query"], e["item"]) for e in examples(prepared) if e["split"] == split}


def test_less_is_a_part_of_more(logs):
    everything = pairs(logs[1.0], "train")
    half, tenth = pairs(logs[0.5], "train"), pairs(logs[0.1], "train")
    assert tenth < half < everything
    assert len(half) == pytest.approx(0.5 * len(everything), abs=3 * len(everything) ** 0.5)
    assert len(tenth) == pytest.approx(0.1 * len(everything), abs=3 * len(everything) ** 0.5)
    for split in SPLITS[1:]:
        assert pairs(logs[0.1], split) == pairs(logs[1.0], split)


def test_nothing_else_knows_what_was_left_out(logs):
    prepared = logs[0.1]
    training = [e for e in examples(prepared) if e["split"] == "train"]
    kept = {(e["query"], e["item"]) for e in training}
    ids = prepared.item_encoder.ids.tokens.to_pylist()
    times = Counter(e["item"] for e in training)
    assert prepared.item_frequency.tolist() == [times[item] for item in ids]
    state = prepared.query_state
    for row, query in enumerate(prepared.query_encoder.ids.tokens.to_pylist()):
        for column in (state.train, state.validation_history):
            known = {ids[i] for i in column.take(np.array([row])).values}
            assert known == {item for q, item in kept if q == query}
