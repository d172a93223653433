"""Reading of Parquet files that somebody else may have written: a damaged one is a sentence."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.documents import DocumentError


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a Parquet file.

    Args:
        path: Path of the file.
        columns: Columns to read; None: all.

    Raises:
        DocumentError: It is no such file, is damaged, or lacks a column.
        FileNotFoundError: There is no file.
    """
    with _named(path):
        return pq.read_table(path, columns=columns)


def column_names(path: Path) -> list[str]:
    """Reads the names of a Parquet file's columns; errors are those of `read_table`."""
    with _named(path):
        names: list[str] = pq.read_schema(path).names
        return names


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or ["it is damaged"])[0]
        raise DocumentError.of(path, reason) from error
