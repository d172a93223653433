"""Locks: who has one, who waits, and that none outlives its process."""

import errno
import fcntl
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, never
from feature_store.core.locks import locked, reading, waiting
from tests.support.hostile.held_locks import held_by_another


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "out"
    written = (
        rf"{path} is being written by `[^`]+` \(process {os.getpid()} on .*, since 2.* UTC\); "
    )
    with held_by_another(path):
        for attempt in (locked(path), directory_written_atomically(path, never)):
            with pytest.raises(UserError, match=f"{written}.*--wait"), attempt:
                pass
    with locked(path), locked(path), directory_written_atomically(path, never):
        pass  # A thread may have it several times.
    assert list(tmp_path.iterdir()) == [path]


def test_readers_share_and_keep_writers_out(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    with held_by_another(path, is_read=True):
        with reading(path, tmp_path / "absent"):
            pass
        with pytest.raises(UserError, match="out is being read by"), locked(path):
            pass
    with locked(path), reading(path):
        pass
    with held_by_another(path), pytest.raises(UserError, match="written by"), reading(path):
        pass
    link = tmp_path / "link"
    link.symlink_to(path)
    with held_by_another(path), pytest.raises(UserError, match="written by"), locked(link):
        pass
    assert sorted(tmp_path.iterdir()) == [link, path]


def test_who_waits_has_the_lock_of_the_file_that_others_see(tmp_path: Path) -> None:
    path, said = tmp_path / "out", []
    is_taken, is_over = threading.Event(), threading.Event()

    def wait_for_it() -> None:
        with waiting(said.append), locked(path):
            is_taken.set()
            is_over.wait()

    waiter = threading.Thread(target=wait_for_it)
    with locked(path):  # Removes the file, on which the other waits, at its end.
        waiter.start()
        while not said:
            os.sched_yield()
    is_taken.wait()
    with pytest.raises(UserError, match="is being written by"), locked(path):
        pass
    is_over.set()
    waiter.join()
    assert said[0].startswith(f"waiting for {path}, which is being written by `")
    assert not list(tmp_path.iterdir())


def test_no_child_of_a_killed_process_keeps_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "out"
    code = f"""
        import os, subprocess, sys
        from pathlib import Path
        from feature_store.core.locks import locked
        context = locked(Path({str(path)!r}))
        context.__enter__()
        subprocess.Popen(["cat"], close_fds=False)
        if os.fork() == 0:
            print("forked", flush=True)
            sys.stdin.read()
        os._exit(0)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as killed:
        assert killed.stdout.readline() == "forked\n"
        killed.wait()
        with locked(path):  # Both children are alive.
            pass
        killed.stdin.close()


def test_without_locks_there_is_a_warning(tmp_path, monkeypatch, capsys) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / "out"):
        pass
    assert "has no locks (No locks available): nothing keeps" in capsys.readouterr().err


def test_where_nobody_can_write_readers_need_no_lock(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with reading(tmp_path):
        pass
    with pytest.raises(OSError, match="Read-only"), locked(tmp_path):
        pass
