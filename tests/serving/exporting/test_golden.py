"""The golden answers are the trained model's, and bundles must give them."""

import json

import numpy as np
import pytest

import serving
from feature_store.core.columns import Jagged
from feature_store.core.errors import UserError
from serving.exporting.golden import exact_answers
from serving.recommend.golden import Golden, read_golden, require_same_answer
from tests.support.tiny_bundle import export_untrained, write_prepared

ITEMS = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}
GOLDEN = Golden(
    query_id="5",
    at="2021-01-01T00:00:00+00:00",
    items=tuple(ITEMS),
    scores=tuple(ITEMS.values()),
)


def test_exact_answers_are_a_full_sort():
    random = np.random.default_rng(0)
    items = random.normal(size=(40, 6)).astype(np.float32)
    queries = random.normal(size=(3, 6)).astype(np.float32)
    excluded = Jagged.from_lengths(np.array([1, 2, 3, 4]), np.array([3, 0, 1]))
    names = [f"i{i}" for i in range(40)]
    for row, (found, scores) in enumerate(exact_answers(queries, items, excluded, names)):
        products = items.astype(np.float64) @ queries[row]
        gone = excluded.values[excluded.offsets[row] : excluded.offsets[row + 1]].tolist()
        order = sorted((i for i in range(40) if i not in gone), key=lambda i: -products[i])[:10]
        assert list(found) == [names[i] for i in order]
        np.testing.assert_allclose(scores, products[order], rtol=1e-5)


@pytest.mark.parametrize("stored", ["float16", "int8"])
def test_compressed_vectors_pass_the_gate(stored, tmp_path, monkeypatch):
    config = write_prepared(tmp_path, export={"vectors": stored, "min_ann_recall": 0.5})
    assert export_untrained(config, monkeypatch).index.vectors == stored
    assert len(serving.load(config.bundle_dir).recommend("5", 5).items) == 5


@pytest.mark.parametrize(
    ("answer", "is_right", "is_right_if_approximate"),
    [
        (ITEMS, True, True),
        ({"a": 0.9, "b": 0.8, "c": 0.7, "x": 0.60005}, True, True),  # As near as the last one.
        ({"b": 0.8, "c": 0.7, "d": 0.6, "x": 0.5}, False, True),
        ({"c": 0.7, "d": 0.6, "x": 0.5, "y": 0.4}, False, True),
        ({"d": 0.6, "x": 0.5, "y": 0.4, "z": 0.3}, False, False),
        ({"a": 0.9, "b": 0.8, "c": 0.7}, False, False),
        ({"a": 0.9, "b": 0.8, "c": 0.69, "d": 0.6}, False, False),
        ({"x": 0.95, "a": 0.9, "b": 0.8, "c": 0.7}, False, False),
    ],
)
def test_only_an_approximate_index_may_miss_items(answer, is_right, is_right_if_approximate):
    for is_exact, expected in ((True, is_right), (False, is_right_if_approximate)):
        if expected:
            require_same_answer(GOLDEN, answer, "exported", is_exact=is_exact)
        else:
            with pytest.raises(UserError, match="the golden query '5'"):
                require_same_answer(GOLDEN, answer, "exported", is_exact=is_exact)


@pytest.mark.parametrize(
    "change",
    [None, 7, {}, [None], [[]], {"query_id": "\ud800"}, {"at": 1e999}, {"scores": [1.0]}, {"x": 1}],
)
def test_golden_queries_that_are_none_are_a_sentence(tmp_path, change):
    if isinstance(change, dict) and change:
        change = [{**GOLDEN.model_dump(mode="json"), **change}]
    (tmp_path / "golden.json").write_text(json.dumps(change))
    with pytest.raises(UserError, match=r"golden\.json cannot be read: .*again\.$"):
        read_golden(tmp_path)
