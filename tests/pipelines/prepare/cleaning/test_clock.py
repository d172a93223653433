"""`prepare` on times of every form: read as `recsys init` reads them, and said."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rich.console import Console

from feature_store.core.errors import UserError
from pipelines.prepare.prepare import prepare
from pipelines.prepared.reader import Prepared
from pipelines.settings import DataConfig
from tests.support.prepare_logs import AS_OF, IDS_ONLY, LOCAL, examples, write_log

SECONDS = 1_500_000_000 + np.random.default_rng(0).integers(0, 90 * 86_400, 200)
DAYS = SECONDS // 86_400 * 86_400
TIMES = pa.array(SECONDS, pa.timestamp("s"))
DATES = pa.array(DAYS, pa.timestamp("s"))
SPLIT = {
    "kind": "time",
    "validation_from": datetime(2017, 9, 10, tzinfo=UTC),
    "test_from": datetime(2017, 9, 20, tzinfo=UTC),
}


def prepared_log(directory: Path, times: Any, unit: str | None = None) -> tuple[Prepared, str]:
    """Prepares 200 events with these times, and returns what it prints."""
    random = np.random.default_rng(1)
    ids = {name: random.integers(0, 40, 200) for name in ("query_id", "item_id")}
    tables = write_log(directory, events=pa.table(ids | {"timestamp": times}))
    data = DataConfig.model_validate(tables | {"split": SPLIT, "columns": {"timestamp_unit": unit}})
    output = io.StringIO()
    console = Console(file=output, width=1000)
    prepare(data, IDS_ONLY, directory / "out", executor=LOCAL, as_of=AS_OF, console=console)
    return Prepared(directory / "out"), output.getvalue()


def moments(prepared: Prepared) -> list[tuple[Any, ...]]:
    found = [
        (row["query"], row["item"], row["timestamp"], row["split"]) for row in examples(prepared)
    ]
    return sorted(found)


FORMS: dict[str, tuple[Any, str]] = {
    "ms": (pa.array(DAYS * 1000), "milliseconds since 1970"),
    "ISO text with nanoseconds": (pc.strftime(DATES, "%Y-%m-%dT%H:%M:%S.000000000Z"), ""),
    "text of an epoch": (pc.cast(pa.array(DAYS), pa.string()), "seconds since 1970"),
    "digits": (pc.cast(pc.strftime(DATES, "%Y%m%d"), pa.int64()), "digits of year"),
    "month first": (pc.strftime(DATES, "%m/%d/%Y"), "month, day, year"),
    "Apache": (pc.strftime(DATES, "%d/%b/%Y:%H:%M:%S +0000"), ""),
    "days": (pa.array(DAYS // 86_400), "days since 1970"),
    "dates": (DATES.cast(pa.date32()).dictionary_encode(), ""),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    prepared, _ = prepared_log(tmp_path_factory.mktemp("seconds"), pa.array(DAYS), "s")
    found = moments(prepared)
    assert len({row[3] for row in found}) == 3
    return found


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_examples(
    tmp_path: Path, form: str, expected: list[tuple[Any, ...]]
) -> None:
    column, words = FORMS[form]
    prepared, said = prepared_log(tmp_path, column)
    assert moments(prepared) == expected
    assert prepared.manifest.counts.rejected.keys() <= {"events: duplicate"}
    assert (f"times: 'timestamp' is read as {words}" in said) == bool(words)
    assert "2017-07-14 to 2017-10-1" in said or not words


@pytest.mark.parametrize(
    ("times", "odd"),
    [
        (pa.array(np.where(np.arange(200) % 20 == 0, 0, SECONDS)), 10),
        (pa.array(np.where(np.arange(200) % 10 == 0, -1, SECONDS * 1000)), 20),
        (pa.array(["9999-12-31"] * 20 + pc.strftime(TIMES, "%Y-%m-%d").to_pylist()[20:]), 20),
        (pa.array(["n/a"] * 60 + pc.cast(pa.array(SECONDS), pa.string()).to_pylist()[60:]), 60),
    ],
    ids=["zeros", "-1", "9999", "n/a"],
)
def test_what_is_no_time_is_put_aside_and_said(tmp_path: Path, times: pa.Array, odd: int) -> None:
    prepared, said = prepared_log(tmp_path, times)
    assert prepared.manifest.counts.rejected["events: invalid timestamp"] == odd
    assert f"put aside in rejected/: events: invalid timestamp {odd}" in said
    assert (prepared.manifest.first_event or "").startswith("2017-07")
    assert (prepared.manifest.last_event or "").startswith("2017-10")


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (["01/02/2017"] * 200, "which fit day/month/year and month/day/year. Say which: set "),
        (["soon"] * 200, "holds no times that are understood, but 'soon'. Understood are"),
    ],
)
def test_times_that_nothing_tells_are_refused(tmp_path: Path, times: Any, words: str) -> None:
    with pytest.raises(UserError, match="events: column 'timestamp'") as error:
        prepared_log(tmp_path, times)
    assert words in str(error.value)
    assert "data.columns.timestamp_unit" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_unit_that_does_not_fit_is_said(tmp_path: Path) -> None:
    digits = pc.cast(pc.strftime(TIMES, "%Y%m%d"), pa.int64())
    prepared, said = prepared_log(tmp_path, digits, "s")
    assert "WARNING: column 'timestamp': as seconds since 1970, they are 1970-08-22 to" in said
    assert "set data.columns.timestamp_unit to yyyymmdd" in said
    assert prepared.manifest.counts.validation == 0


def test_numbers_that_are_no_dates_are_an_order(tmp_path: Path) -> None:
    prepared, said = prepared_log(tmp_path, pa.array(np.arange(200)))
    assert "numbers that put events in order, because they are no dates, such as 0" in said
    assert prepared.manifest.counts.rejected.keys() <= {"events: duplicate"}
