"""Files of the store on SQLite that are missing, empty, foreign, cut off or of another store."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from feature_store.core.errors import UserError
from feature_store.online import open_online_store
from feature_store.online.features import OnlineFeatures
from feature_store.online.store import BrokenStoreError, OnlineStore
from feature_store.settings import FeatureStoreConfig
from tests.feature_store.online.test_stores import START, at, contents, fill


def opened(directory: Path) -> OnlineStore:
    return open_online_store(FeatureStoreConfig(), directory)


def foreign(path: Path) -> None:
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE contents (json TEXT)")
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    connection.close()


def a_directory(path: Path) -> None:
    path.unlink()
    (path / "of mine").mkdir(parents=True)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def without_description(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM contents")
    connection.close()


def of_another_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute('UPDATE contents SET json = \'{"generation": "one"}\'')
    connection.close()


def of_another_store(path: Path) -> None:
    other = opened(path.parent.parent / "other")
    fill(other, "two")
    other.close()
    shutil.copy(path.parent.parent / "other" / "online" / "two.db", path)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


HARM = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"S"),
    "text": lambda path: path.write_text("not a database\n" * 100),
    "header alone": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut off": cut_off,
    "a directory": a_directory,
    "a pipe": a_pipe,
    "foreign": foreign,
    "without description": without_description,
    "of another version": of_another_version,
    "of another store": of_another_store,
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_a_generation_that_is_not_whole_is_one_sentence_and_a_load_heals_it(tmp_path: Path, harm):
    store = opened(tmp_path)
    fill(store)
    store.close()
    harm(tmp_path / "online" / "one.db")
    store = opened(tmp_path)
    reader = OnlineFeatures(store)
    for ask in (
        store.contents,
        store.count_rows,
        lambda: reader.query("q1"),
        lambda: reader.append_event("q1", "i1", START),
    ):
        with pytest.raises(BrokenStoreError, match="run `recsys materialize`") as error:
            ask()
        assert str(tmp_path) in str(error.value)
        assert "\n" not in str(error.value)
    fill(store, "three", age=41)
    assert reader.query("q1").features["age"].to_pylist() == [41]
    store.close()


@pytest.mark.parametrize(
    "text", ["", "\n", "../../elsewhere.db", "/etc/passwd", "one", "a" * 10_000, "\0.db"]
)
def test_the_name_of_the_generation_is_only_a_name(tmp_path: Path, text: str):
    store = opened(tmp_path)
    fill(store)
    (tmp_path / "online" / "current").write_text(text)
    with pytest.raises(BrokenStoreError, match="it does not name a file"):
        store.contents()
    (tmp_path / "online" / "current").write_bytes(b"\xff\xfe")
    with pytest.raises(BrokenStoreError, match="it does not name a file"):
        store.contents()
    fill(store, "two")
    assert store.contents() == contents("two")
    store.close()


def test_a_directory_in_the_place_of_a_file_of_the_store_is_named(tmp_path: Path):
    (tmp_path / "online" / "current").mkdir(parents=True)
    store = opened(tmp_path)
    with pytest.raises(BrokenStoreError, match="current"):
        store.contents()
    with pytest.raises(UserError, match="cannot write the online store"):
        fill(store)
    assert (tmp_path / "online" / "current").is_dir()


def test_pipes_in_the_place_of_files_of_the_store_are_not_waited_for(tmp_path: Path):
    store = opened(tmp_path)
    fill(store)
    os.mkfifo(tmp_path / "online" / "appended.db")
    with pytest.raises(BrokenStoreError, match="it is no file"):
        store.appended("q1")
    assert "damaged-1" in (store.prune(lambda query, event: True) or "")
    assert store.appended("q1") == []
    a_pipe(tmp_path / "online" / "current")
    with pytest.raises(BrokenStoreError, match="it is no file"):
        store.contents()
    store.close()


def test_a_file_in_the_place_of_the_store_is_named(tmp_path: Path):
    (tmp_path / "online").write_text("mine")
    store = opened(tmp_path)
    with pytest.raises(BrokenStoreError, match="online"):
        store.contents()
    with pytest.raises(UserError, match="cannot write the online store"):
        fill(store)
    assert (tmp_path / "online").read_text() == "mine"


def test_a_reader_survives_a_generation_that_is_damaged_under_it(tmp_path: Path):
    store = opened(tmp_path)
    fill(store)
    reader = OnlineFeatures(store)
    assert reader.query("q1").is_known
    file = tmp_path / "online" / "one.db"
    file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(BrokenStoreError):
        reader.query("q1")
    fill(store, "two")
    assert reader.query("q1").is_known
    store.close()


def append_many(store: OnlineStore, item: str) -> None:
    for second in range(50):
        OnlineFeatures(store).append_event("q1", item, at(second))


APPENDED = {name: HARM[name] for name in ("one byte", "text", "half", "a directory", "foreign")}


@pytest.mark.parametrize("harm", APPENDED.values(), ids=APPENDED.keys())
def test_appended_events_that_cannot_be_read_are_set_aside(tmp_path: Path, harm):
    store = opened(tmp_path)
    fill(store, max_length=100)
    append_many(store, "x" * 1000)
    store.close()
    file = tmp_path / "online" / "appended.db"
    harm(file)
    store = opened(tmp_path)
    with pytest.raises(BrokenStoreError, match="begins a new file"):
        append_many(store, "i3")
    warning = store.prune(lambda query, event: True)
    assert warning is not None
    assert f"{file}.damaged-1" in warning
    assert (tmp_path / "online" / "appended.db.damaged-1").exists()
    assert store.prune(lambda query, event: True) is None
    OnlineFeatures(store).append_event("q1", "i3", at(20))
    assert [event.item_id for event in OnlineFeatures(store).query("q1").history][-1] == "i3"
    fill(store, "two")
    assert (tmp_path / "online" / "appended.db.damaged-1").exists()
    store.close()


def test_events_go_into_the_file_that_is_there(tmp_path: Path):
    store = opened(tmp_path)
    fill(store)
    reader = OnlineFeatures(store)
    reader.append_event("q1", "i3", at(20))
    for file in (tmp_path / "online").glob("appended.db*"):
        file.unlink()
    reader.append_event("q2", "i1", at(30))
    other = OnlineFeatures(opened(tmp_path))
    assert [event.item_id for event in other.query("q2").history] == ["i1"]
    assert len(other.query("q1").history) == 2
