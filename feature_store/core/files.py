"""Atomic files and directories: nothing is ever half-written under its final name."""

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.errors import PlaceError
from feature_store.core.locks import locked
from feature_store.core.temporary import is_temporary, temporary_sibling

# Answers whether a directory, which is not empty, is one that the asking command writes.
IsOwn = Callable[[Path], bool]

# NumPy's letters of kinds of numbers. Differences of unsigned ones are never below 0, so where an
# order is tested, indices are signed.
INTEGERS, UNSIGNED, FLOATS = "i", "u", "f"

_OLD = ".old"
# Arguments of renameat2(2).
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# Attempts at a replacement while readers put the old directory back.
_RENAMES = 100


def _sync(path: Path) -> None:
    """Flushes a file's bytes, or a directory's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a temporary file, then fsyncs it and renames it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    try:
        write(temporary)
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically; NaN is refused, because most readers of JSON cannot parse it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_parquet(path: Path, table: pa.Table, row_group_size: int | None = None) -> None:
    """Writes one zstd Parquet file atomically."""

    def write(temporary: Path) -> None:
        pq.write_table(table, temporary, compression="zstd", row_group_size=row_group_size)

    write_atomically(path, write)


def mapped_array(path: Path, mode: Literal["r", "c"] = "r") -> np.ndarray:
    """Maps a file of `write_array` into memory; not as `np.memmap`, whose every slice is slow.

    Args:
        path: The file.
        mode: "r": nothing can be written; "c": what is written is this process's own.

    Raises:
        ValueError: It is no such file, is shorter than it says, or holds objects.
    """
    return np.asarray(np.lib.format.open_memmap(path, mode=mode))


def mapped_numbers(path: Path, kinds: str, dimensions: int = 1) -> np.ndarray:
    """Maps a file of `write_array` that somebody else may have written.

    Args:
        path: The file.
        kinds: Kinds of numbers that it may hold, by NumPy's letters.
        dimensions: Number of dimensions.

    Raises:
        ValueError: It is no such file, is shorter than it says, or holds others than these numbers.
    """
    array = mapped_array(path)
    if array.ndim != dimensions or array.dtype.kind not in kinds:
        raise ValueError(f"{path.name} holds {array.dtype} of {array.ndim} dimensions")
    return array


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Writes one NumPy file atomically."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    write_atomically(path, write)


def sync_tree(directory: Path) -> None:
    """Flushes a directory and everything below it to the disk."""
    for file in directory.rglob("*"):
        _sync(file)
    _sync(directory)


def never(directory: Path) -> bool:
    """Returns False: of an `IsOwn` for commands that replace no directory, not even their own."""
    return False


def marked_by(*names: str) -> IsOwn:
    """Returns an `IsOwn` of directories that hold a file or folder of any of these names."""
    return lambda directory: any((directory / name).exists() for name in names)


def require_replaceable(directory: Path, is_own: IsOwn, inputs: Iterable[Path] = ()) -> None:
    """Refuses to write a directory in which something would be lost.

    Args:
        directory: Directory that a command is about to write, in place of what is there.
        is_own: Whether what is there was written by that command.
        inputs: Files and directories that the command reads.

    Raises:
        PlaceError: The directory is neither absent nor empty nor the command's own; it is the
            working directory, or holds it; it is within an input, or holds one.
    """
    real = _real_path(directory)
    for parent in real.parents:
        if parent.exists() and not parent.is_dir():
            raise PlaceError(f"cannot write to {directory}: {parent} is a file; choose another.")
    for each in inputs:
        read = _real_path(each)
        if read in real.parents:
            raise PlaceError(f"{directory} is within {each}, which is read; choose another.")
        if real in read.parents:
            raise PlaceError(f"{directory} holds {each}, which is read; choose another.")
    if not real.exists():
        return
    if not real.is_dir():
        raise PlaceError(f"{directory} is a file, expected a directory; choose another.")
    entries = (entry.name for entry in real.iterdir())
    first = next((name for name in entries if not is_temporary(name)), None)
    if first is not None and not is_own(real):
        raise PlaceError(
            f"{directory} holds something else, such as {first}; choose another directory, or move "
            "that away."
        )
    with suppress(FileNotFoundError):  # The working directory may have been removed.
        if Path.cwd().is_relative_to(real):
            raise PlaceError(
                f"{directory} is the working directory or holds it, and would be replaced; change "
                "to another directory first."
            )


@contextmanager
def directory_written_atomically(path: Path, is_own: IsOwn) -> Iterator[Path]:
    """Yields a temporary directory that replaces `path` when the block ends without an error.

    An existing `path` is exchanged for the new one in one system call where the file system has
    one, else by two renames; `recover_directory` undoes the first where a process was killed
    between them. Where `path` is a link, the directory that it names is replaced.

    Args:
        path: Directory to write.
        is_own: Whether an existing directory may be replaced; see `require_replaceable`.

    Raises:
        UserError: It may not, or another process is writing or reading it; see `locked`.
    """
    require_replaceable(path, is_own)
    path = _real_path(path)
    with locked(path):
        recover_directory(path)
        shutil.rmtree(_aside(path), ignore_errors=True)
        temporary = temporary_sibling(path)
        temporary.mkdir()
        try:
            yield temporary
            sync_tree(temporary)
            if not path.exists():
                temporary.rename(path)
            elif not _exchanged(temporary, path):
                _replace_by_renames(temporary, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def linked_tree(source: Path, target: Path) -> None:
    """Makes a directory hold the files of another one, by links where the file system can.

    It is for files that are replaced and never changed, whichever of their names is used.
    """
    shutil.copytree(source, target, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _real_path(path: Path) -> Path:
    return Path(os.path.realpath(path))


def recover_directory(path: Path) -> None:
    """Puts the old directory back where a process was killed while it replaced it by renames."""
    if not path.exists():
        with suppress(OSError):  # There is no old directory, or another process was faster.
            _aside(path).rename(path)


def _aside(path: Path) -> Path:
    """Returns the name of the old directory until the new one has replaced it."""
    return path.with_name(f".{path.name}{_OLD}")


def _replace_by_renames(temporary: Path, path: Path) -> None:
    aside = _aside(path)
    for _ in range(_RENAMES):
        path.rename(aside)
        try:
            temporary.rename(path)
            break
        except OSError as error:  # A reader has put the old one back.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                aside.rename(path)
                raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchanged(first: Path, second: Path) -> bool:
    """Swaps two names in one system call; False where the system or the file system has none."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(first), os.fsencode(second)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    if ctypes.get_errno() in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(second))
