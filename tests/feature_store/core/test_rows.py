import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.core.rows import decode_rows, encode_rows
from feature_store.offline.views import column_name, feast_names
from feature_store.settings import FeatureStoreConfig

_SCALARS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.bool_(), st.booleans()),
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint16(), st.integers(0, 2**16 - 1)),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.string(), st.text()),
    (pa.decimal128(9, 2), st.decimals(-1000, 1000, places=2)),
    (pa.timestamp("us", "UTC"), st.integers(0, 2**52)),
]


@st.composite
def columns(draw: st.DrawFn, rows: int) -> pa.Array:
    kind, values = draw(st.sampled_from(_SCALARS))
    shape = draw(st.sampled_from(["scalar", "list", "large_list", "fixed_size_list"]))
    element = st.none() | values
    if shape == "scalar":
        return pa.array(draw(st.lists(element, min_size=rows, max_size=rows)), kind)
    size = (2, 2) if shape == "fixed_size_list" else (0, 4)
    lists = st.none() | st.lists(element, min_size=size[0], max_size=size[1])
    types = {
        "list": pa.list_(kind),
        "large_list": pa.large_list(kind),
        "fixed_size_list": pa.list_(kind, 2),
    }
    return pa.array(draw(st.lists(lists, min_size=rows, max_size=rows)), types[shape])


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 6))
    count = draw(st.integers(1, 4))
    return pa.table([draw(columns(rows)) for _ in range(count)], names=list("abcd")[:count])


@given(tables(), st.integers(0, 3))
@settings(deadline=None, max_examples=150)
def test_rows_come_back_as_they_were(table: pa.Table, start: int):
    part = table.slice(start)  # Arrays with an offset are cut from the same buffers.
    rows = encode_rows(part).to_pylist()
    assert decode_rows(rows, part.schema).to_pylist() == part.to_pylist()
    assert decode_rows(rows, part.schema).schema == part.schema
    for index, row in enumerate(rows):
        assert decode_rows([row], part.schema).to_pylist() == part.slice(index, 1).to_pylist()


@given(tables())
@settings(deadline=None, max_examples=50)
def test_equal_rows_have_equal_bytes(table: pa.Table):
    twice = pa.concat_tables([table, table])
    rows = encode_rows(twice).to_pylist()
    assert rows[: len(table)] == rows[len(table) :]


def test_null_empty_and_nan_are_told_apart():
    tags = pa.array([None, [], [None]], pa.list_(pa.string()))
    table = pa.table({"tags": tags, "price": [None, math.nan, -0.0]})
    rows = encode_rows(table).to_pylist()
    assert len(set(rows)) == 3
    back = decode_rows([*rows, None], table.schema)
    assert back["tags"].to_pylist() == [None, [], [None], None]
    price = back["price"].to_pylist()
    assert price[0] is None
    assert math.isnan(price[1])
    assert math.copysign(1, price[2]) == -1
    assert price[3] is None


def test_a_row_is_laid_out_as_described():
    table = pa.table({"n": pa.array([7], pa.int16()), "s": ["é"], "l": [["a", None, "bc"]]})
    lengths = b"\x01\0\0\0" + b"\0\0\0\0" + b"\x02\0\0\0"
    expected = b"\1\1\1" + b"\7\0" + b"\2\0\0\0\xc3\xa9" + b"\3\0\0\x80\1\0\1" + lengths + b"abc"
    assert encode_rows(table).to_pylist() == [expected]


@given(st.lists(st.text(), unique=True, max_size=8))
def test_names_for_feast_are_distinct_and_reversible(names: list[str]):
    found = feast_names(names, ["item_id"])
    assert [column_name(found[name]) for name in names] == names
    lowered = [name.lower() for name in found.values()]
    assert len(set(lowered)) == len(names)
    assert "item_id" not in lowered


def test_plain_names_stay():
    names = ["genres", "release_year", "Genres", "item_id", "no. of/pages", "a_x20"]
    assert list(feast_names(names, ["item_id"]).values()) == [
        "genres",
        "release_year",
        "_x47_x65_x6E_x72_x65_x73",
        "_x69_x74_x65_x6D_x5F_x69_x64",
        "no_x2E_x20of_x2Fpages",
        "a_x5Fx20",
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"online": "redis"}, "needs redis_url"),
        ({"redis_url": "redis://h"}, "has no effect with online sqlite"),
        ({"online": "redis", "redis_url": "http://h"}, "begins with redis://"),
        ({"online": "redis", "redis_url": "redis://u:secret@h"}, "RECSYS_REDIS_PASSWORD"),
    ],
)
def test_settings_that_do_not_agree_are_refused(given: dict[str, str], sentence: str):
    from feature_store.core.errors import UserError
    from recsys.config.load import parse_config

    document = {
        "output": "out",
        "data": {"events": "events"},
        "features": {"item": [{"name": "item_id", "kind": "id", "dim": 4}]},
        "ssl": {"method": "none"},
        "feature_store": given,
    }
    with pytest.raises(UserError, match=sentence) as error:
        parse_config(document)
    assert "secret" not in str(error.value)
    assert FeatureStoreConfig().online == "sqlite"
