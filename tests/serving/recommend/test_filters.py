"""Masks of items by the values of their features."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from feature_store.core.errors import UserError
from serving.recommend.filters import ItemFilters, read_filters, write_value_lists

ITEMS = 12
VALUES = st.sampled_from(["a", "b", "c / d", "ü"])
PAIRS = st.lists(st.tuples(VALUES, st.integers(0, ITEMS - 1)), max_size=30)


def written(directory, **features):
    for name, pairs in features.items():
        values = pa.array([value for value, _ in pairs], pa.string())
        write_value_lists(directory, name, values, np.array([i for _, i in pairs], np.int64))
    return read_filters(directory)


@settings(max_examples=15, deadline=None)
@given(PAIRS, PAIRS, st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3))
def test_a_mask_has_of_each_feature_one_of_the_values(tmp_path_factory, first, second, one, two):
    lists = written(tmp_path_factory.mktemp("filters"), **{"ge/nre": first, "tags": second})
    # Items 3 and 7 are gone from the index.
    places = np.full(ITEMS, -1)
    left = [i for i in range(ITEMS) if i not in (3, 7)]
    places[left] = np.arange(len(left))
    filters = ItemFilters(lists, places, len(left))
    for _ in range(2):  # The second time it is kept.
        mask = filters.mask({"ge/nre": one, "tags": two})
        expected = [
            any((value, item) in first for value in one)
            and any((value, item) in second for value in two)
            for item in left
        ]
        assert mask.tolist() == expected
    assert filters.mask({}).all()


def test_an_unknown_feature_is_told_with_those_there_are(tmp_path):
    filters = ItemFilters(written(tmp_path, genres=[("a", 0)]), np.arange(2), 2)
    with pytest.raises(UserError, match="expected some of genres; did you mean 'genres'"):
        filters.mask({"genre": ["a"]})
    with pytest.raises(UserError, match="no features to filter by"):
        ItemFilters({}, np.arange(2), 2).mask({"genre": ["a"]})


def test_kept_masks_have_a_bound_and_are_not_to_be_changed(tmp_path, monkeypatch):
    filters = ItemFilters(written(tmp_path, genres=[("a", 0)]), np.arange(2), 2)
    monkeypatch.setattr("serving.recommend.filters._KEPT_BYTES", 6)
    for value in "abcdefgh":
        filters.mask({"genres": [value]})
    assert len(filters._kept) == 3
    with pytest.raises(ValueError, match="read-only"):
        filters.mask({"genres": ["h"]})[0] = True
