"""Sentences for what a full, protected or broken disk does to a command, whichever engine meets it.

Each engine has errors of its own for that, some without a number, and wraps those of others. So the
whole chain of an error is looked at: what caused it, and what it brings from other processes.
"""

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_store.core.locks import WRITING


@dataclass(frozen=True)
class _Fault:
    """A fault of a disk, as users would name it, and what they can do."""

    name: str
    remedy: str


_SPACE = "free some space, or choose an output on another disk"
_OTHER = "choose another output"
_FULL = _Fault("the disk is full", _SPACE)
_QUOTA = _Fault("the disk quota is used up", _SPACE)
_LARGE = _Fault(
    "a file is larger than it may be (ulimit -f, or the file system)", "raise the limit"
)
_READ_ONLY = _Fault("the file system is read-only", _OTHER)
_READ_ONLY_DATABASE = _Fault(
    "a database, such as mlflow.db, may not be written, or the file system is read-only",
    "change its owner or mode, or choose another output",
)
_FORBIDDEN = _Fault("this user has no permission", f"{_OTHER}, or change its owner or mode")
_UNWRITTEN = _Fault(
    "a file could not be written", "free some space, or look whether the disk fails"
)
_LONG = _Fault("a name is too long", "choose a shorter one")
_NO_DIRECTORY = _Fault("a part of the path is no directory", _OTHER)
_LOCKED = _Fault("another program has locked a database", "wait for it, or stop it")
_LINKS = _Fault("links lead in a circle", _OTHER)

_BY_NUMBER = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _QUOTA,
    errno.EFBIG: _LARGE,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EIO: _UNWRITTEN,
    errno.ENAMETOOLONG: _LONG,
    errno.ENOTDIR: _NO_DIRECTORY,
    errno.EISDIR: _NO_DIRECTORY,
    errno.ELOOP: _LINKS,
}
# Faults that networks have as well: they are the disk's only where the error names a file.
_WITH_FILE = (_FORBIDDEN,)
_BY_SQLITE_CODE = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY_DATABASE,
    sqlite3.SQLITE_IOERR: _UNWRITTEN,
    sqlite3.SQLITE_CANTOPEN: _UNWRITTEN,
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
}
# Texts of errors without a number: of C++ libraries, and of other processes.
_BY_TEXT = {
    **{
        re.escape(os.strerror(number)): _BY_NUMBER[number]
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
    },
    "database or disk is full": _FULL,
    "attempt to write a readonly database": _READ_ONLY_DATABASE,
    "disk I/O error": _UNWRITTEN,
    "database is locked": _LOCKED,
    r"\d+ requested and \d+ written": _UNWRITTEN,  # NumPy's.
    r"PytorchStreamWriter failed writing|inline_container\.cc.* unexpected pos": _UNWRITTEN,
}
_NUMBERED = re.compile(r"\[Errno (\d+)\] [^:'\n]+: '([^'\n]+)'(?: -> '([^'\n]+)')?")


def disk_fault(error: BaseException) -> str | None:
    """Explains an error for which a disk is the reason.

    Args:
        error: Error of a command.

    Returns:
        One sentence: what, where, how much space is left, and what to do; None for other errors.
    """
    chain = list(chained(error))
    for each in chain:
        found = _found(each)
        if found is not None:
            return _sentence(found[0], _place(found[1], chain))
    return None


def chained(error: BaseException) -> Iterator[BaseException]:
    """Yields an error, those that led to it, and those that it carries, each once."""
    waiting: list[Any] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, tuple):  # An error and its traceback.
            waiting = [*each[:1], *waiting]
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        waiting += [getattr(each, name, None) for name in ("cause", "orig")]  # Ray, SQLAlchemy.
        waiting += getattr(each, "exceptions", ())
        for name in ("worker_failures", "failures"):  # Ray Train, checkpoints.
            carried = getattr(each, name, None)
            waiting += carried.values() if isinstance(carried, dict) else ()


def _place(file: str | None, chain: list[BaseException]) -> str | None:
    """Returns the output that was being written, unless the file lies elsewhere."""
    notes = [note for error in chain for note in getattr(error, "__notes__", ())]
    for output in [note.removeprefix(WRITING) for note in notes if note.startswith(WRITING)]:
        if file is None or Path(output).absolute().parent in Path(file).absolute().parents:
            return output
    return file


def _found(error: BaseException) -> tuple[_Fault, str | None] | None:
    """Returns the fault that an error names, and the file."""
    if isinstance(error, OSError) and error.errno is not None:
        file = error.filename2 or error.filename
        fault = _BY_NUMBER.get(error.errno)
        if error.errno == errno.EEXIST and file is not None and os.path.isfile(file):
            fault = _NO_DIRECTORY  # A directory was to be made there.
        if fault is not None and (file is not None or fault not in _WITH_FILE):
            return fault, None if file is None else str(os.fsdecode(file))
    if isinstance(error, sqlite3.Error):
        fault = _BY_SQLITE_CODE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        return None if fault is None else (fault, None)
    text = str(error)
    if (match := _NUMBERED.search(text)) and int(match[1]) in _BY_NUMBER:
        return _BY_NUMBER[int(match[1])], match[3] or match[2]
    for pattern, fault in _BY_TEXT.items():
        if re.search(pattern, text):
            return fault, None
    return None


def _sentence(fault: _Fault, path: str | None) -> str:
    where = "" if path is None else f": {path}"
    if path is not None and fault in (_FULL, _QUOTA, _UNWRITTEN):
        where += _free(Path(path))
    return (
        f"{fault.name}{where}; what was there before is whole: {fault.remedy}, and run the command "
        "again."
    )


def _free(path: Path) -> str:
    """Describes the free space of the disk that a path is on."""
    for parent in (path, *path.absolute().parents):
        try:
            free = shutil.disk_usage(parent).free
        except OSError:
            continue
        return f", where {free / 2**20:,.1f} MiB are free"
    return ""
