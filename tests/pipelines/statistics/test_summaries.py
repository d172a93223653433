"""Summaries: merged parts equal the whole; estimates keep within their stated error."""

import datetime
import decimal
import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from feature_store.core.hashing import hash_texts
from pipelines.settings import DataConfig
from pipelines.statistics.histograms import (
    KEPT_BINS,
    KEPT_PERIODS,
    Periods,
    number_keys,
    numbers_of_keys,
)
from pipelines.statistics.sketches import KEPT_HASHES, KEPT_VALUES, Distinct
from pipelines.statistics.summaries import (
    ColumnSummary,
    Summary,
    merge,
    summarise,
    summarise_column,
    summarise_events,
)

ADAPTER = TypeAdapter(Summary)
SECOND = 1_000_000
NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32) | st.integers(-5, 5).map(float)


def log(seed: int, rows: int) -> pa.Table:
    """Draws columns of few values, of many, of numbers on many scales, and of times."""
    random = np.random.default_rng(seed)
    times = 1_500_000_000 * SECOND + random.integers(0, 10**9, rows) * SECOND
    lists = [[f"t{j}" for j in random.integers(0, 9, n)] for n in random.integers(0, 4, rows)]
    return pa.table(
        {
            "user": pa.array([f"u{i}" for i in random.zipf(1.2, rows) % 5000]).dictionary_encode(),
            "rating": pa.array(random.integers(1, 6, rows), mask=random.random(rows) < 0.1),
            "price": np.exp(3 * random.normal(size=rows)) - 1,
            "time": pa.array(times, pa.timestamp("us", "UTC")),
            "tags": pa.array([None if i % 7 == 0 else tags for i, tags in enumerate(lists)]),
        }
    )


def cut(table: pa.Table, ends: list[int]) -> list[pa.Table]:
    bounds = [0, *sorted(min(end, len(table)) for end in ends), len(table)]
    return [table.slice(a, b - a) for a, b in pairwise(bounds)]


def assert_same(merged: ColumnSummary, whole: ColumnSummary, within: bool = False) -> None:
    """Asserts equality, of moments up to rounding; `within` leaves out the top values."""
    for name in ("type", "kind", "rows", "nulls", "empty", "values", "invalid", "distinct"):
        assert getattr(merged, name) == getattr(whole, name), name
    assert merged.periods == whole.periods
    if not within:
        assert merged.top == whole.top
    assert (merged.numbers is None) == (whole.numbers is None)
    if merged.numbers and whole.numbers:
        for name in ("count", "smallest", "largest", "histogram"):
            assert getattr(merged.numbers, name) == getattr(whole.numbers, name), name
        spread = max(abs(whole.numbers.smallest), abs(whole.numbers.largest))
        assert merged.numbers.mean == pytest.approx(whole.numbers.mean, abs=1e-9 * spread)
        assert merged.numbers.deviation == pytest.approx(
            whole.numbers.deviation, rel=1e-6, abs=1e-7 * spread
        )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.lists(st.integers(0, 4000), max_size=6), st.randoms())
def test_parts_merge_to_the_whole(seed: int, ends: list[int], order) -> None:
    table = log(seed, 4000)
    parts = [summarise(part) for part in cut(table, ends)]
    order.shuffle(parts)
    merged, whole = merge(parts), summarise(table)
    assert merged.rows == whole.rows == 4000
    for name in table.column_names:
        assert_same(merged.columns[name], whole.columns[name], within=name in ("user", "price"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | NUMBERS, max_size=60), st.lists(st.integers(0, 60), max_size=3))
def test_any_numbers_merge(values: list[float | None], ends: list[int]) -> None:
    table = pa.table({"x": pa.array(values, pa.float64())})
    merged = merge([summarise(part) for part in cut(table, ends)]).columns["x"]
    assert_same(merged, summarise(table).columns["x"])
    finite = [v for v in values if v is not None and np.isfinite(v)]
    assert merged.invalid == sum(v is not None for v in values) - len(finite)
    if finite:
        assert merged.numbers is not None
        assert (merged.numbers.smallest, merged.numbers.largest) == (min(finite), max(finite))
        assert merged.distinct is not None
        assert merged.distinct.count == len(set(finite))


