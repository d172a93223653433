"""Ticks are round numbers, powers of ten, and the starts of days, months and years."""

from datetime import UTC, datetime

import pytest

from pipelines.reports.plots import Axis
from pipelines.reports.ticks import scale_of


def texts(axis: Axis, *values: float, is_padded: bool = False) -> list[str]:
    return [text for _, text in scale_of(axis, values, is_padded=is_padded).ticks]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 1.0), ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        ((3.0, 1152.0), ["500", "1,000"]),
        ((-0.2, 0.31), ["-0.2", "0.0", "0.2"]),
        ((0.17391, 0.2121), ["0.18", "0.19", "0.20", "0.21"]),
        ((5.0, 5.0), ["4.50", "4.75", "5.00", "5.25", "5.50"]),
    ],
)
def test_numbers(values: tuple[float, ...], expected: list[str]) -> None:
    assert texts(Axis(), *values) == expected


def test_the_ends_are_rounded_to_ticks() -> None:
    scale = scale_of(Axis(), (0.17391, 0.2121), is_padded=True)
    assert (scale.low, scale.high) == pytest.approx((0.17, 0.22))
    assert scale.share(0.195) == pytest.approx(0.5)


def test_shares_are_per_cent() -> None:
    assert texts(Axis(scale="share"), 0.0, 0.8) == ["0%", "20%", "40%", "60%", "80%"]


def test_powers_of_ten() -> None:
    axis = Axis(scale="log")
    assert texts(axis, 1e-4, 1.0) == ["0.0001", "0.001", "0.01", "0.1", "1"]
    assert texts(axis, 0.03, 0.4) == ["0.03", "0.4"]
    assert scale_of(axis, (0.01, 1.0)).share(0.1) == pytest.approx(0.5)


def test_categories_are_in_the_middle_of_their_parts() -> None:
    scale = scale_of(Axis(categories=["a", "b"]), ())
    assert [scale.share(at) for at, _ in scale.ticks] == [0.25, 0.75]


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("1997-09-20", "1998-04-22", ["1997-11", "1998-01", "1998-03"]),
        ("2024-01-01", "2024-01-04", ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"]),
        ("2024-01-01T01:30", "2024-01-01T03:00", ["2024-01-01 02:00", "2024-01-01 03:00"]),
        ("1999-06-01", "2023-01-01", ["2000", "2005", "2010", "2015", "2020"]),
        ("2024-01-01T01:10", "2024-01-01T01:20", ["2024-01-01 01:10:00"]),
    ],
)  # fmt: skip
def test_dates(first: str, last: str, expected: list[str]) -> None:
    assert texts(Axis(scale="time"), seconds(first), seconds(last)) == expected
