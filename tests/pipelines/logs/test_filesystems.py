"""Logs on other file systems than this machine's own."""

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.errors import UserError
from pipelines.logs.filesystems import open_filesystem, reason_of
from pipelines.logs.listing import find_files
from pipelines.logs.sampling import open_table
from pipelines.logs.tables import list_files, open_source, piece_identity, read_piece, source_state
from pipelines.settings import DataConfig
from pipelines.urls import shown, without_user

FILES = ("date=2026-11-22/a b.parquet", "date=x%2Fy/deep/c%41.parquet", "date=z/d.parquet")


@pytest.fixture
def local(tmp_path: Path) -> str:
    """Writes a directory with files of several partitions, and others that are ignored."""
    for number, name in enumerate((*FILES, "_tmp/a.parquet", "date=z/.b.parquet", "date=z/c.csv")):
        path = tmp_path / "log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"x": [number]}), path)
    return str(tmp_path / "log")


@pytest.fixture
def memory(local: str) -> Iterator[str]:
    filesystem = fsspec.filesystem("memory")
    filesystem.put(local, "/bucket/log", recursive=True)
    yield "memory://bucket/log"
    filesystem.rm("/bucket", recursive=True)


@pytest.mark.parametrize("scheme", ["file://", "local://", "memory://"])
def test_a_directory_or_glob_of_any_file_system(local: str, memory: str, scheme: str) -> None:
    root = memory if scheme == "memory://" else f"{scheme}{local}"
    source = open_source(root, "events")
    columns = pa.concat_tables([read_piece(piece, ["x", "date"]) for piece in source.pieces])
    assert columns.to_pydict() == {"x": [0, 1, 2], "date": ["2026-11-22", "x/y", "z"]}
    sampled = pa.concat_tables(open_table(root, "events").sample(["x", "date"], 10))
    assert sampled.equals(columns)
    for file, piece in zip(FILES, source.pieces, strict=True):
        assert piece.state[0] == Path(local, file).stat().st_size
        assert piece.state[1] not in ("", "None")
        assert find_files(piece.file).files == (piece.file,)
    assert len(find_files(f"{root}/").files) == 3
    assert len(find_files(f"{root}/date=*/*.parquet").files) == 2
    assert len(find_files(f"{root}/**/[cd]*.parquet").files) == 2
    assert len(find_files(f"{root}/date=[xz]*").files) == 2
    # A glob that spells out an ending is read whatever it is.
    assert [Path(file).name for file in find_files(f"{root}/date=z/*.csv").files] == ["c.csv"]
    with pytest.raises(UserError, match=r"holds no Parquet files \(it has c.csv\)"):
        find_files(f"{root}/date=z/c*")
    with pytest.raises(UserError, match=r"cannot list .*nowhere"):
        find_files(f"{root}/nowhere")


def test_a_file_that_is_written_again_has_another_state(memory: str) -> None:
    data = DataConfig(events=memory)
    before, pieces = source_state(list_files(data)), open_source(memory, "events").pieces
    assert source_state(list_files(data)) == before
    with fsspec.open(f"{memory}/date=z/d.parquet", "wb") as file:
        pq.write_table(pa.table({"x": [7]}), file)
    after, again = source_state(list_files(data)), open_source(memory, "events").pieces
    assert [a == b for a, b in zip(before["events"], after["events"], strict=True)] == [1, 1, 0]
    same = [piece_identity(a) == piece_identity(b) for a, b in zip(pieces, again, strict=True)]
    assert same == [True, True, False]


def test_a_file_of_a_web_server(local: str) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=local)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/date=z/d.parquet"
        try:
            (piece,) = open_source(url, "events").pieces
            assert read_piece(piece, ["date", "x"]).to_pydict() == {"date": ["z"], "x": [2]}
            assert piece.state[0] > 0
            with pytest.raises(UserError, match="cannot"):
                open_source(url + "x", "events")
        finally:
            server.shutdown()


def test_a_chain_of_file_systems(local: str, tmp_path: Path) -> None:
    import shutil

    archive = shutil.make_archive(str(tmp_path / "log"), "zip", local)
    source = open_source(f"zip://date=z::file://{archive}", "events")
    assert source.files == (f"zip://date=z/d.parquet::file://{archive}",)
    assert read_piece(source.pieces[0], ["date", "x"]).to_pydict() == {"date": ["z"], "x": [2]}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("zork://a/b", r"zork://a/b: no file system is called zork://; expected a path, or a URL"),
        ("s3a://u:pw@a/b", r"s3a://\*\*\*@a/b needs a package .*s3fs.* on every machine"),
        ("s3://key:tell/me@bucket/a b", r"cannot open s3://\*\*\*@bucket/a b \("),
        ("github://user:tell@@a/b", r"github://\*\*\*@a/b"),
        (
            "s3://key:tell@bucket/log?region=eu&scheme=http&endpoint_override=127.0.0.1:9",
            r"cannot list s3://\*\*\*@bucket/log\?region=eu.*\(.*\); give the URL",
        ),
    ],
)
def test_urls_that_do_not_open(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        find_files(url)
    assert "tell" not in str(raised.value)
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("s3://bucket/a%20b/c?region=eu-west-1", "bucket/a b/c"),
        ("s3://key:a%2Fb@bucket/a%2520b/c@d?region=eu-west-1", "bucket/a%20b/c@d"),
        ("s3://bucket?region=eu-west-1", "bucket"),
        ("gs://anonymous@bucket/a%20b", "bucket/a b"),
    ],
)
def test_files_of_a_bucket_share_its_client(url: str, path: str) -> None:
    filesystem, found = open_filesystem(url)
    assert found == path
    if "@d" not in url:
        assert open_filesystem(url)[0] is filesystem


def test_secrets_are_not_shown() -> None:
    hidden = {
        "s3://AKIA:a%2Fb@bucket/x?region=eu": "s3://***@bucket/x?region=eu",
        "https://h/x.parquet?sv=2&sig=abc%3D": "https://h/x.parquet?sv=2&sig=***",
        "https://h/x?X-Amz-Credential=me&X-Amz-Signature=abc": (
            "https://h/x?X-Amz-Credential=***&X-Amz-Signature=***"
        ),
        "zip://x::s3://k:p@b/y": "zip://x::s3://***@b/y",
        "http://host:8080/a@b": "http://host:8080/a@b",
        "abfs://container@account/x": "abfs://container@account/x",
        "data/a:b@c?token=x": "data/a:b@c?token=x",
    }
    for url, text in hidden.items():
        assert shown(url) == text
    assert reason_of(OSError("no a/b for\n AKIA:a%2Fb."), "s3://AKIA:a%2Fb@b/x") == "no *** for ***"
    assert without_user("s3://k:one@b/x") == without_user("s3://k:two@b/x") == "s3://@b/x"


def test_a_configuration_keeps_its_secrets_and_writes_none() -> None:
    data = DataConfig(events="s3://key:tell@bucket/x", items="https://h/x?token=tell")
    assert "tell" in data.events
    assert "tell" not in data.model_dump_json()
    assert "tell" not in json.dumps(data.model_dump(mode="json"))
