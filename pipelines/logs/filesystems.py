"""The file systems that logs lie on: this machine's, pyarrow's by URL, and fsspec's by URL."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import quote, unquote

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate
from pyarrow import fs

from feature_store.core.errors import UserError
from pipelines.urls import _OPTION, _USER, is_url, shown

_OF_PYARROW = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
_WITH_BUCKETS = ("s3", "gs", "gcs")

# What fsspec's file systems call the version of a file, the best first.
_MARKS = (
    *("mtime", "ETag", "etag", "md5Hash", "Content-MD5", "Digest", "LastModified"),
    *("last_modified", "updated", "Last-Modified", "modified", "created"),
)


def reason_of(error: Exception, path: str) -> str:
    """What an error says, on one line and without the secrets of a path or URL."""
    text = (" ".join(str(error).split()).rstrip(".") or type(error).__name__).replace(
        path, shown(path)
    )
    for secret in _secrets(path):
        for form in (secret, unquote(secret)):
            text = text.replace(form, "***")
    return text


def _secrets(path: str) -> list[str]:
    if not is_url(path):
        return []
    users = _USER.findall(path)
    passwords = [user.partition(":")[2] for user in users]
    options = [value for _, value in _OPTION.findall(path)]
    return [secret for secret in (*users, *passwords, *options) if secret]


def open_filesystem(url: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URL, and the path in it; pyarrow's where it has that scheme.

    Raises:
        UserError: No file system has that scheme, its package is missing, or it does not open.
    """
    base, options = split_options(url)
    scheme, _, path = base.partition("://")
    bucket, _, key = path.partition("/")
    if scheme not in _WITH_BUCKETS or not key or "@" in key:  # With @ it may be of a password.
        return _open(url)
    filesystem, root = _open(f"{scheme}://{bucket}{options}")
    decoded = key if isinstance(filesystem, fs.PyFileSystem) else unquote(key)
    return filesystem, f"{root}/{decoded}"


@lru_cache(maxsize=256)  # To open a bucket takes requests.
def _open(url: str) -> tuple[fs.FileSystem, str]:
    scheme = re.split("::|://", url, maxsplit=1)[0]
    if scheme in _OF_PYARROW:
        try:
            return fs.FileSystem.from_uri(url)
        except pa.ArrowNotImplementedError:
            pass  # pyarrow was built without it.
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
    except Exception as error:  # The file system may be of any package.
        raise _cannot_open(url, error) from None
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


def _cannot_open(url: str, error: Exception) -> UserError:
    return UserError(
        f"cannot open {shown(url)} ({reason_of(error, url)}); "
        "expected the URL of a Parquet file or directory, with credentials that may read it."
    )


@contextmanager
def reading(file: str, what: str) -> Iterator[None]:
    """Makes a UserError of what goes wrong while a Parquet file is read; `what` is its table."""
    # A file system by URL may be of any package, and raise anything.
    errors = (Exception,) if is_url(file) else (pa.ArrowException, OSError)
    try:
        yield
    except UserError:
        raise
    except errors as error:
        message = (
            f"{what}: cannot read {shown(file)} as Parquet ({reason_of(error, file)}); "
            "write it again or take it away."
        )
        raise UserError(message) from (None if _secrets(file) else error)


def open_parquet(file: str, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """Opens a local file or a URL, with its own metadata or with other."""
    if is_url(file):
        filesystem, path = open_filesystem(file)
        return pq.ParquetFile(path, filesystem=filesystem, pre_buffer=True, metadata=metadata)
    return pq.ParquetFile(file, metadata=metadata)


@contextmanager
def open_rows(file: str) -> Iterator[tuple[pq.ParquetFile, pa.Schema]]:
    """Opens a file so that all rows can be read, and gives its schema.

    Arrow writes null in a list of fixed size and cannot read it again, unless the
    types are those of Parquet, which has no such lists.
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
    """Without the Arrow types that the writer noted, under a key that is overwritten here."""
    footer = io.BytesIO()
    metadata.write_metadata_file(footer)
    stored = footer.getvalue().replace(b"ARROW:schema", b"arrow:schema")
    return pq.read_metadata(pa.BufferReader(stored))


def real_path(file: str) -> str:
    """The path of a local file from the root, or of a URL in its file system."""
    if not is_url(file):
        return os.path.abspath(file)
    path = open_filesystem(file)[1]
    return split_options(path)[0] if is_url(path) else path  # The web's are URLs themselves.


def file_state(file: str) -> tuple[int, str]:
    """Size in bytes, and a mark that changes when a file is written again.

    The mark is the modification time, or where the file system keeps none an entity tag or the
    like; empty where there is nothing of the kind.
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
    """The URLs of all files below a directory, or of those that a glob in a URL matches.

    Returns:
        The URLs; and the paths below the part of `url` that is no pattern, each with a `/` before
        it, in the same order. The path of `url` itself is empty where it is a file.

    Raises:
        UserError: It cannot be listed.
    """
    base, options = split_options(url)
    fixed, pattern = _split_pattern(base)
    filesystem, root = open_filesystem(fixed + options)
    try:
        if isinstance(filesystem, fs.PyFileSystem):
            filesystem.handler.fs.invalidate_cache()
        if not pattern and filesystem.get_file_info(root).type == fs.FileType.File:
            return [url], [""]
        entries = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    except Exception as error:  # The file system may be of any package.
        raise UserError(
            f"cannot list {shown(url)} ({reason_of(error, url)}); "
            "give the URL of a Parquet file, a directory of them or a glob."
        ) from None
    start = len(root.rstrip("/"))
    names = [entry.path[start:] for entry in entries if entry.type == fs.FileType.File]
    if pattern:
        names = [name for name in names if _matches(name[1:], glob_translate(pattern))]
    # pyarrow's own file systems decode URLs, fsspec's take them as they are.
    spelt = names if isinstance(filesystem, fs.PyFileSystem) else [quote(n, "/=") for n in names]
    return [fixed.rstrip("/") + name + options for name in spelt], names


def split_options(url: str) -> tuple[str, str]:
    """What comes before and after the end of the path: `?name=value`, `::https://...`."""
    start = url.index("://") + 3
    length = len(re.split(r"\?|::", url[start:], maxsplit=1)[0])
    return url[: start + length], url[start + length :]


def _split_pattern(base: str) -> tuple[str, str]:
    """A URL's directories before the first `*` or `[`, and what comes after them."""
    plain = re.split(r"[*\[]", base, maxsplit=1)[0]
    if plain == base:
        return base, ""
    fixed = plain.rpartition("/")[0]
    return fixed, base[len(fixed) + 1 :]


def _matches(name: str, pattern: str) -> bool:
    """Whether a regular expression matches a path, or a directory on it."""
    ends = [match.start() for match in re.finditer("/|$", name)]
    return any(re.match(pattern, name[:end]) for end in ends)
