"""Finding the Parquet files of a path, and saying what else is there."""

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from feature_store.core.errors import UserError
from pipelines.logs.listing import find_files
from pipelines.logs.tables import open_source, read_piece
from pipelines.prepare.prepare import prepare
from pipelines.settings import DataConfig
from tests.support.prepare_logs import IDS_ONLY, LOCAL, random_events


def write(path: Path, number: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": [number]}), path)


def relative(files: Iterable[str], base: Path) -> list[str]:
    return [os.path.relpath(file.removeprefix("file://"), base) for file in files]


def found(base: Path, pattern: str = "") -> list[str]:
    """Lists the files, and checks that the URL of the same path gives the same."""
    listing = find_files(f"{base}{pattern}")
    assert find_files(f"file://{base}{pattern}").files == tuple(
        f"file://{file}" for file in listing.files
    )
    return relative(listing.files, base)


def test_files_of_a_directory_a_glob_and_a_url(tmp_path: Path) -> None:
    wanted = ["a.parquet", "day2/b.parquet", "day2/deep/c.parquet"]
    ignored = [".a.parquet", "_tmp/a.parquet", "day2/_b.parquet", ".git/a.parquet"]
    for name in wanted + ignored:
        write(tmp_path / name)
    (tmp_path / "README.md").touch()
    assert found(tmp_path) == wanted
    assert found(tmp_path, "/**") == wanted
    assert found(tmp_path, "/**/*.parquet") == wanted
    assert found(tmp_path, "/**/[bc].parquet") == wanted[1:]
    assert found(tmp_path, "/**/deep") == wanted[2:]
    assert found(tmp_path, "/day*") == wanted[1:]
    assert found(tmp_path, "/*.parquet") == wanted[:1]
    assert found(tmp_path, "/_tmp/*") == ["_tmp/a.parquet"]
    write(tmp_path / "log.x")
    assert found(tmp_path, "/log.x") == ["log.x"]


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a/b.parquet")
    monkeypatch.chdir(tmp_path)
    for path in ("a", "a/*", "**/*.parquet", "a/**/*.parquet", "a/b.parquet"):
        assert find_files(path).files == ("a/b.parquet",)
    assert find_files("./*").files == ("./a/b.parquet",)


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "log.csv").touch()
    with pytest.raises(UserError, match=r"holds no Parquet files \(it has log.csv\)"):
        find_files(str(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        find_files(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="it has no files"):
        find_files(str(tmp_path / "*.nothing"))
    with pytest.raises(UserError, match="cannot list"):
        find_files(f"file://{tmp_path}/nowhere")


def test_files_are_parquet_by_their_ending_or_their_first_bytes(tmp_path: Path) -> None:
    by_ending = ["a.PARQUET", "b.parq", "c.pq", "d.snappy.parquet"]
    by_content = ["000000_0", "20240105_0.x", "e.parquet.gz", "part-00000-uuid.c000"]
    for name in [*by_ending, *by_content]:
        write(tmp_path / name)
    (tmp_path / "e.Parquet").touch()  # Damaged; reading it says so.
    for name in ("_SUCCESS", "a.parquet.crc", "day_$folder$", ".hidden"):
        (tmp_path / name).touch()
    assert found(tmp_path) == sorted([*by_ending, *by_content, "e.Parquet"])
    assert find_files(str(tmp_path)).notes == ()
    write(tmp_path / "a.parquet.bak")
    (tmp_path / "f.csv").write_text("x\n1\n")
    (tmp_path / "g.csv").touch()
    (tmp_path / "000001_0").touch()
    assert found(tmp_path) == sorted([*by_ending, *by_content, "e.Parquet"])
    assert found(tmp_path, "/0*") == ["000000_0"]
    assert found(tmp_path, "/*.bak") == ["a.parquet.bak"]
    assert find_files(str(tmp_path)).notes == (
        f"4 files in {tmp_path} are not Parquet by name and content, and not read "
        "(2 .csv, 1 without an ending, 1 .bak: 000001_0, a.parquet.bak, f.csv, g.csv)",
    )


def test_linked_directories_and_files_are_read_once(tmp_path: Path) -> None:
    log, archive = tmp_path / "log", tmp_path / "archive"
    for number, path in enumerate((log / "2024/a.parquet", archive / "2023/b.parquet")):
        write(path, number)
    write(tmp_path / "c.data", 2)
    (log / "2023").symlink_to(archive / "2023")
    (log / "c.parquet").symlink_to(tmp_path / "c.data")
    wanted = ["2023/b.parquet", "2024/a.parquet", "c.parquet"]
    assert found(log) == found(log, "/**/*.parquet") == found(log, "/*") == wanted
    assert find_files(str(log)).notes == ()
    # More names of the same directories and files, and ways back.
    (archive / "2023/up").symlink_to(log)
    (log / "2024/self").symlink_to(log / "2024")
    assert found(log) == wanted
    (log / "00-latest").symlink_to(log / "2024")
    (log / "d.parquet").symlink_to(log / "c.parquet")
    assert found(log) == found(log, "/**") == wanted
    assert find_files(str(log)).notes[0].startswith("2 links in")
    # A name that gives another column is not the same.
    (log / "2024/day=1").symlink_to(archive / "2023")
    assert "2024/day=1/b.parquet" in found(log)


def test_a_link_to_nothing_and_a_closed_directory_are_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.parquet")
    (tmp_path / "2023").symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match=r"events: cannot read .*2023 as Parquet"):
        open_source(str(tmp_path), "events")
    (tmp_path / "2023").unlink()
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refusing(path: str) -> object:  # The tests may run as a user who may read everything.
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match=r"cannot list the directory .*closed \(Permission denied"):
        find_files(str(tmp_path))


def test_a_table_format_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    (tmp_path / "_delta_log").mkdir()
    assert "is a Delta table, but all its files are read" in find_files(str(tmp_path)).notes[0]


def test_prepare_says_what_it_does_not_read_and_sees_what_links_point_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    target = tmp_path / "elsewhere" / "part.parquet"
    target.parent.mkdir()
    pq.write_table(random_events(1, rows=100), target)
    (log / "old").symlink_to(target.parent)
    (log / "new.csv").touch()
    console = Console(record=True, width=300)
    data = DataConfig.model_validate({"events": str(log)})

    def events() -> int:
        manifest = prepare(data, IDS_ONLY, tmp_path / "out", executor=LOCAL, console=console)
        return manifest.counts.events_read

    assert events() == 100
    said = "prepare: events: 1 file in"
    assert said in console.export_text()
    assert events() == 100
    assert said in console.export_text()
    pq.write_table(random_events(2, rows=150), target)
    assert events() == 150
    rows = [read_piece(piece).num_rows for piece in open_source(str(log), "events").pieces]
    assert rows == [150]
