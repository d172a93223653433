"""SQLite stores of MLflow that were moved, or copied, with their artifacts.

MLflow notes where artifacts are as absolute paths. Those of a moved store would be looked for, and
new ones written, where the store was.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FOLDER = "mlartifacts"
_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_BUSY_SECONDS = 20.0


def artifacts_of(store: Path) -> Path:
    """Returns the directory of the artifacts of a SQLite store: beside it."""
    return store.absolute().parent / _FOLDER


def find_artifacts(store: Path) -> None:
    """Notes the present place of artifacts that lie beside a store, and were elsewhere before.

    Args:
        store: File of the store.
    """
    here = artifacts_of(store.resolve())
    if not here.is_dir():
        return
    with closing(sqlite3.connect(store, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
        query = "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE ?"
        noted = [uri for (uri,) in database.execute(query, (f"file://%/{_FOLDER}",))]
        moved = [uri for uri in noted if _path(uri).resolve() != here]
        if not moved:
            return
        database.execute("BEGIN IMMEDIATE")
        for uri in moved:
            if _are_here(database, uri, here):
                _replace(database, uri, here.as_uri())
        database.execute("COMMIT")


def _path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))


def _are_here(database: sqlite3.Connection, before: str, here: Path) -> bool:
    """Returns whether artifacts of a run that were noted elsewhere lie in the directory."""
    query = "SELECT artifact_uri FROM runs WHERE substr(artifact_uri, 1, ?) = ?"
    start = f"{before}/"
    runs = database.execute(query, (len(start), start))
    return any((here / unquote(uri[len(start) :])).exists() for (uri,) in runs)


def _replace(database: sqlite3.Connection, before: str, after: str) -> None:
    for table, column in _PATHS:
        database.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
        )
