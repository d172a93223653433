"""New files that are unlike those before are refused, and usual ones are not."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from feature_store.schema import FeatureSchema
from pipelines.logs.rejected_files import RefusedLogError
from pipelines.logs.tables import file_marks, list_files
from pipelines.prepare.prepare import prepare
from pipelines.prepared.manifest import PreparedManifest
from pipelines.quality.news import Known
from pipelines.settings import DataConfig
from tests.support.nightly.daily_log import (
    EVENTS_OF_DAY,
    QUERIES,
    events_of,
    midnight,
    write_day,
    write_days,
)
from tests.support.prepare_logs import LOCAL, items_table, write_log

FEATURES = FeatureSchema.model_validate(
    {
        "item": [{"name": "item_id", "kind": "id", "dim": 4}],
        "context": [{"name": "device", "kind": "categorical", "dim": 4}],
    }
)
DAYS = 9
QUIET = Console(quiet=True)


def data_of(directory: Path, **keys: Any) -> DataConfig:
    split = {"kind": "time", "validation": "2d", "test": "2d"}
    return DataConfig.model_validate({"events": str(directory / "events"), "split": split, **keys})


class Log:
    """A log of nine days that were prepared, to which a tenth is added."""

    def __init__(self, directory: Path, features: FeatureSchema = FEATURES, **keys: Any) -> None:
        self.events, self.output = directory / "events", directory / "out"
        self.data, self.features = data_of(directory, **keys), features
        write_days(self.events, 1, DAYS)
        self.prepare(DAYS)

    def known(self) -> Known:
        marks = file_marks(list_files(self.data)).values()
        read = frozenset(mark for of_table in marks for mark in of_table.values())
        return Known(read, midnight(DAYS))

    def prepare(self, day: int, known: Known | None = None, **options: Any) -> PreparedManifest:
        return prepare(
            self.data,
            self.features,
            self.output,
            executor=LOCAL,
            as_of=midnight(day),
            known=known,
            console=QUIET,
            **options,
        )

    def refusal(self, known: Known) -> RefusedLogError:
        """Returns why the tenth day is refused; the data of the ninth stay."""
        before = (self.output / "manifest.json").read_bytes()
        with pytest.raises(RefusedLogError) as error:
            self.prepare(DAYS + 1, known)
        assert "\n" not in str(error.value)
        assert (self.output / "manifest.json").read_bytes() == before
        return error.value


def bots(share: float) -> pa.Table:
    """Returns a day on which one of many queries has a share of all events."""
    table, rows = events_of(DAYS + 1), round(share * EVENTS_OF_DAY)
    queries = ["q1"] * rows + table["query_id"].to_pylist()[rows:]
    return table.set_column(0, "query_id", pa.array(queries))


DAY = events_of(DAYS + 1)
BAD = {
    "empty": (DAY.slice(0, 0), "is new, but without an event that counts; complete the log"),
    "without ids": (
        DAY.set_column(0, "query_id", pa.nulls(len(DAY), pa.string())),
        "without an event that counts, but 150 faulty rows",
    ),
    "mostly faulty": (
        DAY.set_column(1, "item_id", pa.array(["i1"] * 40 + [None] * 110)),
        "110 of 150 rows are faulty, expected at most 50%",
    ),
    "tenfold": (
        events_of(DAYS + 1, 10 * EVENTS_OF_DAY),
        "times as many as before, expected at most 5 times; mend it, or raise data.quality.max_g",
    ),
    "a feature is null": (
        DAY.set_column(3, "device", pa.nulls(len(DAY), pa.string())),
        "100% of 'device' is missing, before 0%, expected at most 50% more",
    ),
    "a feature is renamed": (
        DAY.rename_columns(["query_id", "item_id", "timestamp", "gadget"]),
        "100% of 'device' is missing",
    ),
    "a bot": (bots(0.2), "one query has 2"),
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(tmp_path_factory.mktemp("news"))


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_day_is_refused_with_its_file(log: Log, kind: str) -> None:
    known = log.known()
    table, sentence = BAD[kind]
    write_day(log.events, DAYS + 1, table)
    try:
        error = log.refusal(known)
        assert sentence in str(error)
        assert [Path(file).parent.name for file in error.files] == ["date=2026-11-10"]
        assert "q1" not in str(error)
    finally:
        (log.events / "date=2026-11-10" / "part.parquet").unlink()


def test_usual_days_are_not_refused(tmp_path: Path) -> None:
    """Adds busy days, which also differ from each other, and a small one."""
    log = Log(tmp_path)
    for day, table in (
        (DAYS + 1, events_of(DAYS + 1, 3 * EVENTS_OF_DAY)),
        (DAYS + 2, events_of(DAYS + 2, EVENTS_OF_DAY // 5)),
        (DAYS + 3, events_of(DAYS + 3)),
    ):
        known = log.known()
        write_day(log.events, day, table)
        manifest = log.prepare(day, known)
        assert manifest.last_event is not None
        assert manifest.last_event.startswith(f"2026-11-{day:02}")
    assert QUERIES > 50  # So that no query has a tenth of the events by chance.


def test_files_are_passed_over_until_they_are_mended(tmp_path: Path) -> None:
    log = Log(tmp_path)
    known = log.known()
    write_day(log.events, DAYS + 1, BAD["tenfold"][0])
    bad = set(log.known().marks - known.marks)
    write_day(log.events, DAYS + 2, events_of(DAYS + 2))
    manifest = log.prepare(DAYS + 2, known, passed_over=bad)
    assert manifest.passed_over == tuple(bad)
    assert manifest.counts.events_read == 10 * EVENTS_OF_DAY
    write_day(log.events, DAYS + 1, DAY)
    assert log.prepare(DAYS + 2, known, passed_over=bad).counts.events_read == 11 * EVENTS_OF_DAY


def test_days_that_are_filled_in_are_judged_by_their_time(tmp_path: Path) -> None:
    """Judges a day whose file was there before, but after the time that counted."""
    log = Log(tmp_path)
    write_day(log.events, DAYS + 1, BAD["tenfold"][0])
    log.prepare(DAYS)
    assert "times as many as before" in str(log.refusal(log.known()))


def test_later_events_wait_and_are_not_faulty(tmp_path: Path) -> None:
    log = Log(tmp_path, quality={"max_rejected_fraction": 0.0})
    write_days(log.events, DAYS + 1, DAYS + 3)
    manifest = log.prepare(DAYS)
    assert manifest.counts.rejected["events: future timestamp"] == 3 * EVENTS_OF_DAY
    assert not list((log.output / "rejected").rglob("*.parquet"))
    assert log.prepare(DAYS + 3).counts.rejected == {}


def test_a_feature_of_the_items_that_is_suddenly_null_is_refused(tmp_path: Path) -> None:
    features = FeatureSchema.model_validate(
        {
            "item": [
                {"name": "item_id", "kind": "id", "dim": 4},
                {"name": "price", "kind": "numeric", "dim": 4},
            ]
        }
    )
    items = items_table(180)
    paths = write_log(tmp_path, items=items)
    log = Log(tmp_path, features, **paths)
    known = log.known()
    write_log(tmp_path, items=items.set_column(5, "price", pa.nulls(180, pa.float64())))
    error = log.refusal(known)
    assert str(error).startswith("items: 100% of 'price' is missing, before 14%")
    assert error.files == ()
    assert datetime.fromisoformat(log.prepare(DAYS).as_of) == midnight(DAYS)
