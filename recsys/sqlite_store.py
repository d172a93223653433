"""SQLite stores of MLflow, made and migrated whole or not at all.

MLflow's migrations take seconds and are not atomic: a process that dies in one leaves a database
that no later process can open. So they run on a temporary file beside the store, which gets the
store's name when they are done.
"""

import itertools
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_store.core.errors import UserError
from feature_store.core.files import write_atomically
from feature_store.core.locks import locked, waiting

_BUSY_SECONDS = 20.0
# The tables that MLflow makes first; and those whose rows users would miss, with the number of rows
# that MLflow adds by itself.
_FIRST_TABLES = frozenset(("experiments", "runs", "tags", "metrics", "params"))
_RECORDS = {"runs": 0, "experiments": 1, "registered_models": 0, "trace_info": 0}
# Primary codes of SQLite: others have the file, it is no database, and the disk is at fault.
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NOT_A_DATABASE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_NO_SPACE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
_REMEDY = "move it away to begin with an empty store, or name another in tracking.uri"


@dataclass(frozen=True)
class _Content:
    """Content of a database, as far as it matters here.

    Attributes:
        tables: Names of the tables.
        revision: Version of the schema; None: alembic has noted none.
        records: Number of what is in it: runs, experiments, models.
    """

    tables: frozenset[str]
    revision: str | None
    records: int


def is_blank(path: Path) -> bool:
    """Returns whether a file is absent, or a database without a table.

    Raises:
        UserError: It is no database, or another program is using it.
    """
    if _is_absent(path):
        return True
    with _opened(path) as connection:
        return not _content(connection).tables


def make_ready(path: Path) -> None:
    """Makes a file a store of the installed MLflow, unless it is one.

    A store of an earlier MLflow is migrated, and its former file is kept. One without content,
    which a process that died left half made, is made anew.

    Args:
        path: File of the store.

    Raises:
        UserError: The file is something else, a store of a later MLflow, or half migrated; or
            another program is using it.
    """
    path = path.resolve()
    head, known = _revisions()
    if _is_current(path, head):
        return
    with waiting(), locked(path):
        if _is_current(path, head):  # Another process has made it meanwhile.
            return
        if _is_absent(path):
            write_atomically(path, _migrate)
        else:
            _replace(path, known)


def _revisions() -> tuple[str, frozenset[str]]:
    """Returns the schema of the installed MLflow, and all that it can migrate."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    script = ScriptDirectory.from_config(_get_alembic_config(db_url=""))
    (head,) = script.get_heads()
    return head, frozenset(revision.revision for revision in script.walk_revisions())


def _is_absent(path: Path) -> bool:
    """Returns whether there is no file, or one to which nothing was ever written."""
    return not path.exists() or (path.is_file() and not path.stat().st_size)


def _is_current(path: Path, head: str) -> bool:
    if _is_absent(path):
        return False
    with _opened(path) as connection:
        return _content(connection).revision == head


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens an existing file as a database; errors of either become a sentence."""
    if not path.is_file():
        raise UserError(f"the MLflow store {path} is not a file; {_REMEDY}.")
    # In this mode a file that may not be written is read, and none is created.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with closing(
            sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
        ) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        if _code(error) in _BUSY:
            raise UserError(
                f"another program is using the MLflow store {path}; stop it, and try again."
            ) from error
        if _code(error) in _NOT_A_DATABASE:
            raise UserError(
                f"the MLflow store {path} is not a database of SQLite's, or damaged; {_REMEDY}."
            ) from error
        raise


def _code(error: BaseException) -> int:
    """Returns SQLite's primary code of an error; 0 where there is none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _content(connection: sqlite3.Connection) -> _Content:
    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query).fetchall()

    tables = {name for (name,) in rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
    noted = rows("SELECT * FROM alembic_version") if "alembic_version" in tables else []
    records = sum(
        max(0, rows(f"SELECT count(*) FROM {table}")[0][0] - own)
        for table, own in _RECORDS.items()
        if table in tables
    )
    return _Content(frozenset(tables), str(noted[0][0]) if noted else None, records)


def _replace(path: Path, known: frozenset[str]) -> None:
    """Puts a migrated copy, or a new store, in the place of a file, which nobody may write then."""
    with _opened(path) as guard, _opened(path) as reader:
        content = _content(guard)
        _require_ours(path, content, known)
        # A write-ahead log that stays beside the new file would be applied to that.
        guard.execute("PRAGMA journal_mode=DELETE")
        guard.execute("BEGIN IMMEDIATE")

        def write(temporary: Path) -> None:
            if not content.records:
                _migrate(temporary)
                return
            _copy(reader, temporary)
            _migrate_copy(path, temporary, content)
            _keep(path, reader)

        write_atomically(path, write)


def _copy(reader: sqlite3.Connection, path: Path) -> None:
    """Copies a database; reading the file would free the process' locks on it when it is closed."""
    with closing(sqlite3.connect(path)) as copy:
        reader.backup(copy)


def _require_ours(path: Path, content: _Content, known: frozenset[str]) -> None:
    """Raises `UserError` unless MLflow has made the database, and this one can migrate it."""
    from importlib.metadata import version

    tables = content.tables - {"alembic_version"}
    has_first = tables >= _FIRST_TABLES
    if content.revision in known or (content.revision is None and tables <= _FIRST_TABLES):
        return
    if not has_first:
        raise UserError(f"the MLflow store {path} is a database of another program; {_REMEDY}.")
    if content.revision is not None:
        raise UserError(
            f"the MLflow store {path} was written by a later MLflow than {version('mlflow')}, "
            f"which is installed; install that one, or {_REMEDY}."
        )


def _migrate(path: Path) -> None:
    """Makes a database of MLflow's, or brings it to the schema of the installed MLflow."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    url = sqlalchemy.URL.create("sqlite", database=str(path))
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)

    # The whole file is flushed when it is done; until then nobody would open it after a crash.
    @sqlalchemy.event.listens_for(engine, "connect")
    def be_quick(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY")

    _initialize_tables(engine)


def _migrate_copy(path: Path, copy: Path, content: _Content) -> None:
    try:
        _migrate(copy)
    except Exception as error:  # Migrations may raise anything.
        if isinstance(error, OSError) or _code(getattr(error, "orig", error)) in _NO_SPACE:
            raise
        raise UserError(
            f"the MLflow store {path}, with {content.records} runs, experiments and models, cannot "
            "be migrated: probably a process died while it migrated it; put a copy of the file "
            f"back, or {_REMEDY}."
        ) from error


def _keep(path: Path, reader: sqlite3.Connection) -> None:
    """Gives the former file a second name, under which it stays."""
    date = time.strftime("%Y%m%d")
    names = (path.with_name(f"{path.name}.{date}-{number}") for number in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    try:
        os.link(path, kept)
    except OSError:  # The file system has no links.
        _copy(reader, kept)
    print(
        f"tracking: {path} is migrated to the installed MLflow; the former file is {kept}",
        file=sys.stderr,
    )
