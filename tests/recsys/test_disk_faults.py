"""Errors of disks, as each engine words them, are one sentence; others are none."""

import errno
import sqlite3
from contextlib import suppress

import pytest
import sqlalchemy
from ray.exceptions import RayTaskError
from ray.train.v2.api.exceptions import WorkerGroupError

from feature_store.core.errors import UserError
from feature_store.core.locks import locked
from recsys.disk_faults import disk_fault

NO_SPACE = OSError(errno.ENOSPC, "No space left on device", "/data/x")


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("of SQLite")
    error.sqlite_errorcode = code
    return error


FULL, LARGE, UNWRITTEN = "the disk is full", "a file is larger", "a file could not be written"
ERRORS = {
    "plain": (NO_SPACE, FULL),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
    "read-only": (OSError(errno.EROFS, "no", "/data"), "the file system is read-only: /data;"),
    "forbidden": (PermissionError(errno.EACCES, "no", "/data"), "this user has no permission: "),
    "no directory": (NotADirectoryError(errno.ENOTDIR, "no", "/f/x"), "a part of the path is no"),
    "long": (OSError(errno.ENAMETOOLONG, "no", "/" + "x" * 300), "a name is too long"),
    "target": (OSError(errno.EFBIG, "no", "/source", None, "/target"), "file system): /target;"),
    "numpy": (OSError("100000 requested and 1008 written"), UNWRITTEN),
    "torch": (
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        UNWRITTEN,
    ),
    "faiss": (
        RuntimeError("failed: write error in /tmp/a: 8147 != 640000 (File too large)"),
        LARGE,
    ),
    "duckdb": (Exception('IO Error: {"exception_message":"No space left on device"}'), FULL),
    "sqlite": (sqlite_error(sqlite3.SQLITE_FULL), FULL),
    "sqlite, extended": (sqlite_error(sqlite3.SQLITE_IOERR | 3 << 8), UNWRITTEN),
    "sqlite, busy": (sqlite_error(sqlite3.SQLITE_BUSY), "another program has locked a database;"),
    "sqlalchemy": (
        sqlalchemy.exc.OperationalError("INSERT", {}, sqlite_error(sqlite3.SQLITE_READONLY)),
        "a database, such as mlflow.db, may not be written, or the file system is read-only",
    ),
    "cause": (caused(RuntimeError("x"), caused(ValueError("y"), NO_SPACE)), FULL),
    "group": (ExceptionGroup("several", [ValueError("x"), NO_SPACE]), FULL),
    "task": (RayTaskError("f", "Traceback", NO_SPACE), FULL),
    "text of a task": (
        RayTaskError("f", f"Traceback ...\nOSError: {NO_SPACE}", ValueError("x")),
        "the disk is full: /data/x",
    ),
    "workers": (WorkerGroupError("failed", {0: NO_SPACE}), FULL),
}


@pytest.mark.parametrize("name", ERRORS)
def test_it_is_one_sentence(name):
    error, expected = ERRORS[name]
    sentence = disk_fault(error)
    assert sentence is not None
    assert expected in sentence
    assert sentence.endswith(", and run the command again.")
    assert "what was there before is whole" in sentence


def test_other_errors_are_none():
    for error in (
        ValueError("x"),
        FileNotFoundError(errno.ENOENT, "no", "/x"),
        PermissionError(errno.EACCES, "no"),  # A port may be forbidden, too.
        KeyError("requested"),
        caused(RuntimeError("x"), AssertionError("y")),
    ):
        assert disk_fault(error) is None


def test_a_file_in_place_of_a_directory_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError) as fault:
        (tmp_path / "file").mkdir(exist_ok=True)
    assert "a part of the path is no directory: " in (disk_fault(fault.value) or "")
    with pytest.raises(FileExistsError) as fault:
        tmp_path.mkdir()
    assert disk_fault(fault.value) is None


def test_the_output_is_named_unless_the_file_lies_elsewhere(tmp_path):
    output = tmp_path / "out"
    for error, place in (
        (OSError(errno.ENOSPC, "full"), output),
        (OSError(errno.ENOSPC, "full", str(tmp_path / ".out.abc.tmp" / "x")), output),
        (OSError(errno.ENOSPC, "full", "/dev/shm/x"), "/dev/shm/x"),
    ):
        with suppress(OSError), locked(output):
            raise error
        assert f"the disk is full: {place}, where " in (disk_fault(error) or "")
    with suppress(UserError), locked(output):
        raise UserError("a sentence")
