"""Forgetting: no file below the output holds a forgotten id, in whatever encoding.

The search looks at the bytes of each file, and at what is compressed in it: pages of Parquet with
their dictionaries, batches of Arrow, members of zip archives, and data in pages of HTML.
"""

import base64
import io
import random
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recsys.config.config import Config
from recsys.config.load import load_config, parse_config
from recsys.stages import evaluate as evaluation
from recsys.stages import fuse as fusion
from recsys.stages import measure
from recsys.stages.forget import forget
from recsys.stages.materialize import materialize
from recsys.stages.prepare import prepare
from recsys.studies import study
from recsys.tracking import mlflow_client
from serving.forgetting.everywhere import forget_everywhere
from tests.support.materialized import QUIET, reader_of
from tests.support.tiny_bundle import export_untrained, untrained

# The forgotten ids, and values that only their rows have; and ids that stay.
QUERY, ITEM = "alice-7f3a@example.org", 7_340_012_345_678
OWN = ("kryptonite-77", "tablet-of-alice")
STAYS, ITEM_STAYS = "bob-91c4@example.org", 7_340_012_999_999
_FRAMES = {"zstd": b"\x28\xb5\x2f\xfd", "lz4": b"\x04\x22\x4d\x18", "gzip": b"\x1f\x8b\x08"}
_BASE64 = re.compile(rb"[A-Za-z0-9+/=]{200,}")


def needles(*ids: str | int) -> list[bytes]:
    """Returns the bytes of ids: as text, and of integers also as 8 bytes."""
    texts = [str(each).encode() for each in ids]
    return texts + [each.to_bytes(8, "little") for each in ids if isinstance(each, int)]


def contents(data: bytes) -> Iterator[bytes]:
    """Yields the bytes, and all that is compressed in them."""
    yield data
    for codec, magic in _FRAMES.items():
        for match in re.finditer(re.escape(magic), data):
            stream = pa.input_stream(pa.BufferReader(data[match.start() :]), compression=codec)
            unpacked = bytearray()
            try:
                while block := stream.read(4096):
                    unpacked += block
            except OSError:  # The end of the frame, or no frame.
                pass
            yield bytes(unpacked)
    for match in _BASE64.finditer(data):
        run = match[0]
        whole = len(run) - (len(run) % 4 == 1)  # No text of bytes has a single character left.
        yield from contents(base64.b64decode(run[:whole] + b"==="))
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from contents(archive.read(name))


