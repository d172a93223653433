"""Ids and tokens of columns of any type."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_store.core.arrow import as_type, common_type, id_strings, missing_ids, token_strings
from feature_store.encoding.context import given_columns, raw_values
from feature_store.encoding.tokens import tokens_of
from feature_store.kinds import CategoricalFeature, MultiValuedFeature

NAN, INFINITE = float("nan"), float("inf")
ODD = [NAN, INFINITE, None, -0.0, 42.5]


@pytest.mark.parametrize(
    ("array", "ids", "tokens"),
    [
        (pa.array([3, None, -4], pa.int8()), ["3", None, "-4"], None),
        (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)], None),
        (pa.array(ODD), [None, None, None, "0", None], [None, None, None, "0", "42.5"]),
        (pa.array([2.0**53 - 1, 2.0**53, -(2.0**53)]), [str(2**53 - 1), None, None], ...),
        (pa.array([2.0**24 - 1, 2.0**24], pa.float32()), [str(2**24 - 1), None], ...),
        (pa.array(np.array([2047, 2048], np.float16)), ["2047", None], ...),
        (
            pa.array([Decimal("42.00"), Decimal("2.50"), None], pa.decimal128(9, 2)),
            ["42", None, None],
            ["42", "2.5", None],
        ),
        (pa.array([Decimal(10**37)], pa.decimal128(38, 0)), [str(10**37)], None),
        (pa.array([Decimal(0)], pa.decimal128(38, 10)), ["0"], None),
        (pa.array([b"a", b"\xff", b"\xc3\xa9"]), ["a", None, "é"], None),
        (pa.array([b"a", None], pa.large_binary()), ["a", None], None),
        (
            pa.array(["42", "042", "42.0", "nan", "", " \t", "NULL", "null1", "none"]),
            ["42", "042", "42.0", None, None, None, None, "null1", "none"],
            ["42", "042", "42.0", "nan", "", " \t", "NULL", "null1", "none"],
        ),
        (pa.nulls(1), [None], None),
        (pa.chunked_array([pa.array([1.0]), pa.array([2.0])]), ["1", "2"], None),
    ],
    ids=str,
)
def test_ids_and_tokens(array: Any, ids: list[str | None], tokens: Any) -> None:
    assert id_strings(array).to_pylist() == ids
    if tokens is not ...:
        assert token_strings(array).to_pylist() == (ids if tokens is None else tokens)


def test_what_is_missing_and_what_is_invalid() -> None:
    assert missing_ids(pa.array(ODD)).to_pylist() == [True, False, True, False, False]
    assert missing_ids(pa.array([b"\xff", b"None", None])).to_pylist() == [False, True, True]
    assert missing_ids(pa.array(["Null", "NONE", "NAN", "nano"])).to_pylist() == [True] * 3 + [
        False
    ]
    encoded = pa.array(["a", "nan", None]).dictionary_encode()
    assert missing_ids(encoded).to_pylist() == [False, True, True]


CATEGORY = CategoricalFeature(name="c", dim=4)
LABELS = MultiValuedFeature(name="c", dim=4)


@pytest.mark.parametrize("given", [3, 3.0, "3"])
def test_a_category_may_be_a_number_in_files_and_requests(given: Any) -> None:
    columns = [pa.array([3], pa.int32()), pa.array([3.0]), pa.array(["3"]), pa.array([b"3"])]
    for column in columns:
        assert tokens_of(CATEGORY, column)[0].to_pylist() == ["3"]
        assert raw_values(CATEGORY, column).to_pylist() == ["3"]
        lists = pa.ListArray.from_arrays([0, 1], column)
        assert tokens_of(LABELS, lists)[0].to_pylist() == ["3"]
        assert raw_values(LABELS, lists).to_pylist() == [["3"]]
    (request,) = given_columns((CATEGORY,), {"c": given}, 1, "features").values()
    assert request.to_pylist() == ["3"]
    (request,) = given_columns((LABELS,), {"c": [given]}, 1, "features").values()
    assert request.to_pylist() == [["3"]]


def test_absent_and_odd_categories() -> None:
    values = pa.array([2.5, NAN, None, 1e300])
    tokens, lengths = tokens_of(CATEGORY, values)
    assert (tokens.to_pylist(), lengths.tolist()) == (["2.5", "1e+300"], [1, 0, 0, 1])
    request = given_columns((CATEGORY,), {"c": 2.5}, 2, "features")["c"]
    assert request.to_pylist() == ["2.5", "2.5"]
    for feature in (CATEGORY, LABELS):
        assert tokens_of(feature, pa.nulls(2))[1].tolist() == [0, 0]
        assert raw_values(feature, pa.nulls(2)).to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.uint64(), pa.int8(), pa.decimal128(20, 0)),
        (pa.int64(), pa.float32(), pa.float64()),
        (pa.null(), pa.string(), pa.string()),
        (pa.int64(), pa.string(), pa.string()),
        (pa.bool_(), pa.string(), pa.string()),
        (pa.bool_(), pa.int64(), None),
        (pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.timestamp("us"), pa.timestamp("s", "Asia/Tokyo"), pa.timestamp("us", "UTC")),
        (pa.date32(), pa.timestamp("ns"), pa.timestamp("ns")),
        (pa.timestamp("s"), pa.int64(), None),
        (pa.list_(pa.int8()), pa.list_(pa.float64(), 2), pa.list_(pa.float64())),
        (pa.list_(pa.int8()), pa.int8(), None),
    ],
    ids=str,
)
def test_common_types(first: pa.DataType, second: pa.DataType, expected: Any) -> None:
    assert common_type(first, second) == common_type(second, first) == expected


def test_values_of_a_common_type_are_the_same() -> None:
    assert as_type(pa.array([1.0, 2.5]), pa.string()).to_pylist() == ["1", "2.5"]
    assert as_type(pa.array([[1], None]), pa.list_(pa.string())).to_pylist() == [["1"], None]
    assert as_type(pa.nulls(1), pa.list_(pa.string())).to_pylist() == [None]
    with pytest.raises(pa.ArrowInvalid):
        as_type(pa.array([2**53 + 1]), pa.float64())
