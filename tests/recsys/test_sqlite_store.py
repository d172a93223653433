"""Stores of MLflow: made and migrated whole, whatever was there and whenever a process dies."""

import itertools
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from feature_store.core.errors import UserError
from recsys import sqlite_store
from recsys.sqlite_store import make_ready
from recsys.tracking import mlflow_client
from tests.support.kills import dies_before

HEAD, EARLIER = "head", "earlier"
RUN = "INSERT INTO runs (run_uuid, name, experiment_id) VALUES ('r1', 'a run', 0)"
EXPERIMENT = (
    "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (0, 'e', 'active')"
)


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def runs_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])


def revision_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def earlier_store(path: Path, new: Path, *more: str) -> None:
    shutil.copy(new, path)
    execute(path, f"UPDATE alembic_version SET version_num = '{EARLIER}'", *more)


def quick_migration(path: Path, new: Path) -> None:
    """Takes the place of MLflow's migrations, which would take seconds in each process."""
    if not path.exists():
        shutil.copy(new, path)
    execute(path, f"UPDATE alembic_version SET version_num = '{HEAD}'")


def make_quickly(path: Path, new: Path) -> None:
    """Makes a store with a migration that is a copy, in a process of its own or here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_store, "_migrate", lambda temporary: quick_migration(temporary, new))
        patch.setattr(sqlite_store, "_revisions", lambda: (HEAD, frozenset((HEAD, EARLIER))))
        make_ready(path)


BEFORE = {
    "absent": lambda path, new: None,
    "empty": lambda path, new: path.touch(),
    "half made": lambda path, new: execute(path, "CREATE TABLE experiments (x)"),
    "of another name": lambda path, new: (
        earlier_store(path.with_name("real.db"), new, RUN),
        path.symlink_to("real.db"),
    ),
    "with a run": lambda path, new: earlier_store(path, new, RUN),
    "with a log": lambda path, new: (
        shutil.copy(new, path),
        execute(path, "PRAGMA journal_mode=WAL"),
        execute(path, f"UPDATE alembic_version SET version_num = '{EARLIER}'", RUN),
    ),
}


@pytest.mark.parametrize("before", BEFORE)
def test_killed_at_any_moment_the_next_call_finishes(tmp_path, new_store, before):
    for change in itertools.count():
        path = tmp_path / f"{change}" / "mlflow.db"
        path.parent.mkdir()
        BEFORE[before](path, new_store)
        runs = int(before not in ("absent", "empty", "half made"))
        has_died = dies_before(change, make_quickly, path, new_store, is_light=True)
        make_quickly(path, new_store)
        assert revision_of(path) == HEAD
        assert runs_of(path) == runs
        kept = [each for each in path.parent.glob("[!.]*.db.*")]
        assert all(revision_of(each) == EARLIER and runs_of(each) == 1 for each in kept)
        assert bool(kept) == bool(runs)
        # A lock that was not removed is no lock any more, but its file may stay.
        left = {each.name for each in path.parent.glob(".*")} - {f".{path.resolve().name}.lock"}
        assert not left
        if not has_died:
            break
    assert change > 1


def test_one_of_two_processes_makes_it(tmp_path, new_store, monkeypatch):
    path, made = tmp_path / "mlflow.db", []
    monkeypatch.setattr(sqlite_store, "_revisions", lambda: (HEAD, frozenset((HEAD,))))
    other = threading.Thread(target=make_ready, args=(path,))  # flock tells threads apart, too.

    def migrate(temporary: Path) -> None:
        made.append(temporary)
        if len(made) == 1:
            other.start()
        quick_migration(temporary, new_store)

    monkeypatch.setattr(sqlite_store, "_migrate", migrate)
    make_ready(path)
    other.join()
    assert len(made) == 1
    assert list(tmp_path.iterdir()) == [path]


def half_migrated(path: Path) -> None:
    """Makes what MLflow leaves behind when it is killed after a column and before the note."""
    import sqlalchemy
    from mlflow.store.tracking.dbmodels.initial_models import Base

    Base.metadata.create_all(sqlalchemy.create_engine(f"sqlite:///{path}"))
    execute(path, "ALTER TABLE metrics ADD step BIGINT NOT NULL DEFAULT 0")


def test_what_mlflow_left_half_made_is_made_anew_unless_there_are_runs(tmp_path):
    path = tmp_path / "mlflow.db"
    half_migrated(path)
    assert mlflow_client(f"sqlite:///{path}").get_experiment("0").name == "Default"
    path = tmp_path / "other.db"
    half_migrated(path)
    execute(path, EXPERIMENT, RUN)
    content = path.read_bytes()
    with pytest.raises(UserError, match=r"other.db, with 1 runs.* move it away to begin"):
        mlflow_client(f"sqlite:///{path}")
    assert path.read_bytes() == content
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mlflow.db", "other.db"]


def test_what_is_no_store_of_this_mlflow_is_one_sentence_and_stays(tmp_path, new_store):
    later, foreign, text, cut = (tmp_path / f"{name}.db" for name in ("later", "f", "t", "c"))
    earlier_store(later, new_store, "UPDATE alembic_version SET version_num = 'later'")
    execute(foreign, "CREATE TABLE trials (x)", "CREATE TABLE alembic_version (x)")
    text.write_text("no database")
    cut.write_bytes(new_store.read_bytes()[: 2**16])
    for path, sentence in {
        later: "written by a later MLflow than",
        foreign: "a database of another program",
        text: "not a database of SQLite's",
        cut: "or damaged",
        tmp_path: "is not a file",
    }.items():
        content = path.read_bytes() if path.is_file() else None
        with pytest.raises(UserError, match=f"{sentence}.*; .*name another in tracking.uri"):
            make_ready(path)
        assert content is None or path.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 4


def test_a_store_that_another_program_writes_is_left_alone(tmp_path, new_store, monkeypatch):
    path = tmp_path / "mlflow.db"
    earlier_store(path, new_store, RUN)
    monkeypatch.setattr(sqlite_store, "_BUSY_SECONDS", 0)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match="another program is using the MLflow store"):
            make_quickly(path, new_store)
    assert revision_of(path) == EARLIER
