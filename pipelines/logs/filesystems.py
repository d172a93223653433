"""The file systems of logs: this machine's, pyarrow's by URL, and fsspec's by URL."""

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import quote, unquote

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs

from feature_store.core.errors import UserError
from pipelines.logs.walk import matches_path
from pipelines.urls import is_url, secrets_of, shown

_OF_PYARROW = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
_WITH_BUCKETS = ("s3", "gs", "gcs")

# Names of the version of a file in fsspec's file systems, the best first.
_MARKS = (
    *("mtime", "ETag", "etag", "md5Hash", "Content-MD5", "Digest", "LastModified"),
    *("last_modified", "updated", "Last-Modified", "modified", "created"),
)


def reason_of(error: Exception, path: str) -> str:
    """Formats an error on one line, without the secrets of a path or URL."""
    text = (" ".join(str(error).split()).rstrip(".") or type(error).__name__).replace(
        path, shown(path)
    )
    for secret in secrets_of(path):
        for form in (secret, unquote(secret)):
            text = text.replace(form, "***")
    return text


def open_filesystem(url: str) -> tuple[fs.FileSystem, str]:
    """Opens the file system of a URL, pyarrow's where it has that scheme; also returns the path.

    Raises:
        UserError: No file system has that scheme, its package is missing, or it does not open.
    """
    base, options = split_options(url)
    scheme, _, path = base.partition("://")
    bucket, _, key = path.partition("/")
    if (
        scheme not in _WITH_BUCKETS or not key or "@" in key
    ):  # With an @ it may be part of a password.
        return _open(url)
    filesystem, root = _open(f"{scheme}://{bucket}{options}")
    decoded = key if isinstance(filesystem, fs.PyFileSystem) else unquote(key)
    return filesystem, f"{root}/{decoded}"


@lru_cache(maxsize=256)  # Each opened bucket costs requests.
def _open(url: str) -> tuple[fs.FileSystem, str]:
    scheme = re.split("::|://", url, maxsplit=1)[0]
    if scheme in _OF_PYARROW:
        try:
            return fs.FileSystem.from_uri(url)
        except pa.ArrowNotImplementedError:
            pass  # This build of pyarrow lacks it.
        except (pa.ArrowException, OSError) as error:
            raise _cannot_open(url, error) from None
    if scheme not in fsspec.available_protocols():
        raise UserError(
            f"{shown(url)}: no file system is called {scheme}://; expected a path, or a URL that "
            "pyarrow or fsspec knows, such as file://, s3://, gs://, abfs:// or https://."
        )
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UserError(
            f"{shown(url)} needs a package that is not installed ({reason_of(error, url)}); "
            "install it here and on every machine of the cluster."
        ) from None
    except Exception as error:  # The file system may be from any package.
        raise _cannot_open(url, error) from None
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


def _cannot_open(url: str, error: Exception) -> UserError:
    return UserError(
        f"cannot open {shown(url)} ({reason_of(error, url)}); "
        "expected the URL of a Parquet file or directory, with credentials that may read it."
    )


class UnreadableFileError(UserError):
    """A file that is missing, damaged or no Parquet.

    Args:
        message: Sentence on all of it.
        table: Name of the table.
        file: Path or URL.
        reason: End of a sentence about the file.
    """

    def __init__(self, message: str, table: str, file: str, reason: str) -> None:
        super().__init__(message, table, file, reason)  # As pickle restores it.
        self.table = table
        self.file = file
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


@contextmanager
def reading(file: str, what: str) -> Iterator[None]:
    """Turns errors of reading a Parquet file into an UnreadableFileError; `what` is its table."""
    # A file system by URL may be from any package, and raise anything.
    errors = (Exception,) if is_url(file) else (pa.ArrowException, OSError)
    try:
        yield
    except UserError:
        raise
    except errors as error:
        reason = reason_of(error, file)
        message = (
            f"{what}: cannot read {shown(file)} as Parquet ({reason}); "
            "write it again or take it away."
        )
        raise UnreadableFileError(message, what, file, f"cannot be read ({reason})") from (
            None if secrets_of(file) else error
        )


