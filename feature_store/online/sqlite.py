"""The online store in SQLite files, for one machine.

    online/
      current                     the name of the generation's file
      <generation>.db             bulk data; after its load only Feast writes to it
      appended.db                 events appended since

Rows lie in the order of their ids' hash, which is also their key, so that a bulk load only ever
appends to the tree, and a read needs no second index.
"""

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints
from feature_store.core.errors import UserError
from feature_store.core.files import write_text
from feature_store.core.hashing import hash_of_id, hash_of_ids
from feature_store.core.temporary import temporary_sibling
from feature_store.online.appended import AppendedEvents, transaction
from feature_store.online.generation import broken, connect, is_damage, open_generation
from feature_store.online.store import (
    VIEWS,
    BrokenStoreError,
    Contents,
    Event,
    Keep,
    StoredQuery,
    View,
    batches,
    nothing_materialized,
)

_BATCH_ROWS = 20_000
_PAGE_BYTES = 16_384
_BUSY_SECONDS = 30.0
# Bits of the position among ids of one hash; with 32 bits of hash the 64-bit key is positive.
_SHIFT = 20

# Attempts at opening a generation while it is replaced.
_REPLACEMENTS = 100
_NAME = re.compile(r"[A-Za-z0-9_-]+\.db")


class SqliteStore:
    """The store in SQLite files; see `OnlineStore`.

    Args:
        directory: Directory of the files; the first write creates it.
        patience: Seconds to wait for another writer; None: `_BUSY_SECONDS`.
    """

    def __init__(self, directory: Path, patience: float | None = None) -> None:
        self.directory = directory
        self._busy_seconds = _BUSY_SECONDS if patience is None else patience
        self._current: tuple[tuple[int, int], sqlite3.Connection, Contents] | None = None
        self._appended = AppendedEvents(directory / "appended.db", self._busy_seconds)

    def contents(self) -> Contents | None:
        """Returns the description of the current generation."""
        current = self._open_current()
        return current[1] if current is not None else None

    def count_rows(self) -> dict[View, int]:
        """Counts the rows of the current generation, and so reads every page of them."""
        with self._current_generation() as (connection, _):
            count = "SELECT count(*) FROM "
            return {view: connection.execute(count + view).fetchone()[0] for view in VIEWS}

    def read(self, view: View, ids: Sequence[str]) -> tuple[Contents, list[bytes | None]]:
        """Reads rows of a view; None where there is none."""
        with self._current_generation() as (connection, contents):
            return contents, [_read(connection, view, text) for text in ids]

    def read_queries(self, query_ids: Sequence[str]) -> list[StoredQuery]:
        """Reads everything about some queries, of one generation."""
        with self._current_generation() as (connection, contents):
            return [
                StoredQuery(
                    contents,
                    _read(connection, "query_features", query_id),
                    _read(connection, "query_history", query_id),
                    self._appended.of(query_id),
                )
                for query_id in query_ids
            ]

    def append(self, events: Sequence[tuple[str, Event]]) -> None:
        """Adds events of queries, all or none, unless they are there."""
        with self._current_generation() as (_, contents):
            self._appended.add(events, contents)

    def appended(self, query_id: str) -> list[Event]:
        """Returns the events that were appended to a query."""
        return self._appended.of(query_id)

    def prune(self, keep: Keep) -> str | None:
        """Removes the appended events that are not kept, and overwrites them in the file."""
        try:
            self._appended.prune(keep)
        except BrokenStoreError as error:
            aside = self._appended.set_aside()
            return (
                f"{error} It did so now, and the old file is {aside}: remove it unless you can "
                "mend it, because it may hold ids that are to be forgotten."
            )
        return None

    @contextmanager
    def load(self, contents: Contents) -> Iterator["_SqliteLoader"]:
        """Begins a new generation.

        Raises:
            UserError: The files cannot be written.
        """
        name = f"{contents.generation}.db"
        temporary = temporary_sibling(self.directory / name)
        try:
            with self._written():
                self.directory.mkdir(parents=True, exist_ok=True)
                loader = _SqliteLoader(temporary, contents)
            try:
                yield loader
                loader.finish()
            except sqlite3.OperationalError as error:
                raise self._unwritable(error) from error
            finally:
                loader.close()
            with self._written():
                _sync(temporary)
                temporary.replace(self.directory / name)
                write_text(self.directory / "current", name + "\n")
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        for other in self.directory.glob("*.db*"):
            if not other.name.startswith((name, "appended.db")) and not other.is_dir():
                other.unlink(missing_ok=True)  # A reader that has it open can continue.

    def update(self, view: View, ids: Sequence[str], rows: Sequence[bytes]) -> None:
        """Replaces single rows of the current generation."""
        with self._current_generation() as (connection, _), transaction(connection):
            for text, row in zip(ids, rows, strict=True):
                key = hash_of_id(text) << _SHIFT
                rows_of_hash = connection.execute(
                    f"SELECT key, id FROM {view} WHERE key BETWEEN ? AND ?",
                    (key, key + (1 << _SHIFT) - 1),
                ).fetchall()
                same = [k for k, other in rows_of_hash if other == text]
                free = max([k + 1 for k, _ in rows_of_hash], default=key)
                values = (same[0] if same else free, text, row)
                connection.execute(f"INSERT OR REPLACE INTO {view} VALUES (?, ?, ?)", values)

    def clear(self) -> None:
        """Removes everything."""
        self.close()
        for file in (self.directory / "current", *self.directory.glob("*.db*")):
            file.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes its connections."""
        self._close_current()
        self._appended.close()

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> UserError:
        return UserError(
            f"cannot write the online store in {self.directory} ({error}), and the one before "
            "stays; expected a directory that can be written and has room."
        )

    def _close_current(self) -> None:
        if self._current is not None:
            self._current[1].close()
            self._current = None

    @contextmanager
    def _current_generation(self) -> Iterator[tuple[sqlite3.Connection, Contents]]:
        """Yields the generation that is current now; after a failure it is opened anew."""
        current = self._open_current()
        if current is None:
            raise nothing_materialized()
        try:
            yield current
        except sqlite3.DatabaseError as error:
            self._close_current()
            if is_damage(error):
                raise broken(self._current_path(), str(error)) from error
            raise

    def _open_current(self) -> tuple[sqlite3.Connection, Contents] | None:
        """Opens the generation that is current now, perhaps another than at the last read."""
        tried = None
        for _ in range(_REPLACEMENTS):
            state = self._state()
            if state is None:
                return None
            if self._current is not None and self._current[0] == state:
                return self._current[1:]
            self._close_current()
            path = self._current_path()
            try:
                self._current = (state, *open_generation(path, self._busy_seconds))
            except FileNotFoundError as error:
                if state == tried:  # Nobody has replaced `current` since it was read.
                    raise broken(path, "there is no such file") from error
                tried = state
        raise sqlite3.OperationalError(f"{self.directory} is replaced all the time")

    def _state(self) -> tuple[int, int] | None:
        """Returns what changes with the file `current`; None where there is none."""
        try:
            status = os.stat(self.directory / "current")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise broken(self.directory, str(error.strerror)) from error
        return status.st_ino, status.st_mtime_ns

    def _current_path(self) -> Path:
        path = self.directory / "current"
        if not path.is_file():
            raise broken(path, "it is no file")
        try:
            name = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise broken(path, "it does not name a file") from error
        if not _NAME.fullmatch(name):
            raise broken(path, "it does not name a file")
        return self.directory / name


class _SqliteLoader:
    def __init__(self, path: Path, contents: Contents) -> None:
        self._connection = connect(path, "rwc", _BUSY_SECONDS)
        self._last = {view: (-1, 0) for view in VIEWS}
        # No reader sees the file before it is finished: a crash leaves nothing to recover.
        for pragma in (f"page_size={_PAGE_BYTES}", "journal_mode=OFF", "synchronous=OFF"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._connection.execute("BEGIN")
        self._connection.execute("CREATE TABLE contents (json TEXT NOT NULL)")
        text = contents.model_dump_json()
        self._connection.execute("INSERT INTO contents VALUES (?)", (text,))
        for view in VIEWS:
            self._connection.execute(
                f"CREATE TABLE {view} "
                "(key INTEGER PRIMARY KEY, id TEXT NOT NULL, row BLOB NOT NULL)"
            )

    def add(self, view: View, ids: pa.Array, rows: pa.Array) -> None:
        """Adds rows of ids, sorted by `hash_of_ids`."""
        insert = f"INSERT INTO {view} VALUES (?, ?, ?)"
        for some_ids, some_rows in batches(ids, rows, _BATCH_ROWS):
            keys = self._keys(view, hash_of_ids(some_ids))
            values = zip(keys, some_ids.to_pylist(), some_rows.to_pylist(), strict=True)
            self._connection.executemany(insert, values)

    def finish(self) -> None:
        """Commits the only transaction."""
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _keys(self, view: View, hashes: Ints) -> list[int]:
        """Computes keys: the hash, then the position among the adjacent ids of that hash."""
        last, last_position = self._last[view]
        is_new = np.ones(len(hashes), bool)
        is_new[1:] = hashes[1:] != hashes[:-1]
        is_new[:1] = hashes[:1] != last
        row = np.arange(len(hashes))
        first = np.maximum.accumulate(np.where(is_new, row, -1))
        positions = np.where(first >= 0, row - first, row + last_position + 1)
        if len(hashes):
            self._last[view] = (int(hashes[-1]), int(positions[-1]))
        return ((hashes << _SHIFT) + positions).tolist()


def _read(connection: sqlite3.Connection, view: View, text: str) -> bytes | None:
    key = hash_of_id(text) << _SHIFT
    query = f"SELECT row FROM {view} WHERE key BETWEEN ? AND ? AND id = ?"
    row = connection.execute(query, (key, key + (1 << _SHIFT) - 1, text)).fetchone()
    return row[0] if row is not None else None


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