def files_with(directory: Path, wanted: list[bytes]) -> set[str]:
    """Returns the files below a directory in which one of some byte strings is."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(directory))
        for path in files
        if any(text in each for each in contents(path.read_bytes()) for text in wanted)
    }


def write_log(directory: Path) -> None:
    """Writes a log whose columns are dictionaries, also within lists and structs.

    The query is the most frequent one, and some rows of others are rejected.
    """
    draw = random.Random(0)
    queries = [QUERY] * 200 + [STAYS] * 100 + [f"user{draw.randrange(30)}" for _ in range(600)]
    items = [draw.choice([ITEM, ITEM_STAYS, *range(1, 40)]) for _ in queries]
    order = draw.sample(range(900), 900)
    rows = [(queries[n], items[n], 1_600_000_000 + 60 * n) for n in order]
    others = [row for row in rows if row[0] != QUERY and row[1] != ITEM]
    rows += others[:20]  # They are duplicates.
    query, item, time = map(list, zip(*rows, strict=True))
    device = ["tablet-of-alice" if q == QUERY else f"device{i % 3}" for q, i, _ in rows]
    events = pa.table(
        {
            "query_id": pa.array(query).dictionary_encode(),
            "item_id": pa.array(item, pa.int64()).dictionary_encode(),
            "timestamp": time,
            "device": pa.array(device).dictionary_encode(),
            "path": pa.ListArray.from_arrays(
                pa.array(range(len(rows) + 1), pa.int32()), pa.array(query).dictionary_encode()
            ),
            "session": pa.StructArray.from_arrays(
                [pa.array(query).dictionary_encode(), pa.array(item, pa.int64())], ["who", "what"]
            ),
        }
    )
    people = [QUERY, STAYS, *(f"user{n}" for n in range(30))]
    hobby = ["kryptonite-77", *(f"hobby{n % 4}" for n in range(31))]
    table = pa.table({"query_id": [*people, STAYS], "hobby": [*hobby, "hobby1"]})
    things = [ITEM, ITEM_STAYS, *range(1, 40)]
    catalogue = pa.table(
        {"item_id": [*things, 1], "title": [f"thing {'A' * (n % 7)}" for n in range(42)]}
    )
    directory.mkdir(parents=True)
    pq.write_table(events, directory / "events.parquet")
    for name, each, column in (("queries", table, "query_id"), ("items", catalogue, "item_id")):
        encoded = each.set_column(0, column, each[column].dictionary_encode())
        pq.write_table(encoded, directory / f"{name}.parquet")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    write_log(tmp_path / "log")
    feature = {"dim": 4, "kind": "categorical"}
    document = {
        "executor": "local",
        "output": "out",
        "data": {name: f"log/{name}.parquet" for name in ("events", "items", "queries")},
        "features": {
            "item": [{"name": "item_id", "kind": "id", "dim": 4}],
            "query": [{"name": "query_id", "kind": "id", "dim": 4}, {"name": "hobby", **feature}],
            "context": [{"name": "device", **feature}],
        },
        "ssl": {"method": "none"},
        "model": {"dim": 8, "item_tower": [8], "query_tower": [8]},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
    return load_config(tmp_path / "config.yaml")


def evaluate_and_export(config: Config, patch: pytest.MonkeyPatch) -> None:
    """Writes what follows a training, of a model that was not trained."""
    model = untrained(config)
    patch.setattr(evaluation, "read_manifest", lambda *_: None)
    patch.setattr(fusion, "read_manifest", lambda *_: None)
    for stage in (measure, fusion):
        patch.setattr(stage, "load_model", lambda _: model)
    patch.setattr(measure, "open_run", lambda *_: None)
    evaluation.evaluate(config, console=QUIET)
    export_untrained(config, patch, model=model[0])


def test_no_file_holds_a_forgotten_id(config, monkeypatch):
    output = Path(config.output)
    prepare(config, console=QUIET)
    materialize(config, console=QUIET)
    reader = reader_of(config)
    for name in (QUERY, STAYS):
        reader.append_event(name, str(ITEM_STAYS), datetime(2033, 1, 1))
    reader.close()
    assert files_with(output, needles(QUERY, ITEM, *OWN))
    forget(config, query_ids=[QUERY], item_ids=[str(ITEM)])
    prepare(config, console=QUIET)
    materialize(config, console=QUIET)
    evaluate_and_export(config, monkeypatch)
    assert files_with(output, needles(QUERY, ITEM, *OWN)) == set()
    # The search finds what is there, in every kind of file.
    found = {Path(name).suffix for name in files_with(output, needles(STAYS, ITEM_STAYS))}
    assert found >= {".parquet", ".arrow", ".json", ".html", ".db", ".events"}


def test_what_is_not_reached_and_what_is_unknown_is_said(command, config, tmp_path):
    output = Path(config.output)
    arguments = ["forget", tmp_path / "config.yaml", "--query-id"]
    prepare(config, console=QUIET)
    status, out, _ = command(*arguments, QUERY)
    assert status == 0
    assert "note:" not in out
    assert "recsys run" in out
    assert "MLflow" not in out
    assert "materialize" not in out
    for name in (
        "feature_store",
        "study",
        "fusion",
        "mlartifacts",
        "answers of may",
        ".bundle.old",
    ):
        (output / name).mkdir()
    mlflow_client(f"sqlite:///{output}/mlflow.db")
    status, out, _ = command(*arguments, "alice", "--query-id", "17", "--item-id", STAYS)
    assert "note: the prepared data has no query 'alice', '17'" in out
    assert "note: there is also the item '17', which stays: give --item-id, too" in out
    assert f"note: the prepared data has no item '{STAYS}'" in out
    assert f"note: there is also the query '{STAYS}'" in out
    assert f"registered bundles, in {output}/mlartifacts" in out
    assert f"- {output}/answers of may" in out
    assert "recsys materialize" in out
    assert "recsys study" in out
    assert ".bundle.old" not in out
    assert "fusion" not in out  # `evaluate` writes it anew.


def test_everywhere_means_the_log_and_the_prepared_data_too(command, config, tmp_path):
    """Rewrites dictionaries, also within lists and structs."""
    log, output = tmp_path / "log", Path(config.output)
    wanted = needles(QUERY, ITEM, *OWN)
    arguments = ["forget", tmp_path / "config.yaml", "--query-id", QUERY, "--item-id", ITEM]
    status, _, error = command(*arguments, "--dry-run")
    assert (status, output.exists()) == (1, False)
    assert "--dry-run lists what --everywhere would do; give both" in error
    prepare(config, console=QUIET)
    before = {name: (log / name).read_bytes() for name in files_with(log, wanted)}
    status, out, _ = command(*arguments, "--everywhere", "--dry-run")
    assert status == 0
    assert "would be done, and nothing was:" in out
    assert f"queries: 1 of 33 rows of {log}/queries.parquet" in out
    assert {name: (log / name).read_bytes() for name in files_with(log, wanted)} == before
    assert not config.forgotten_path.exists()
    rows = pq.read_table(log / "events.parquet").num_rows
    (log / "events.parquet").chmod(0o640)
    (log / "events.parquet").rename(tmp_path / "elsewhere.parquet")
    (log / "events.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    status, out, error = command(*arguments, "--everywhere")
    assert status == 0, error
    assert "run again without them: prepare\n" in out
    assert "not reached" in out
    assert files_with(tmp_path, wanted) == set()
    assert (log / "events.parquet").is_symlink()
    table = pq.read_table(log / "events.parquet")
    assert f"events: {rows - table.num_rows} of {rows} rows" in out
    assert table["path"].to_pylist() == [[each] for each in table["query_id"].to_pylist()]
    assert (log / "events.parquet").stat().st_mode & 0o777 == 0o640


def test_a_directory_that_is_an_id_and_files_that_are_elsewhere_or_broken(tmp_path):
    table = pa.table({"item_id": ["a", "b"], "timestamp": [1, 2]})
    for query in (QUERY, "bob"):
        (tmp_path / "log" / f"query_id={query}").mkdir(parents=True)
        pq.write_table(table, tmp_path / "log" / f"query_id={query}" / "part.parquet")
    (tmp_path / "log" / "broken.parquet").write_bytes(b"PAR1 but no more")
    stream = io.BytesIO()
    pq.write_table(pa.table({"query_id": [QUERY, "bob"]}), stream)
    fsspec.filesystem("memory").pipe("/forgotten.parquet", stream.getvalue())
    config = parse_config(
        {
            "output": str(tmp_path / "out"),
            "executor": "local",
            "data": {"events": str(tmp_path / "log"), "queries": "memory://forgotten.parquet"},
            "features": {"item": [{"name": "item_id", "kind": "id", "dim": 4}], "query": []},
            "ssl": {"method": "none"},
        }
    )
    found = forget_everywhere(config, query_ids=[QUERY], console=QUIET)
    left = [path.name for path in sorted((tmp_path / "log").iterdir())]
    assert left == ["broken.parquet", "query_id=bob"]
    assert len(found.done) == 1
    places = "\n".join(found.unreached)
    assert "queries: 1 of 2 rows of memory://forgotten.parquet, which is not of this" in places
    assert "broken.parquet as Parquet" in places


def test_a_study_forgets_in_each_of_its_data_sets(config):
    forget(config, query_ids=[QUERY])
    runs = config.study_dir / "runs" / "0123456789abcdef"
    runs.mkdir(parents=True)
    (runs / "result.json").write_text(QUERY)
    study._discard_forgotten(config)
    assert not runs.exists()
    base = study._prepared(config, 0.5, QUIET)
    assert base.prepared_dir.is_relative_to(config.study_dir)
    assert files_with(config.study_dir, needles(QUERY)) == set()
    assert files_with(config.study_dir, needles(STAYS))
    runs.mkdir(parents=True)
    study._discard_forgotten(config)  # Trainings since are kept.
    assert runs.exists()
