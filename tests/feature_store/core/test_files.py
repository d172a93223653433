"""Atomic writes, which leave the old files or the new ones wherever they are cut off; locks."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from pydantic import BaseModel

from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, locked
from feature_store.core.manifests import read_manifest, write_manifest


def write(path: Path, text: str) -> None:
    with directory_written_atomically(path) as directory:
        (directory / "file").write_text(text)


def test_a_directory_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out[1]"
    write(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write(path, "half \ud800")  # UTF-8 cannot encode a lone surrogate.
    assert (path / "file").read_text() == "first"
    write(path, "second")
    assert (path / "file").read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "out[1]"
    killed = "import os; from feature_store.core.files import *; from pathlib import Path; "
    killed += "c = directory_written_atomically(Path({!r})); c.__enter__(); os._exit(1)"
    subprocess.run([sys.executable, "-c", killed.format(str(path))], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    write(path, "first")
    assert list(tmp_path.iterdir()) == [path]


class _Written(BaseModel):
    text: str


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("killed_at", range(8))
def test_a_replaced_directory_is_never_missing(
    tmp_path: Path, can_exchange: bool, killed_at: int
) -> None:
    """Kills a writer before each rename or removal: the old directory or the new one is there."""
    path = tmp_path / "out"
    with directory_written_atomically(path) as directory:
        write_manifest(directory, _Written(text="old"))
    code = f"""
        import itertools, os, shutil
        from pathlib import Path
        from feature_store.core import files, manifests
        calls = itertools.count()
        def counted(function):
            def call(*arguments, **options):
                if next(calls) == {killed_at}:
                    os._exit(1)
                return function(*arguments, **options)
            return call
        exchanged = files._exchanged if {can_exchange} else lambda first, second: False
        files._exchanged = counted(exchanged)
        Path.rename = counted(Path.rename)
        shutil.rmtree = counted(shutil.rmtree)
        path = Path({str(path)!r})
        with files.directory_written_atomically(path) as directory:
            files.write_text(directory / manifests.MANIFEST, '{{"text": "new"}}')
    """
    writer = [sys.executable, "-c", textwrap.dedent(code)]
    assert not subprocess.run(writer, check=False, stderr=subprocess.PIPE, text=True).stderr
    found = read_manifest(path, _Written)
    assert found is not None
    assert found.text in ("old", "new")
    write(path, "next")
    assert (path / "file").read_text() == "next"
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, "busy."), pytest.raises(UserError, match="busy"), locked(path, "busy."):
        pass
    taken = "import os; from feature_store.core.files import *; from pathlib import Path; "
    taken += "c = locked(Path({!r}), 'busy.'); c.__enter__(); os._exit(1)"
    subprocess.run([sys.executable, "-c", taken.format(str(path))], check=False)
    with locked(path, "busy."):
        pass
