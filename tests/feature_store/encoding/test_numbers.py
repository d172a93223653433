"""Numbers and dates of every type, offline and in requests."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from feature_store.core.errors import UserError
from feature_store.encoding.context import raw_values, request_table
from feature_store.encoding.numbers import days_of, numbers_of
from feature_store.encoding.scaling import dense_values
from feature_store.kinds import DateFeature, NumericFeature

DAY = 12_539  # 2004-05-01


def test_text_is_read_as_numbers() -> None:
    texts = pa.array(["12", " -1.5e2 ", ".5", "Unknown", "", None, "1,200", "nan", "12 GB"])
    numbers, nan = numbers_of(texts).to_pylist(), float("nan")
    np.testing.assert_equal(numbers, [12, -150, 0.5, nan, nan, None, nan, nan, nan])
    feature = NumericFeature(name="size", dim=4)
    values, present = dense_values(feature, texts.dictionary_encode())
    assert present.tolist() == [True] * 3 + [False] * 6
    assert values[:3, 0].tolist() == [12, -150, 0.5]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([dt.date(2004, 5, 1), None]),
        pa.array([dt.datetime(2004, 5, 1), None], pa.timestamp("ns", "Asia/Tokyo")),
        pa.array(["2004-05-01", None]),
        pa.array(["01-May-2004", "soon"]),
        pa.array(["May 1, 2004", "31/12/1999"]),
        pa.array(["2004-05-01T00:00:00Z", ""]),
        pa.array(["20040501", "0"]),
        pa.array([20040501, None]),
        pa.array([20040501.0, float("nan")]),
        pa.array([200405, 13]),
    ],
)
def test_dates_of_every_type(column: pa.Array) -> None:
    assert days_of(column).to_pylist() == [DAY, None]
    raw = raw_values(DateFeature(name="out", dim=4), column)
    assert days_of(raw).to_pylist() == [DAY, None]


def test_requests_give_dates_as_logs_do() -> None:
    feature = DateFeature(name="out", dim=4)
    for given in ("2004-05-01", 20040501, "1 May 2004"):
        table = request_table((feature,), {"out": given}, 0, np.zeros(2, np.int64))
        assert days_of(table["out"]).to_pylist() == [DAY, DAY]
    for wrong in ("soon", True, 1.5, ["2004"], -3):
        with pytest.raises(UserError, match=r"expected a date, such as 2024-01-31\."):
            request_table((feature,), {"out": wrong}, 0, np.zeros(2, np.int64))


def test_a_log_without_the_column_has_no_dates() -> None:
    feature = DateFeature(name="out", dim=4)
    assert not dense_values(feature, pa.nulls(2))[1].any()
    assert raw_values(feature, pa.nulls(2)).null_count == 2