def test_the_order_of_parts_changes_not_a_bit() -> None:
    parts = [summarise(part) for part in cut(log(1, 6000), [1000, 1500, 4000, 4100])]
    assert merge(parts) == merge(parts[::-1])


def test_a_summary_survives_json_and_is_small() -> None:
    table = log(2, 50_000)
    written = ADAPTER.dump_json(summarise(table))
    assert ADAPTER.validate_json(written) == summarise(table)
    json.loads(written, parse_constant=pytest.fail)  # JSON has no NaN and no infinity.
    assert len(written) < 30_000 * table.num_columns


@pytest.mark.parametrize("distinct", [1, 1000, KEPT_HASHES - 1, 20_000, 300_000])
def test_distinct_values(distinct: int) -> None:
    column = summarise_column(pa.array([f"id-{i}" for i in range(distinct)] * 2))
    assert column.distinct is not None
    error = column.distinct.error
    assert (error == 0) == (distinct < KEPT_HASHES)
    assert abs(column.distinct.count - distinct) <= 4 * error * distinct


def test_values_of_one_column_that_another_lacks() -> None:
    def of(start: int, end: int) -> Distinct:
        return Distinct.of(hash_texts(pa.array([str(i) for i in range(start, end)], pa.string())))

    assert of(0, 100).not_in(of(50, 500)) == 50
    assert of(0, 0).not_in(of(0, 9)) == 0
    assert of(0, 10_000).not_in(of(0, 10_000)) == 0
    assert of(0, 40_000).not_in(of(10_000, 50_000)) == pytest.approx(10_000, rel=0.3)
    assert of(0, 500).not_in(of(250, 90_000)) == pytest.approx(250, abs=250)


