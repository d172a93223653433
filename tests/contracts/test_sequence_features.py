"""Sequences, and the other features that one can choose, from raw values to a served answer."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import serving
from feature_store.core.columns import Jagged
from feature_store.encoding.pooling import bag_weights
from feature_store.encoding.tokens import tokens_of
from feature_store.kinds import SequenceFeature
from pipelines.prepared.reader import Prepared
from recsys.data.builder import BatchBuilder
from recsys.model.encode import encode_items, encode_queries
from tests.support.tiny_bundle import ITEMS, QUERIES, export_untrained, untrained, write_prepared

CPU = torch.device("cpu")


def sequence(**keys) -> SequenceFeature:
    return SequenceFeature(name="seen", dim=4, **keys)


def test_the_last_values_stay_in_order_and_repeat() -> None:
    column = pa.array([["a", "b", "", "a", None, "c"], None, [], ["z"], ["b", "b", "b", "b"]])
    tokens, lengths = tokens_of(sequence(max_length=3), column)
    assert tokens.to_pylist() == ["b", "a", "c", "z", "b", "b", "b"]
    assert lengths.tolist() == [3, 0, 0, 1, 3]


@given(st.lists(st.integers(0, 40), max_size=8), st.none() | st.floats(0.01, 10_000))
@settings(max_examples=100, deadline=None)
def test_weights_equal_a_naive_loop(lengths: list[int], half_life: float | None) -> None:
    found = bag_weights(
        Jagged.from_lengths(np.zeros(sum(lengths)), np.array(lengths, int)), half_life
    )
    start = 0
    for length in lengths:
        raw = [0.5 ** (i / half_life) if half_life else 1.0 for i in reversed(range(length))]
        expected = np.array(raw) / max(1e-300, sum(raw))
        np.testing.assert_allclose(found[start : start + length], expected, rtol=1e-4, atol=1e-30)
        start += length
    assert start == len(found)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"pooling": "mean", "half_life": 3}, "half_life has no effect on the mean"),
        ({"max_length": 1, "pooling": "mean"}, "pooling has no effect on the sequence"),
        ({"max_length": 1, "half_life": 2}, "half_life has no effect on the sequence"),
        ({"pooling": "last"}, "'recency' or 'mean'"),
    ],
)
def test_keys_that_mean_nothing_are_refused(keys, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        sequence(**keys)


def test_sequences_ranks_and_parts_of_words_are_served_as_they_were_trained(
    tmp_path, monkeypatch
) -> None:
    text = {"tokens": "words_and_ngrams", "ngrams": [3, 4], "hash_buckets": 300}
    items = [
        {"name": "item_id", "kind": "id", "dim": 8},
        {"name": "year", "kind": "numeric", "dim": 4, "scaling": "quantile"},
        {"name": "tags", "kind": "sequence", "dim": 4, "max_length": 2, "half_life": 1},
        {"name": "title", "kind": "text", "dim": 4, **text},
    ]
    config = write_prepared(tmp_path, features={"item": items})
    manifest = export_untrained(config, monkeypatch)
    model, trained = untrained(config)
    prepared = Prepared(config.prepared_dir)
    builder = BatchBuilder(prepared, trained.config)
    history = prepared.query_state.history("test")
    expected = encode_queries(model, builder, np.arange(QUERIES), history, {}, CPU)
    found = serving.load(config.bundle_dir).encode([str(q) for q in range(QUERIES)])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert manifest.gate.item_difference < 1e-6
    assert manifest.gate.query_difference < 1e-6
    # The order of a sequence reaches the vectors.
    tags = prepared.item_columns["tags"]
    has_order = tags.lengths == 2
    assert has_order.sum() > ITEMS / 4
    reverse = np.concatenate([row[::-1] for row in np.split(tags.values, tags.offsets[1:-1])])
    forth = encode_items(model, builder, CPU)
    prepared.item_columns["tags"] = Jagged(reverse, tags.offsets)
    back = encode_items(model, BatchBuilder(prepared, trained.config), CPU)
    moved = np.abs(forth - back).max(axis=1) > 1e-6
    np.testing.assert_array_equal(moved, has_order)
