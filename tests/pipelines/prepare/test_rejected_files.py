"""Files of the events that cannot be used: refused, or put aside if the configuration says so."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipelines.executor import RayExecutor
from pipelines.prepare.prepare import prepare
from pipelines.prepared.manifest import PreparedManifest
from pipelines.settings import DataConfig
from tests.support.prepare_logs import IDS_ONLY, LOCAL, random_events, refusal, run


@pytest.fixture
def events(tmp_path: Path) -> Path:
    directory = tmp_path / "events"
    directory.mkdir()
    for day in range(3):
        pq.write_table(random_events(day, rows=100), directory / f"{day}.parquet")
    return directory


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damage_inside(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes(600) + whole[700:])


def without_items(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["item_id"]), path)


def with_other_case(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.rename_columns(["QUERY_ID", *table.column_names[1:]]), path)


def with_times_of_booleans(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(2, "timestamp", pa.array([True] * len(table))), path)


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


FAULTS = {
    "cannot be read": [cut_off, damage_inside, link_to_nothing, lambda path: path.write_bytes(b"")],
    "has no column 'item_id'": [without_items],
    "has 'QUERY_ID' in place of 'query_id'": [with_other_case],
    "has bool in column 'timestamp', expected whole numbers": [with_times_of_booleans],
}


@pytest.mark.parametrize(
    ("spoil", "reason"), [(spoil, reason) for reason, some in FAULTS.items() for spoil in some]
)
def test_a_file_is_refused_or_put_aside(
    tmp_path: Path, events: Path, spoil: Any, reason: str
) -> None:
    path = events / "1.parquet"
    spoil(path)
    text = refusal(tmp_path, IDS_ONLY, events=str(events))
    assert str(path) in text
    assert text.endswith(", or put it aside by data.quality.max_rejected_files: 1.")
    quality = {"max_rejected_files": 1}
    manifest = run(tmp_path / "out", IDS_ONLY, events=str(events), quality=quality).manifest
    assert manifest.counts.events_read == 200
    assert list(manifest.rejected_files) == [str(path)]
    assert manifest.rejected_files[str(path)].startswith(reason)
    assert str(path) not in manifest.sources["events"]


def test_a_file_that_was_put_aside_is_named_and_read_when_it_is_mended(
    tmp_path: Path, events: Path
) -> None:
    path = events / "1.parquet"
    whole = path.read_bytes()
    damage_inside(path)
    settings: dict[str, Any] = {"events": str(events), "quality": {"max_rejected_files": 1}}
    console = Console(record=True, width=300)
    data = DataConfig.model_validate(settings)

    def prepared() -> tuple[PreparedManifest, str]:
        manifest = prepare(data, IDS_ONLY, tmp_path / "out", executor=LOCAL, console=console)
        return manifest, console.export_text()

    manifest, said = prepared()
    assert "put aside: 1 of 3 files of the events" in said
    quality = json.loads((tmp_path / "out" / "statistics" / "quality.json").read_text())
    assert quality["rejected_files"] == manifest.rejected_files != {}
    page = (tmp_path / "out" / "statistics" / "quality.html").read_text()
    assert "Files that were put aside" in page
    again = prepared()[1]
    assert "is up to date" in again
    assert f"put aside: {path} cannot be read" in again
    path.write_bytes(whole)
    mended, said = prepared()
    assert "200 events are read already" in said
    assert (mended.counts.events_read, mended.rejected_files) == (300, {})
    assert run(tmp_path / "fresh", IDS_ONLY, **settings).manifest.counts == mended.counts


def test_more_files_than_allowed(tmp_path: Path, events: Path) -> None:
    cut_off(events / "0.parquet")
    damage_inside(events / "1.parquet")
    text = refusal(tmp_path, IDS_ONLY, events=str(events), quality={"max_rejected_files": 1})
    assert text.startswith("events: 2 of 3 files cannot be used, data.quality.max_rejected_files")
    cut_off(events / "2.parquet")
    text = refusal(tmp_path, IDS_ONLY, events=str(events), quality={"max_rejected_files": 9})
    assert text.startswith("events: no file can be used: ")


def test_damage_that_a_worker_finds(tmp_path: Path, events: Path, ray_session: None) -> None:
    damage_inside(events / "1.parquet")
    settings = {"events": str(events), "quality": {"max_rejected_files": 1}}
    prepared = run(tmp_path / "out", IDS_ONLY, executor=RayExecutor(), **settings)
    assert prepared.manifest.counts.events_read == 200
