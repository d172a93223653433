"""Dates of items in every form, and numbers beside text, as `recsys init` proposes them."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.logs.init_logs import init, log, said

ITEMS = 240
DAYS = [dt.date(1996, 1, 1) + dt.timedelta(days=37 * i % 8000) for i in range(ITEMS)]
SECONDS = np.array([(day - dt.date(1970, 1, 1)).days * 86_400 for day in DAYS])


def feature(directory: Path, name: str, values: Any) -> tuple[Any, str]:
    """Returns the feature that a column of items becomes, and what is said on the terminal."""
    items = {"item_id": range(ITEMS), "colour": ["red", "blue"] * (ITEMS // 2), name: values}
    config, text = said(directory, log(items=ITEMS), items)
    found = {f.name: f for f in config.features.item}
    return found.get(name), text


@pytest.mark.parametrize(
    "values",
    [
        pa.array(DAYS),
        pa.array(SECONDS * 1_000_000, pa.timestamp("us", "UTC")),
        [str(day) for day in DAYS],
        [f"{day:%d-%b-%Y}" for day in DAYS],
        [f"{day:%b %d, %Y}" if i % 12 else "TBA" for i, day in enumerate(DAYS)],
        [f"{day:%Y%m%d}" for day in DAYS],
        [int(f"{day:%Y%m%d}") for day in DAYS],
        [str(day) if i % 3 else None for i, day in enumerate(DAYS)],
    ],
)
def test_dates_become_ages(tmp_path: Path, values: Any) -> None:
    found, text = feature(tmp_path, "premiere", values)
    assert found.kind == "date"
    document = (tmp_path / "config.yaml").read_text()
    assert "1996-01-" in document
    if "TBA" in pa.array(values).to_pylist():
        assert "premiere of items is read in part" in text
        assert "no dates, such as 'TBA'; these are absent" in text


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1000), ("ns", 10**9)])
def test_seconds_are_numbers_whatever_their_number(tmp_path: Path, unit: str, factor: int) -> None:
    few = (SECONDS[:30].repeat(8) * factor).tolist()
    found, _ = feature(tmp_path, "added_at", few)
    assert found.kind == "numeric"  # Not one of thirty categories.
    assert "seconds since 1970, 1996-01-" in (tmp_path / "config.yaml").read_text()


def test_dates_that_may_be_read_in_two_ways_are_said(tmp_path: Path) -> None:
    found, text = feature(tmp_path, "out", [f"{day:%m/%d/%Y}" for day in DAYS])
    assert found is None
    assert "1 of 2 columns of items are no features: out (dates such as 01/01/1996" in text
    assert "write them as 2024-01-31" in text


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("year", [str(1990 + i % 20) for i in range(ITEMS)]),
        ("code", [10_000_000 + i for i in range(ITEMS)]),
        ("runtime", [60 + i % 150 for i in range(ITEMS)]),
        ("version", [f"{1 + i % 3}.{i % 7}" for i in range(ITEMS)]),
        ("at", ["home", "school", "work"] * (ITEMS // 3)),
    ],
)
def test_other_values_are_no_dates(tmp_path: Path, name: str, values: Any) -> None:
    found, _ = feature(tmp_path, name, values)
    assert found is None or found.kind != "date"


def test_numbers_beside_one_word_are_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    counts = np.exp(rng.normal(3, 1.5, ITEMS)).round().astype(int)
    found, text = feature(
        tmp_path, "episodes", [str(n) if i % 8 else "Unknown" for i, n in enumerate(counts)]
    )
    assert (found.kind, found.scaling) == ("numeric", "log")
    assert "episodes of items is read in part" in text
    assert "12 % no numbers, such as 'Unknown'" in text
    sizes = ["S", "M", "38", "40"] * (ITEMS // 4)
    assert feature(tmp_path, "size", sizes)[0].kind == "categorical"
    codes = [f"{4_000_000_000_000 + 7 * i}" for i in range(ITEMS)]
    assert feature(tmp_path, "barcode", codes)[0] is None


def test_ages_that_nobody_has_do_not_stretch_the_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ages = rng.normal(35, 8, 4000).round(1)
    events = log(queries=4000, each=1)
    users = {"query_id": range(4000), "age": ages}
    scalings = [
        {f.name: f for f in init(tmp_path, events, None, users).features.query}["age"].scaling
    ]
    users["age"] = np.where(np.arange(4000) == 7, 140, ages)
    config = init(tmp_path, events, None, users)
    scalings.append({f.name: f for f in config.features.query}["age"].scaling)
    assert scalings == ["standard", "quantile"]