def open_parquet(file: str, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """Opens a local file or a URL, with its own or other metadata."""
    if is_url(file):
        filesystem, path = open_filesystem(file)
        return pq.ParquetFile(path, filesystem=filesystem, pre_buffer=True, metadata=metadata)
    return pq.ParquetFile(file, metadata=metadata)


@contextmanager
def open_rows(file: str) -> Iterator[tuple[pq.ParquetFile, pa.Schema]]:
    """Opens a file so that all rows can be read; also yields its schema.

    Arrow writes nulls among lists of fixed size, but cannot read them again unless it uses the
    types of Parquet, which has no lists of fixed size.
    """
    with open_parquet(file) as parquet:
        schema, metadata = parquet.schema_arrow, parquet.metadata
        if not any(map(_has_fixed_lists, schema.types)):
            yield parquet, schema
            return
    with open_parquet(file, _with_stored_types(metadata)) as parquet:
        yield parquet, schema


def _has_fixed_lists(kind: pa.DataType) -> bool:
    if pa.types.is_fixed_size_list(kind):
        return True
    return any(_has_fixed_lists(kind.field(i).type) for i in range(kind.num_fields))


def _with_stored_types(metadata: pq.FileMetaData) -> pq.FileMetaData:
    """Drops the Arrow types that the writer noted, by overwriting their key."""
    footer = io.BytesIO()
    metadata.write_metadata_file(footer)
    stored = footer.getvalue().replace(b"ARROW:schema", b"arrow:schema")
    return pq.read_metadata(pa.BufferReader(stored))


def real_path(file: str) -> str:
    """Returns the path of a local file from the root, or of a URL in its file system."""
    if not is_url(file):
        return os.path.abspath(file)
    path = open_filesystem(file)[1]
    return split_options(path)[0] if is_url(path) else path  # Paths on the web are URLs themselves.


def file_state(file: str) -> tuple[int, str]:
    """Returns the size in bytes, and a mark that changes when the file is written again.

    The mark is the modification time, or, in a file system without one, an entity tag or similar;
    it is empty where there is none.
    """
    if not is_url(file):
        status = os.stat(file)
        return status.st_size, str(status.st_mtime_ns)
    filesystem, path = open_filesystem(file)
    if isinstance(filesystem, fs.PyFileSystem):
        information = filesystem.handler.fs.info(path)
        marks = [information[name] for name in _MARKS if information.get(name) is not None]
        return information.get("size") or 0, str(marks[0]) if marks else ""
    status = filesystem.get_file_info(path)
    return status.size, str(status.mtime_ns)


def list_files(url: str) -> tuple[list[str], list[str]]:
    """Lists all files below a directory, or those that a glob in a URL matches.

    Returns:
        files: URLs of the files.
        names: Paths below the part of `url` that is no pattern, each with a `/` before it, in the
            same order; empty for `url` itself where it is a file.

    Raises:
        UserError: The directory cannot be listed.
    """
    base, options = split_options(url)
    fixed, pattern = split_pattern(base)
    filesystem, root = open_filesystem(fixed + options)
    try:
        if isinstance(filesystem, fs.PyFileSystem):
            filesystem.handler.fs.invalidate_cache()
        if not pattern and filesystem.get_file_info(root).type == fs.FileType.File:
            return [url], [""]
        entries = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    except Exception as error:  # The file system may be from any package.
        raise UserError(
            f"cannot list {shown(url)} ({reason_of(error, url)}); "
            "give the URL of a Parquet file, a directory of them or a glob."
        ) from None
    start = len(root.rstrip("/"))
    names = [entry.path[start:] for entry in entries if entry.type == fs.FileType.File]
    if pattern:
        names = [name for name in names if matches_path(name[1:], pattern)]
    return urls_below(fixed, options, filesystem, names), names


def local_path(url: str) -> str | None:
    """Returns the path of a URL on this machine; None where it is of another file system."""
    filesystem, path = open_filesystem(url)
    if isinstance(filesystem, fs.LocalFileSystem):
        return str(path)
    is_local = isinstance(filesystem, fs.PyFileSystem) and isinstance(
        filesystem.handler.fs, LocalFileSystem
    )
    return str(path) if is_local else None


def urls_below(
    fixed: str, options: str, filesystem: fs.FileSystem, names: Sequence[str]
) -> list[str]:
    """Returns the URLs of names below the URL of a directory."""
    # pyarrow's own file systems decode URLs, fsspec's take them as they are.
    paths = names if isinstance(filesystem, fs.PyFileSystem) else [quote(n, "/=") for n in names]
    return [fixed.rstrip("/") + name + options for name in paths]


def starts_with(file: str, mark: bytes) -> bool:
    """Checks the first bytes of a file; one that cannot be read may have them."""
    try:
        if not is_url(file):
            with open(file, "rb") as stream:
                return stream.read(len(mark)) == mark
        filesystem, path = open_filesystem(file)
        with filesystem.open_input_file(path) as stream:
            return bool(stream.read(len(mark)) == mark)
    except Exception:  # The file system may be from any package; reading the file says why.
        return True


def split_options(url: str) -> tuple[str, str]:
    """Splits a URL at the end of its path, before `?name=value` or `::https://...`."""
    start = url.index("://") + 3
    length = len(re.split(r"\?|::", url[start:], maxsplit=1)[0])
    return url[: start + length], url[start + length :]


def split_pattern(base: str) -> tuple[str, str]:
    """Splits a URL into the directories before the first `*` or `[`, and the rest."""
    plain = re.split(r"[*\[]", base, maxsplit=1)[0]
    if plain == base:
        return base, ""
    fixed = plain.rpartition("/")[0]
    if not is_url(fixed):
        raise UserError(f"{shown(base)} has a pattern in place of a host; write out the host.")
    return fixed, base[len(fixed) + 1 :]
