"""The online store in SQLite files, for one machine.

    online/
      current                     the name of the generation's file
      <generation>.db             bulk data; after its load only Feast writes to it
      appended.db                 events appended since

Rows lie in the order of their ids' hash, which is also their key, so that a bulk load only ever
appends to the tree, and a read needs no second index.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints
from feature_store.core.files import temporary_sibling, write_text
from feature_store.core.hashing import hash_of_id, hash_of_ids
from feature_store.online.store import (
    VIEWS,
    Contents,
    Event,
    Keep,
    StoredQuery,
    View,
    batches,
    latest_events,
    nothing_materialized,
)

_BATCH_ROWS = 20_000
_PAGE_BYTES = 16_384
_BUSY_SECONDS = 30.0
# Bits of the position among ids of one hash; with 32 bits of hash the 64-bit key is positive.
_SHIFT = 20

_APPENDED_TABLE = (
    "CREATE TABLE IF NOT EXISTS appended (query_id TEXT, timestamp INTEGER, item_id TEXT, "
    "PRIMARY KEY (query_id, timestamp, item_id)) WITHOUT ROWID"
)


class SqliteStore:
    """The store in SQLite files; see `OnlineStore`.

    Args:
        directory: Directory of the files; the first write creates it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._current: tuple[tuple[int, int], sqlite3.Connection, Contents] | None = None
        self._appended: sqlite3.Connection | None = None

    def contents(self) -> Contents | None:
        """Returns the description of the current generation."""
        current = self._open_current()
        return current[1] if current is not None else None

    def read(self, view: View, ids: Sequence[str]) -> tuple[Contents, list[bytes | None]]:
        """Reads rows of a view; None where there is none."""
        connection, contents = self._require_current()
        return contents, [_read(connection, view, text) for text in ids]

    def read_query(self, query_id: str) -> StoredQuery:
        """Reads everything about a query, of one generation."""
        connection, contents = self._require_current()
        return StoredQuery(
            contents,
            _read(connection, "query_features", query_id),
            _read(connection, "query_history", query_id),
            self.appended(query_id),
        )

    def append(self, query_id: str, event: Event) -> None:
        """Adds an event, unless it is there; only the latest of a query are kept."""
        contents = self._require_current()[1]
        connection = self._open_appended(create=True)
        assert connection is not None
        with _transaction(connection):
            connection.execute(
                "INSERT OR IGNORE INTO appended VALUES (?, ?, ?)", (query_id, *event)
            )
            events = self.appended(query_id)
            if len(events) > contents.max_length or contents.distinct:
                superseded = set(events) - set(latest_events(events, contents))
                _delete(connection, [(query_id, *other) for other in superseded])

    def appended(self, query_id: str) -> list[Event]:
        """Returns the events that were appended to a query."""
        connection = self._open_appended(create=False)
        if connection is None:
            return []
        rows = "SELECT timestamp, item_id FROM appended WHERE query_id = ?"
        return connection.execute(rows, (query_id,)).fetchall()

    def prune(self, keep: Keep) -> None:
        """Removes the appended events that are not kept, and overwrites them in the file."""
        connection = self._open_appended(create=False)
        if connection is None:
            return
        with _transaction(connection):
            rows = connection.execute("SELECT query_id, timestamp, item_id FROM appended")
            gone = [row for row in rows if not keep(row[0], (row[1], row[2]))]
            _delete(connection, gone)
        if gone:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def load(self, contents: Contents) -> Iterator["_SqliteLoader"]:
        """Begins a new generation."""
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"{contents.generation}.db"
        temporary = temporary_sibling(self.directory / name)
        try:
            loader = _SqliteLoader(temporary, contents)
            try:
                yield loader
                loader.finish()
            finally:
                loader.close()
            _sync(temporary)
            temporary.replace(self.directory / name)
            write_text(self.directory / "current", name + "\n")
        finally:
            temporary.unlink(missing_ok=True)
        for other in self.directory.glob("*.db*"):
            if not other.name.startswith((name, "appended.db")):
                other.unlink(missing_ok=True)  # A reader that has it open can continue.

    def update(self, view: View, ids: Sequence[str], rows: Sequence[bytes]) -> None:
        """Replaces single rows of the current generation."""
        connection, _ = self._require_current()
        with _transaction(connection):
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
        if self._current is not None:
            self._current[1].close()
        if self._appended is not None:
            self._appended.close()
        self._current = self._appended = None

    def _require_current(self) -> tuple[sqlite3.Connection, Contents]:
        current = self._open_current()
        if current is None:
            raise nothing_materialized()
        return current

    def _open_current(self) -> tuple[sqlite3.Connection, Contents] | None:
        """Opens the generation that is current now, perhaps another than at the last read."""
        while True:
            try:
                status = os.stat(self.directory / "current")
            except FileNotFoundError:
                return None
            state = (status.st_ino, status.st_mtime_ns)
            if self._current is not None and self._current[0] == state:
                return self._current[1:]
            if self._current is not None:
                self._current[1].close()
                self._current = None
            path = self.directory / (self.directory / "current").read_text().strip()
            try:
                connection = _connect(path, "rw")
            except sqlite3.OperationalError:
                if path.exists():
                    raise
                continue  # Replaced since `current` was read.
            text = connection.execute("SELECT json FROM contents").fetchone()[0]
            self._current = (state, connection, Contents.model_validate_json(text))

    def _open_appended(self, *, create: bool) -> sqlite3.Connection | None:
        path = self.directory / "appended.db"
        if self._appended is not None:
            return self._appended
        if not create and not path.exists():
            return None
        connection = _connect(path, "rwc")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute(_APPENDED_TABLE)
        self._appended = connection
        return connection


class _SqliteLoader:
    def __init__(self, path: Path, contents: Contents) -> None:
        self._connection = _connect(path, "rwc")
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


def _delete(connection: sqlite3.Connection, rows: list[tuple[str, int, str]]) -> None:
    delete = "DELETE FROM appended WHERE query_id = ? AND timestamp = ? AND item_id = ?"
    connection.executemany(delete, rows)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")  # A later upgrade from reading to writing may fail.
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # No implicit transactions: ours are explicit.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
