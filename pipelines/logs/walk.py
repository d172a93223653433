"""Files of this machine below a directory or by a glob, through links, too."""

import glob
import os
import re
from collections.abc import Iterable, Iterator

from fsspec.utils import glob_translate

from feature_store.core.errors import UserError
from pipelines.logs.columns import Partition, partition_of


def is_ignored(name: str) -> bool:
    """Checks whether a name is, by convention, that of a marker, a checksum or unfinished work.

    These begin with a dot or an underscore, as for Spark and Hive, except for a partition such as
    `_date=2026-11-22`.
    """
    is_hidden = name.startswith(".") or (name.startswith("_") and "=" not in name)
    return is_hidden or name.endswith((".crc", "_$folder$")) or name == "lost+found"


def walk(directory: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yields the files below a directory and below the directories that it links to.

    Args:
        directory: Path of the directory.
        above: Real paths of the directories that led here; a link back to one of them ends.

    Raises:
        UserError: A directory cannot be listed.
    """
    real = os.path.realpath(directory)
    if real in above:
        return
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"cannot list the directory {directory} ({error.strerror}); "
            "allow it to be read, or take it away."
        ) from error
    for entry in entries:
        if is_ignored(entry.name):
            continue
        path = os.path.join(directory, entry.name)
        is_link = entry.is_symlink()
        if entry.is_dir(follow_symlinks=False) or (is_link and os.path.isdir(path)):
            yield from walk(path, above | {real})
        elif is_link or entry.is_file():  # A link to nothing is a file that cannot be read.
            yield path


def matches(pattern: str) -> list[str]:
    """Lists the files and directories that a glob matches; `**` follows links, but no cycle.

    Names that the pattern spells out may be ones to be ignored.
    """
    fixed = len(re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0])
    before, deep, after = f"/{pattern}".partition("/**/")
    before = before[1:]
    if deep:
        starts = glob.glob(before) if before else ["/" if pattern.startswith("/") else ""]
        names = [
            path
            for start in starts
            if os.path.isdir(start or ".")
            for path in _below(start)
            if matches_path(os.path.relpath(path, start or "."), f"**/{after}")
        ]
    else:
        names = glob.glob(pattern)
    return [name for name in names if not any(map(is_ignored, name[fixed:].split("/")))]


def matches_path(name: str, pattern: str) -> bool:
    """Checks whether a glob matches a path, or a directory on it."""
    expression = re.compile(glob_translate(pattern))
    return any(expression.match(name[: end.start()]) for end in re.finditer("/|$", name))


def _below(directory: str) -> Iterator[str]:
    """Yields the files below a directory; below the current one, `""`, without its name."""
    for path in walk(directory or "."):
        yield path if directory else os.path.relpath(path)


def without_repeats(files: Iterable[str], base: str) -> tuple[list[str], list[str]]:
    """Separates other names of the same files: those with the most links on their paths.

    Two names whose directories give different columns (`date=1`, `date=2`) are two files.

    Args:
        files: Paths of files.
        base: Directory above all of them.

    Returns:
        files: Sorted paths, each of another file.
        repeats: The other names.
    """
    directories: dict[str, str] = {}  # Few directories hold many files.

    def real(file: str) -> str:
        if os.path.islink(file):
            return os.path.realpath(file)
        directory, name = os.path.split(file)
        if directory not in directories:
            directories[directory] = os.path.realpath(directory)
        return os.path.join(directories[directory], name)

    start = os.path.realpath(base)
    links = {
        file: 0 if real(file) == _join(start, os.path.relpath(file, base)) else _links(file, base)
        for file in files
    }
    chosen: dict[tuple[str, Partition], str] = {}
    repeats: list[str] = []
    for file in sorted(links, key=lambda name: (links[name], name)):
        identity = real(file), partition_of(os.path.abspath(file))
        if identity in chosen:
            repeats.append(file)
        chosen.setdefault(identity, file)
    return sorted(chosen.values()), repeats


def _join(start: str, name: str) -> str:
    return start if name == "." else os.path.join(start, name)


def _links(file: str, base: str) -> int:
    """Counts the links on a path below a directory."""
    parts = os.path.relpath(file, base).split("/")
    return sum(os.path.islink(os.path.join(base, *parts[: n + 1])) for n in range(len(parts)))
