"""Masks of items by the values of their features."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from feature_store.core.errors import UserError
from feature_store.kinds import CategoricalFeature
from serving.exporting.contents import value_pairs
from serving.recommend.filters import ItemFilters, read_filters, write_value_lists
from serving.server.api import Filters

ITEMS = 12
VALUES = st.sampled_from(["a", "b", "c / d", "ü"])
CATEGORY = CategoricalFeature(name="c", dim=4)
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


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2, None], pa.int32()),
        pa.array([1.0, 2.0, None]),
        pa.array(["1", "2", None]),
    ],
    ids=lambda column: str(column.type),
)
def test_a_number_is_that_of_the_log_and_true_is_none(tmp_path, column):
    values, items = value_pairs(CATEGORY, pa.chunked_array([column]), np.arange(3))
    write_value_lists(tmp_path, "c", values, items)
    filters = ItemFilters(read_filters(tmp_path), np.arange(3), 3)
    for value in (1, 1.0, "1"):
        assert filters.mask({"c": [value]}).tolist() == [True, False, False]
        assert filters_of_a_request([value]) == ["1"]
    assert not filters.mask({"c": [True, 1.5]}).any()


def test_a_feature_of_booleans(tmp_path):
    column = pa.chunked_array([pa.array([True, False, None])])
    values, items = value_pairs(CATEGORY, column, np.arange(3))
    write_value_lists(tmp_path, "c", values, items)
    filters = ItemFilters(read_filters(tmp_path), np.arange(3), 3)
    assert filters.mask({"c": [True]}).tolist() == [True, False, False]
    assert filters.mask({"c": [False]}).tolist() == [False, True, False]
    assert not filters.mask({"c": [1, 0, "1"]}).any()
    assert filters_of_a_request([True, False]) == ["true", "false"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, ["a"], {}])
def test_what_is_no_value_is_refused(tmp_path, value):
    filters = ItemFilters(written(tmp_path, c=[("nan", 0)]), np.arange(2), 2)
    with pytest.raises(UserError, match=r"filter by 'c': .* is no value; expected a string"):
        filters.mask({"c": [value]})
    with pytest.raises(ValidationError, match="expected a string, a finite number or a boolean"):
        filters_of_a_request([value])


def filters_of_a_request(values):
    """Returns the values as a request's body has them after it was read."""
    return Filters.model_validate({"where": {"c": values}}).where["c"]
