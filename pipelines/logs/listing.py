"""The Parquet files of a path, and what a directory or a glob holds besides."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from feature_store.core.errors import UserError
from pipelines.logs.filesystems import (
    list_files,
    local_path,
    open_filesystem,
    split_options,
    split_pattern,
    starts_with,
    urls_below,
)
from pipelines.logs.walk import is_ignored, matches, matches_path, walk, without_repeats
from pipelines.urls import is_url, shown

_PARQUET = (".parquet", ".parq", ".pq")
_MAGIC = b"PAR1"
# Endings that are believed: files in other formats, copies and unfinished files.
_OTHERS = (
    *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".orc", ".avro", ".arrow", ".feather"),
    *(".xml", ".html", ".yaml", ".yml", ".md", ".log", ".py", ".sql", ".sh", ".xlsx", ".zip"),
    *(".tmp", ".temp", ".bak", ".old", ".orig", ".swp", ".part", ".partial", ".inprogress"),
)
# Directories of table formats whose logs say which of the files count.
_TABLE_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}
_SHOWN_NAMES = 5
_READERS = 16


@dataclass(frozen=True)
class Listing:
    """The files of a path.

    Attributes:
        files: Paths or URLs of the Parquet files, sorted.
        notes: Sentences for the user on what else is there and is not read.
    """

    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


def find_files(path: str) -> Listing:
    """Lists the Parquet files of a file, a directory, a glob or a URL of one of these.

    A file, and a glob that spells out an ending, are read whatever their names. Otherwise, a file
    is Parquet by its ending, or by its first bytes if its ending is no other format's. Directories
    are read recursively, through links, too; see `is_ignored` for the names that are left out.

    Raises:
        UserError: There is no such path, or nothing in it is Parquet.
    """
    base, pattern = split_pattern(split_options(path)[0]) if is_url(path) else _split(path)
    if is_url(path):
        names, repeats = _of_url(path, base, pattern)
    elif not pattern and os.path.isfile(path):
        return Listing((path,))
    elif pattern or os.path.isdir(path):
        names, repeats = without_repeats(_local(base, pattern), base or ".")
    else:
        raise UserError(
            f"{path} does not exist; give a Parquet file, a directory of them or a glob."
        )
    if names == [path]:
        return Listing((path,))
    named_by_ending = "." in re.split(r"[*?\]]", pattern)[-1]
    files, others = (names, []) if named_by_ending else _parquet(names)
    if not files:
        raise UserError(
            f"{shown(path)} holds no Parquet files ({_listing(others)}); "
            "give a Parquet file, a directory of them or a glob."
        )
    return Listing(tuple(files), tuple(_notes(path, base, others, repeats)))


def would_read(path: str, file: str) -> bool:
    """Checks whether `find_files` would list a local file, were it there.

    Args:
        path: File, directory, glob or URL.
        file: Path of a Parquet file.
    """
    if is_url(path) and not path.startswith("file:"):
        return False
    base, pattern = _split(local_path(path) or path if is_url(path) else path)
    name = os.path.relpath(os.path.realpath(file), os.path.realpath(base))
    if name.split(os.sep)[0] == os.pardir:
        return False
    if any(map(is_ignored, name.split(os.sep))):
        return False
    return matches_path(name, pattern) if pattern else os.path.isdir(base)


def _split(path: str) -> tuple[str, str]:
    """Splits a local glob into the directory before its first magic character, and the rest."""
    if os.path.exists(path) or not glob.has_magic(path):
        return path, ""
    fixed = re.split(r"[*?[]", path, maxsplit=1)[0].rpartition("/")[0]
    base = "/" if path.startswith("/") and not fixed else fixed
    return base, path[len(fixed) :].lstrip("/")


def _local(base: str, pattern: str) -> Iterable[str]:
    if not pattern:
        yield from walk(base)
    for name in matches(os.path.join(glob.escape(base), pattern)) if pattern else ():
        yield from walk(name) if os.path.isdir(name) else [name]


def _of_url(url: str, base: str, pattern: str) -> tuple[list[str], list[str]]:
    """Lists the URLs of the files, and those of other names of the same files."""
    options = split_options(url)[1]
    root = local_path(base + options)
    if root is None or not (os.path.isdir(root) if not pattern else True):
        files, names = list_files(url)
        pairs = zip(files, names, strict=True)
        return sorted({f for f, n in pairs if not any(map(is_ignored, n.split("/")))}), []
    filesystem, _ = open_filesystem(base + options)
    start = len(root.rstrip("/"))
    files, repeats = (
        urls_below(base, options, filesystem, [name[start:] for name in names])
        for names in without_repeats(_local(root, pattern), root)
    )
    return files, repeats


def _parquet(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates the files that are Parquet by their ending or first bytes from the others."""

    def is_parquet(name: str) -> bool:
        ending = _ending(name)
        return ending in _PARQUET or (ending not in _OTHERS and starts_with(name, _MAGIC))

    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(is_parquet, names))
    pairs = list(zip(names, found, strict=True))
    return [name for name, yes in pairs if yes], [name for name, yes in pairs if not yes]


def _ending(name: str) -> str:
    return os.path.splitext(_file_name(name))[1].lower()


def _file_name(name: str) -> str:
    return os.path.basename(split_options(name)[0] if is_url(name) else name)


def _notes(path: str, base: str, others: Sequence[str], repeats: Sequence[str]) -> Iterable[str]:
    if others:
        kinds = Counter(_ending(name) or "without an ending" for name in others)
        counts = ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common(_SHOWN_NAMES))
        yield (
            f"{_count(len(others), 'file')} in {shown(path)} "
            f"{'is' if len(others) == 1 else 'are'} not Parquet by name and content, and not read "
            f"({counts}: {_some(others)})"
        )
    if repeats:
        yield (
            f"{_count(len(repeats), 'link')} in {shown(path)} {_are(repeats)} another name of what "
            f"is read anyway, and {_are(repeats)} not read again ({_some(repeats)})"
        )
    if not is_url(path):
        for name, kind in _TABLE_LOGS.items():
            if os.path.isdir(os.path.join(base, name)):
                yield (
                    f"{path} is a {kind} table, but all its files are read, also those of earlier "
                    f"versions; write the current rows to plain Parquet if it was ever changed"
                )


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listing(names: Sequence[str]) -> str:
    return f"it has {_some(names)}" if names else "it has no files"


def _some(names: Sequence[str]) -> str:
    some = ", ".join(_file_name(name) for name in sorted(names)[:_SHOWN_NAMES])
    return f"{some}{', ...' if len(names) > _SHOWN_NAMES else ''}"
