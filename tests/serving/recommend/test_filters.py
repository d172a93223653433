"""Masks of items by the values of their features."""

import operator

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from feature_store.core.errors import UserError
from feature_store.kinds import CategoricalFeature, DateFeature, NumericFeature
from serving.exporting.contents import value_pairs
from serving.recommend.filters.item_filters import ItemFilters
from serving.recommend.filters.value_lists import read_filters, write_value_lists
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
    unknown = [
        *(value for value in one if value not in dict(first)),
        *(value for value in two if value not in dict(second)),
    ]
    if unknown:
        with pytest.raises(UserError, match=f"no item has '{unknown[0]}'; "):
            filters.mask({"ge/nre": one, "tags": two})
        return
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
    monkeypatch.setattr("serving.recommend.filters.item_filters._KEPT_BYTES", 6)
    pairs = [(value, 0) for value in "abcdefgh"]
    filters = ItemFilters(written(tmp_path, genres=pairs), np.arange(2), 2)
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
    for value in (True, 1.5):
        with pytest.raises(UserError, match=r"filter by 'c': no item has '(true|1\.5)'"):
            filters.mask({"c": [value]})


def test_a_feature_of_booleans(tmp_path):
    column = pa.chunked_array([pa.array([True, False, None])])
    values, items = value_pairs(CATEGORY, column, np.arange(3))
    write_value_lists(tmp_path, "c", values, items)
    filters = ItemFilters(read_filters(tmp_path), np.arange(3), 3)
    for value in (True, [True], np.True_, "true"):
        assert filters.mask({"c": value}).tolist() == [True, False, False]
    assert filters.mask({"c": [False]}).tolist() == [False, True, False]
    for value in (1, 0, "1"):
        with pytest.raises(UserError, match=r"no item has '\d'; expected one of 'false', 'true'"):
            filters.mask({"c": [value]})
    assert filters_of_a_request([True, False]) == ["true", "false"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, ["a"], {}])
def test_what_is_no_value_is_refused(tmp_path, value):
    filters = ItemFilters(written(tmp_path, c=[("nan", 0)]), np.arange(2), 2)
    with pytest.raises(UserError, match=r"filter by 'c': .* is no value; expected a string"):
        filters.mask({"c": [value]})
    with pytest.raises(ValidationError, match="expected a string, a finite number or a boolean"):
        filters_of_a_request([value])


def test_a_value_that_no_item_has_is_told_with_the_nearest(tmp_path):
    names = [("Drama", 0), ("Film Noir", 1), *((f"x{i}", 1) for i in range(5000))]
    lists = written(tmp_path, genres=names, stars=[("1", 0), ("2", 1)])
    filters = ItemFilters(lists, np.arange(2), 2)
    for value, nearest in [("drama", "Drama"), ("Film Noire", "Film Noir"), ("x70000", "x7000?")]:
        with pytest.raises(UserError, match=f"no item has '{value}'; the nearest is '{nearest}'"):
            filters.mask({"genres": ["Drama", value]})
    with pytest.raises(UserError, match="no item has '9'; expected one of '1', '2'"):
        filters.mask({"stars": 9})


YEARS = [1950, 1994, 1994, 2010, None, 2024]


@pytest.mark.parametrize(
    ("feature", "column"),
    [
        (NumericFeature(name="c", dim=4), pa.array(YEARS, pa.int64())),
        (NumericFeature(name="c", dim=4), pa.array(YEARS, pa.float64())),
        (NumericFeature(name="c", dim=4), pa.array([y and f" {y}" for y in YEARS])),
        (CATEGORY, pa.array(YEARS, pa.int64())),
        (CATEGORY, pa.array([y and str(y) for y in YEARS])),
        (DateFeature(name="c", dim=4), pa.array([y and f"{y}-01-01" for y in YEARS])),
        (DateFeature(name="c", dim=4), pa.array(YEARS, pa.int64())),
    ],
    ids=lambda value: getattr(value, "kind", None) or str(value.type),
)
def test_a_range_of_numbers_or_dates(tmp_path, feature, column):
    values, items = value_pairs(feature, pa.chunked_array([column]), np.arange(6))
    write_value_lists(tmp_path, "c", values, items)
    filters = ItemFilters(read_filters(tmp_path), np.arange(6), 6)
    for bounds in (
        *({side: bound} for side in ("ge", "gt", "le", "lt") for bound in (1994, 2000.0)),
        {"ge": 1950, "lt": 2010},
        {"gt": 1994, "le": np.int64(2010)},
        {"ge": 2011, "le": 2000},
        {"gt": 1994, "ge": 1950, "lt": 2024, "le": 3000},
    ):
        expected = [
            year is not None
            and all(getattr(operator, name)(year, bound) for name, bound in bounds.items())
            for year in YEARS
        ]
        assert filters.mask({"c": bounds}).tolist() == expected
    assert filters.mask({"c": filters_of_a_request({"ge": 2010})}).tolist()[3:] == [1, 0, 1]
    written = "2010-01-01" if feature.kind == "date" else "2010"
    assert np.flatnonzero(filters.mask({"c": {"ge": written}})).tolist() == [3, 5]
    assert np.flatnonzero(filters.mask({"c": written})).tolist() == [3]
    with pytest.raises(UserError, match=r"no item has '2011'; the nearest is '2010"):
        filters.mask({"c": [1994, 2011]})
    with pytest.raises(UserError, match=r"ge is 'soon'; expected a (number|date)"):
        filters.mask({"c": {"ge": "soon"}})


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"gte": 1}, "'gte' is no bound; expected some of ge, gt, le, lt; did you mean 'ge'?"),
        ({"ge": 1, "max": 2}, "'max' is no bound"),
        ({}, "bounds nothing"),
        ({"ge": True}, "ge is True; expected a number or a date"),
        ({"ge": None}, "ge is None; expected"),
        ({"ge": [1]}, "expected a number or a date"),
        ({"le": float("nan")}, "le is no finite number"),
        ({"le": 10**400}, "le is no finite number"),
    ],
)
def test_what_is_no_range_is_refused_alike_in_python_and_over_http(tmp_path, bounds, words):
    filters = ItemFilters(written(tmp_path, c=[("1", 0)]), np.arange(2), 2)
    for read in (lambda: filters.mask({"c": bounds}), lambda: filters_of_a_request(bounds)):
        with pytest.raises((UserError, ValidationError)) as caught:
            read()
        assert words in str(caught.value)


def test_a_range_of_names_is_refused(tmp_path):
    filters = ItemFilters(written(tmp_path, c=[("Drama", 0)]), np.arange(2), 2)
    with pytest.raises(UserError, match="its values are no numbers, such as 'Drama'; name values"):
        filters.mask({"c": {"ge": 1}})


def filters_of_a_request(values):
    """Returns the values as a request's body has them after it was read."""
    return Filters.model_validate({"where": {"c": values}}).where["c"]
