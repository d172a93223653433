"""Atomic writes, which leave the old files or the new ones wherever they are cut off."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from pydantic import BaseModel

from feature_store.core.errors import UserError
from feature_store.core.files import (
    directory_written_atomically,
    marked_by,
    never,
    require_replaceable,
)
from feature_store.core.locks import locked
from feature_store.core.manifests import MANIFEST, read_manifest, write_manifest, written_as
from feature_store.core.temporary import temporary_sibling

_IS_OWN = marked_by("file", MANIFEST)


def write(path: Path, text: str) -> None:
    with directory_written_atomically(path, _IS_OWN) as directory:
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


def test_what_killed_writers_of_a_file_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "out[1].json"
    others = [tmp_path / f".{name}.{'0' * 12}.tmp" for name in ("out[1]", "out[1].json.old")]
    for file in (path, *others):
        file.touch()
    temporary_sibling(path).touch()
    temporary_sibling(path).with_suffix(".tmp-journal").touch()
    temporary_sibling(path).mkdir()
    with locked(path):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "out[1]"
    killed = "import os; from feature_store.core.files import *; from pathlib import Path; "
    killed += "c = directory_written_atomically(Path({!r}), never); c.__enter__(); os._exit(1)"
    subprocess.run([sys.executable, "-c", killed.format(str(path))], check=False)
    assert len(list(tmp_path.iterdir())) == 2  # A directory and the file of a lock.
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
    with directory_written_atomically(path, never) as directory:
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
        is_own = files.marked_by(manifests.MANIFEST)
        with files.directory_written_atomically(path, is_own) as directory:
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


def test_what_is_replaced_is_empty_or_ones_own(tmp_path: Path) -> None:
    own, foreign, file = tmp_path / "own", tmp_path / "foreign", tmp_path / "file"
    is_own = written_as(_Written)
    require_replaceable(own, is_own)
    own.mkdir()
    (own / f".part.{'0' * 12}.tmp").touch()  # A killed writer left it.
    require_replaceable(own, is_own)
    write_manifest(own, _Written(text="x"))
    require_replaceable(own, is_own)
    foreign.mkdir()
    for text in ('{"name": "an app"}', "[]", "no JSON", '"text"'):
        (foreign / MANIFEST).write_text(text)
        with pytest.raises(UserError, match=r"foreign holds something else, such as manifest.json"):
            require_replaceable(foreign, is_own)
    with pytest.raises(UserError, match="own holds something else"):
        require_replaceable(own, never)
    file.touch()
    with pytest.raises(UserError, match=r"is a file, expected a directory"):
        require_replaceable(file, is_own)
    with pytest.raises(UserError, match=r"cannot write to .*b: .*file is a file"):
        require_replaceable(file / "a" / "b", is_own)


def test_what_is_read_or_worked_in_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, link = tmp_path / "log", tmp_path / "link"
    (log / "day").mkdir(parents=True)
    link.symlink_to(log)
    with pytest.raises(UserError, match=r"is within .*log, which is read"):
        require_replaceable(link / "out", never, [log])
    with pytest.raises(UserError, match=r"holds .*day, which is read"):
        require_replaceable(log, never, [link / "day"])
    require_replaceable(log / "day", never, [log / "day"])  # A bundle may be updated in place.
    monkeypatch.chdir(log / "day")
    for path in (Path(), log / "day"):
        with pytest.raises(UserError, match="is the working directory or holds it"):
            require_replaceable(path, never)


def test_the_directory_that_a_link_names_is_replaced(tmp_path: Path) -> None:
    path, link = tmp_path / "disk", tmp_path / "link"
    link.symlink_to(path)
    for text in ("first", "second"):
        write(link, text)
        assert (path / "file").read_text() == text
    assert sorted(tmp_path.iterdir()) == [path, link]
