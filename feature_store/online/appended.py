"""The events that were appended to the online store on SQLite, in a file of their own."""

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from feature_store.online.generation import connect, fault_of_file, is_damage
from feature_store.online.store import BrokenStoreError, Contents, Event, Keep, latest_events

_TABLE = (
    "CREATE TABLE IF NOT EXISTS appended (query_id TEXT, timestamp INTEGER, item_id TEXT, "
    "PRIMARY KEY (query_id, timestamp, item_id)) WITHOUT ROWID"
)


class AppendedEvents:
    """The file of the appended events.

    Args:
        path: Path of the file; the first event creates it.
        busy_seconds: Seconds to wait for another writer.
    """

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        # Identity of the file that the connection is of: it may be replaced under a reader.
        self._opened: tuple[tuple[int, int], sqlite3.Connection] | None = None

    def of(self, query_id: str) -> list[Event]:
        """Returns the events of a query, in no order."""
        with self._reading() as connection:
            return [] if connection is None else _events(connection, query_id)

    def add(self, events: Sequence[tuple[str, Event]], contents: Contents) -> None:
        """Adds events of queries, all or none, and removes those that are not the latest."""
        with self._reading(create=True) as connection:
            assert connection is not None
            with transaction(connection):
                connection.executemany(
                    "INSERT OR IGNORE INTO appended VALUES (?, ?, ?)",
                    [(query_id, *event) for query_id, event in events],
                )
                for query_id in dict.fromkeys(query_id for query_id, _ in events):
                    there = _events(connection, query_id)
                    if len(there) > contents.max_length or contents.distinct:
                        gone = set(there) - set(latest_events(there, contents))
                        _delete(connection, [(query_id, *event) for event in gone])

    def prune(self, keep: Keep) -> None:
        """Removes the events that are not kept, and overwrites them in the file."""
        with self._reading() as connection:
            if connection is None:
                return
            with transaction(connection):
                rows = connection.execute("SELECT query_id, timestamp, item_id FROM appended")
                gone = [row for row in rows if not keep(row[0], (row[1], row[2]))]
                _delete(connection, gone)
            if gone:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def set_aside(self) -> Path:
        """Renames the file and its journals; returns the new name of the file."""
        self.close()
        number = 1
        while (aside := self._path.with_name(f"{self._path.name}.damaged-{number}")).exists():
            number += 1
        self._path.replace(aside)
        for suffix in ("-wal", "-shm"):
            journal = self._path.with_name(self._path.name + suffix)
            if journal.exists():
                journal.replace(aside.with_name(aside.name + suffix))
        return aside

    def close(self) -> None:
        """Closes the file."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    @contextmanager
    def _reading(self, *, create: bool = False) -> Iterator[sqlite3.Connection | None]:
        """Yields a connection, None where there is no file; names the file that is damaged."""
        try:
            yield self._connection(create)
        except sqlite3.DatabaseError as error:
            self.close()  # The next call opens the file that is there by then.
            if is_damage(error):
                raise self._broken(str(error)) from error
            raise

    def _connection(self, create: bool) -> sqlite3.Connection | None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            self.close()
            if not create:
                return None
        else:
            state = (status.st_dev, status.st_ino)
            if self._opened is not None and self._opened[0] == state:
                return self._opened[1]
            self.close()
            # A file of no bytes is one that another process is creating.
            is_new = stat.S_ISREG(status.st_mode) and not status.st_size
            fault = None if is_new else fault_of_file(self._path)
            if fault is not None:
                raise self._broken(fault)
        connection = self._open()
        status = os.stat(self._path)
        self._opened = ((status.st_dev, status.st_ino), connection)
        return connection

    def _open(self) -> sqlite3.Connection:
        connection = connect(self._path, "rwc", self._busy_seconds)
        try:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            others = {name for (name,) in tables} - {"appended"}
            if others:
                raise self._broken(f"it has a table {min(others)}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute(_TABLE)
            columns = [row[1] for row in connection.execute("PRAGMA table_info(appended)")]
            if columns != ["query_id", "timestamp", "item_id"]:
                raise self._broken(f"its table has the columns {', '.join(columns)}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _broken(self, fault: str) -> BrokenStoreError:
        return BrokenStoreError(
            f"{self._path} does not hold the appended events of an online store ({fault}); run "
            "`recsys materialize`, which begins a new file."
        )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits what the block writes, or nothing."""
    connection.execute("BEGIN IMMEDIATE")  # A later upgrade from reading to writing may fail.
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # Some faults have ended it already.
            connection.execute("ROLLBACK")
        raise


def _events(connection: sqlite3.Connection, query_id: str) -> list[Event]:
    rows = "SELECT timestamp, item_id FROM appended WHERE query_id = ?"
    return connection.execute(rows, (query_id,)).fetchall()


def _delete(connection: sqlite3.Connection, rows: list[tuple[str, int, str]]) -> None:
    delete = "DELETE FROM appended WHERE query_id = ? AND timestamp = ? AND item_id = ?"
    connection.executemany(delete, rows)
