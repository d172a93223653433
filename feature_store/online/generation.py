"""The file of one generation of the online store on SQLite: connections, and its soundness."""

import os
import sqlite3
import stat
from pathlib import Path

from pydantic import ValidationError

from feature_store.core.errors import UserError
from feature_store.online.store import VIEWS, BrokenStoreError, Contents

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


def connect(path: Path, mode: str, busy_seconds: float) -> sqlite3.Connection:
    """Opens a database file.

    Args:
        path: Path of the file.
        mode: Mode of SQLite: `rw` for a file that exists, `rwc` to create one.
        busy_seconds: Seconds to wait for another writer.
    """
    # No implicit transactions: ours are explicit.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )


def open_generation(path: Path, busy_seconds: float) -> tuple[sqlite3.Connection, Contents]:
    """Opens the file of a generation, and reads its description.

    Raises:
        FileNotFoundError: There is no such file.
        BrokenStoreError: It is not the whole file of this generation.
    """
    fault = fault_of_file(path)
    if fault is not None or _is_truncated(path):
        raise broken(path, fault or "it is truncated")
    connection = connect(path, "rw", busy_seconds)
    try:
        return connection, _contents(connection, path)
    except BaseException:
        connection.close()
        raise


def fault_of_file(path: Path) -> str | None:
    """Returns why a path is not a database file, or None; reads its first bytes only.

    Raises:
        FileNotFoundError: There is nothing at the path.
        UserError: It cannot be read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "it is a directory"
        if not stat.S_ISREG(mode):  # A pipe would be waited for.
            return "it is no file"
        with path.open("rb") as file:
            header = file.read(len(_MAGIC))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); make it readable.") from error
    if not header:
        return "it is empty"
    return None if header == _MAGIC else "it is not a database of SQLite"


def _is_truncated(path: Path) -> bool:
    """Compares the size with the header (https://www.sqlite.org/fileformat.html)."""
    if path.with_name(f"{path.name}-journal").exists():
        return False  # A writer is changing it.
    with path.open("rb") as file:
        header, size = file.read(_HEADER_BYTES), os.fstat(file.fileno()).st_size
    page_bytes = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    return size < max(_HEADER_BYTES, pages * (65_536 if page_bytes == 1 else page_bytes))


def is_damage(error: sqlite3.Error) -> bool:
    """Tells whether a file is not a whole database, as against one that is busy or full."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # The other bits tell more of the cause.
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def broken(path: Path, fault: str) -> BrokenStoreError:
    """Builds the error of a generation that cannot be read."""
    return BrokenStoreError(
        f"{path} is not the current generation of an online store ({fault}); run "
        "`recsys materialize`, which writes a new one."
    )


def _contents(connection: sqlite3.Connection, path: Path) -> Contents:
    try:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        missing = {"contents", *VIEWS} - {name for (name,) in tables}
        if missing:
            raise broken(path, f"it has no table {min(missing)}")
        row = connection.execute("SELECT json FROM contents").fetchone()
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise broken(path, str(error)) from error
        raise
    try:
        contents = Contents.model_validate_json(row[0] if row is not None else "")
    except ValidationError as error:
        raise broken(path, "its description is missing, or of another version") from error
    if contents.generation != path.stem:
        raise broken(path, f"it holds generation {contents.generation}")
    return contents