@pytest.mark.parametrize("pieces", [1, 7])
def test_top_values_keep_their_error(pieces: int) -> None:
    values = np.random.default_rng(3).zipf(1.3, 60_000) % 10_000
    table = pa.table({"x": [f"v{i}" for i in values]})
    ends = [len(table) * i // pieces for i in range(1, pieces)]
    top = merge([summarise(part) for part in cut(table, ends)]).columns["x"].top
    assert top is not None
    assert len(top.counts) <= KEPT_VALUES
    assert top.error <= 2 * len(table) / (KEPT_VALUES + 1)
    for value, count in enumerate(np.bincount(values)):
        found = top.counts.get(f"v{value}")
        if found is None:
            assert count <= top.error
        else:
            assert found <= count <= found + top.error
    assert next(iter(top.counts)) == "v1"


def test_events_have_the_names_of_the_log() -> None:
    cleaned = pa.table(
        {
            "query": pa.array(["a", "b", "a"]).dictionary_encode(),
            "item": ["x", "x", "y"],
            "time": pa.array([0, 1, 2 * SECOND]),
            "weight": pa.array([1, 1, 3], pa.float32()),
            "row": pa.array([0, 1, 2]),
        }
    )
    names = {"query_id": "user", "timestamp": "at", "weight": "stars"}
    found = summarise_events(cleaned, DataConfig.model_validate({"events": "e", "columns": names}))
    assert list(found.columns) == ["user", "item_id", "at", "weight"]
    assert found.columns["user"].top.counts == {"a": 2, "b": 1}
    assert found.columns["at"].periods == Periods("h", (0,), (3,))
    silent = {"timestamp": None}
    config = {"events": "e", "columns": silent, "split": {"kind": "random_hash"}}
    config["history"] = {"kind": "others"}
    found = summarise_events(cleaned, DataConfig.model_validate(config))
    assert list(found.columns) == ["query_id", "item_id"]


def test_unique_ids_are_no_top_values() -> None:
    top = summarise_column(pa.array([f"id-{i}" for i in range(1000)])).top
    assert top is not None
    assert (top.counts, top.error) == ({}, 1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_quantiles_lie_in_their_bin(scale: float) -> None:
    random = np.random.default_rng(4)
    numbers = scale * np.concatenate([random.normal(size=30_000), random.lognormal(2, 2, 30_000)])
    found = summarise_column(pa.array(numbers)).numbers
    assert found is not None
    assert len(found.histogram.counts) <= KEPT_BINS
    width = 2.0 ** (found.histogram.shift - 52)  # Width of a bin, in octaves.
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        exact = np.quantile(numbers, share)
        assert found.quantile(share) == pytest.approx(exact, rel=2 * width, abs=0.01 * scale)
    assert found.quantile(0) == pytest.approx(numbers.min(), rel=2 * width)
    assert found.quantile(1) == pytest.approx(numbers.max(), rel=2 * width)


def test_moments_and_quantiles_of_few_numbers_are_exact() -> None:
    found = summarise_column(pa.array([1, 2, 2, 3, 7, None])).numbers
    assert found is not None
    assert (found.mean, found.deviation) == (3.0, pytest.approx(np.std([1, 2, 2, 3, 7])))
    assert [found.quantile(share) for share in (0, 0.2, 0.5, 0.8, 1)] == [1, 1, 2, 3, 7]


def test_keys_keep_the_order_of_numbers() -> None:
    numbers = np.array([-1e100, -2.5, -1e-300, -0.0, 0.0, 1e-300, 1.0, np.nextafter(1, 2), 1e100])
    keys = number_keys(numbers)
    assert (np.diff(keys)[[0, 1, 2, 4, 5, 6, 7]] > 0).all()
    assert keys[3] == keys[4] == 0
    np.testing.assert_array_equal(numbers_of_keys(keys), numbers)


@pytest.mark.parametrize(
    ("days", "unit"), [(2, "h"), (300, "D"), (4000, "M"), (40_000, "Y"), (400_000, "1000Y")]
)
def test_periods_are_as_short_as_they_may(days: int, unit: str) -> None:
    times = np.arange(0, days * 24, 7) * 3_600 * SECOND - 5 * 86_400 * SECOND
    found = Periods.of(times)
    assert (found.unit, sum(found.counts)) == (unit, len(times))
    assert len(found.starts) <= KEPT_PERIODS
    assert Periods.merged([Periods.of(times[::2]), Periods.of(times[1::2])]) == found
    starts = np.array(found.starts).astype(f"datetime64[{unit}]").astype("datetime64[us]")
    assert starts[0] <= np.datetime64(int(times[0]), "us") < starts[1]


EXOTIC = {
    "null": pa.nulls(4),
    "all null": pa.array([None] * 4, pa.string()),
    "no rows": pa.array([], pa.list_(pa.float32())),
    "nan": pa.array([float("nan"), float("inf"), None, 1e300]),
    "half": pa.array([1, 2, None], pa.float16()),
    "unsigned": pa.array([2**64 - 1, 0], pa.uint64()),
    "decimal": pa.array([decimal.Decimal("1.25"), None], pa.decimal128(9, 2)),
    "decimal256": pa.array([decimal.Decimal("1.25"), None], pa.decimal256(50, 2)),
    "boolean": pa.array([True, None, False, True]),
    "date": pa.array([datetime.date(1200, 1, 1), None, datetime.date(2024, 2, 29)]),
    "date64": pa.array([datetime.date(2024, 2, 29)], pa.date64()),
    "zone": pa.array([0, 1], pa.timestamp("ns", "Asia/Kolkata")),
    "far": pa.array([-(2**62), 2**62, 0], pa.timestamp("us")),
    "clock": pa.array([datetime.time(3), None]),
    "duration": pa.array([datetime.timedelta(1)]),
    "binary": pa.array([b"\xff", None]),
    "view": pa.array(["a", None], pa.string_view()),
    "list of views": pa.array([["a", None]], pa.list_(pa.string_view())),
    "list view": pa.array([["a"], None], pa.list_view(pa.string())),
    "large": pa.array(["a", None], pa.large_string()),
    "struct": pa.array([{"a": 1}, None]),
    "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int32())),
    "nested": pa.array([[["a"], []], [], None]),
    "structs": pa.array([[{"a": 1}], []]),
    "list": pa.array([["a", None], [], None], pa.large_list(pa.string())),
    "empty lists": pa.array([[], []], pa.list_(pa.string())),
    "null elements": pa.array([[None], []], pa.list_(pa.null())),
    "vectors": pa.array([[3.0, 4.0], None, [float("nan"), 1.0]], pa.list_(pa.float32(), 2)),
    "ragged": pa.array([[3.0, 4.0, None], [], [3.0, 4.0]]),
    "dictionary": pa.array(["a", "b", None, "a"]).dictionary_encode(),
    "numbers' dictionary": pa.array([1.5, None, 1.5]).dictionary_encode(),
    "null in dictionary": pa.DictionaryArray.from_arrays([0, 1, None], pa.array(["a", None])),
    "unused": pa.array(["a", "b", "c"]).dictionary_encode().slice(2),
    "lists of dictionary": pa.ListArray.from_arrays(
        [0, 2, 3], pa.array(["a", "b", "a"]).dictionary_encode()
    ),
    "run ends": pa.RunEndEncodedArray.from_arrays([2, 3], ["a", None]),
    "uuid": pa.array([bytes(16)], pa.uuid()),
    "chunks": pa.chunked_array([["a"], [], ["b", None]]),
    "no chunks": pa.chunked_array([], pa.string()),
    "dictionaries": pa.chunked_array(
        [pa.array(["a"]).dictionary_encode(), pa.array(["b", "a"]).dictionary_encode()]
    ),
    "slice": pa.array([["x"], ["a"], None, ["b", "c"]]).slice(1),
}


@pytest.mark.parametrize("column", EXOTIC.values(), ids=EXOTIC.keys())
def test_exotic_columns(column: pa.Array) -> None:
    found = summarise(pa.table({"x": column}))
    assert found.columns["x"].rows == len(column)
    assert ADAPTER.validate_json(ADAPTER.dump_json(found)) == found
    twice = merge([found, found]).columns["x"]
    assert (twice.rows, twice.nulls) == (2 * len(column), 2 * found.columns["x"].nulls)


def test_nulls_empty_lists_and_values() -> None:
    def counts(name: str) -> tuple[int, int, int]:
        found = summarise_column(EXOTIC[name])
        return found.nulls, found.empty, found.values

    assert counts("all null") == (4, 0, 0)
    assert counts("list") == (1, 1, 1)
    assert counts("nested") == (1, 1, 2)
    assert counts("null in dictionary") == (2, 0, 1)
    assert counts("run ends") == (1, 0, 2)
    assert counts("slice") == (1, 0, 3)
    assert summarise_column(EXOTIC["unused"]).top.counts == {"c": 1}
    assert summarise_column(EXOTIC["dictionaries"]).top.counts == {"a": 2, "b": 1}
    assert summarise_column(EXOTIC["boolean"]).top.counts == {"true": 2, "false": 1}
    norms = summarise_column(EXOTIC["vectors"])
    assert (norms.kind, norms.invalid, norms.numbers.count, norms.numbers.mean) == (
        "vectors", 1, 1, 5.0,
    )  # fmt: skip
    ragged = summarise_column(EXOTIC["ragged"])  # A vector with a null has no norm.
    assert (ragged.empty, ragged.numbers.count, ragged.numbers.mean) == (1, 1, 5.0)


def test_an_empty_part_and_a_part_of_nulls_say_nothing_of_the_type() -> None:
    parts = [pa.nulls(3), pa.array([], pa.string()), pa.array(["a", "b"])]
    found = merge([summarise(pa.table({"x": part})) for part in parts]).columns["x"]
    assert (found.type, found.kind, found.nulls, found.values) == ("string", "tokens", 3, 2)
    assert merge([]) == Summary(0, {})


def test_parts_of_different_types_keep_what_they_share() -> None:
    parts = [pa.array([1, 2]), pa.array(["a", None])]
    found = merge([summarise(pa.table({"x": part})) for part in parts]).columns["x"]
    assert (found.type, found.kind, found.nulls) == ("int64 or string", "other", 1)
    assert found.top is None


def test_long_texts_are_cut() -> None:
    top = summarise_column(pa.array(["x" * 500, "x" * 600, "y"])).top
    assert top is not None
    assert top.counts == {"x" * 99 + "…": 2, "y": 1}
