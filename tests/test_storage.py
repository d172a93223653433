"""What is under its final name is whole, whatever happens on the way."""

import subprocess
import sys
from pathlib import Path

import pytest

from feature_store.errors import UserError
from feature_store.storage import directory_written_atomically, locked


def write(path: Path, text: str) -> None:
    with directory_written_atomically(path) as directory:
        (directory / "file").write_text(text)


def test_a_directory_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out[1]"
    write(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write(path, "half \ud800")  # No text of UTF-8.
    assert (path / "file").read_text() == "first"
    write(path, "second")
    assert (path / "file").read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "out[1]"
    killed = "import os; from feature_store.storage import *; from pathlib import Path; "
    killed += "c = directory_written_atomically(Path({!r})); c.__enter__(); os._exit(1)"
    subprocess.run([sys.executable, "-c", killed.format(str(path))], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    write(path, "first")  # What was left may be the only copy, while there is no other.
    assert len(list(tmp_path.iterdir())) == 2
    write(path, "second")
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, "busy."), pytest.raises(UserError, match="busy"), locked(path, "busy."):
        pass
    taken = "import os; from feature_store.storage import *; from pathlib import Path; "
    taken += "c = locked(Path({!r}), 'busy.'); c.__enter__(); os._exit(1)"
    subprocess.run([sys.executable, "-c", taken.format(str(path))], check=False)
    with locked(path, "busy."):
        pass
