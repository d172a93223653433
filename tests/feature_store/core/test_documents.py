"""JSON files that are not what was written: one sentence each."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from feature_store.core import documents
from feature_store.core.documents import read_json, read_lines, read_object, read_record
from feature_store.core.errors import UserError


class _Record(BaseModel):
    number: int


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.json"


def test_what_was_written_is_read(path: Path) -> None:
    path.write_text('{"number": 3}')
    assert read_json(path) == read_object(path, "number") == {"number": 3}
    assert read_record(path, _Record) == _Record(number=3)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[" * 1_000_000, b'{"a":' * 1_000_000, b"1" * 5000, b"[1]", b'{"x": 1}'],
)
def test_everything_else_is_a_sentence(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read in (lambda: read_object(path, "number"), lambda: read_record(path, _Record)):
        with pytest.raises(UserError, match=r"file\.json cannot be read: .*delete it and run"):
            read()


def test_lines_of_numbers_are_read_but_one_that_was_cut_off(path: Path) -> None:
    path.write_text('{"step": 1, "a": NaN, "b": null}\n{"step": 2, "a": 1e999}\n{"ste')
    assert read_lines(path, "step") == [{"step": 1, "a": None, "b": None}, {"step": 2, "a": None}]


@pytest.mark.parametrize(
    "line",
    [
        *(b"[1]", b"1", b"{", b"{}", b"\xff", b"[" * 1_000_000, b'{"step":' * 1_000_000),
        *(b'{"step": %s}' % value for value in (b'"x"', b"[1]", b"NaN", b"1" * 400, b"1" * 5000)),
    ],
)
def test_other_lines_are_a_sentence(path: Path, line: bytes) -> None:
    path.write_bytes(b'{"step": 1}\n' + line + b"\n")
    with pytest.raises(UserError, match=r"file\.json cannot be read: "):
        read_lines(path, "step")


def test_a_file_may_not_fill_the_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_MAX_BYTES", 10)
    path.write_text(json.dumps({"number": 10**9}))
    with pytest.raises(UserError, match="has 22 bytes, expected at most 10"):
        read_json(path)
