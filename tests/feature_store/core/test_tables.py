"""Parquet files that are none, or lack what is read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.errors import UserError
from feature_store.core.tables import column_names, read_table


def test_what_was_written_is_read_and_everything_else_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"a": list(range(1000)), "b": ["x"] * 1000}), path)
    assert read_table(path, ["a"]).column_names == ["a"]
    assert column_names(path) == ["a", "b"]
    whole = path.read_bytes()
    damaged = whole[:10] + bytes(200) + whole[210:]
    for content in (whole[:-20], b"", b"text", damaged):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"table\.parquet cannot be read: .*run the command"):
            read_table(path)
    path.write_bytes(whole)
    with pytest.raises(UserError, match="cannot be read"):
        read_table(path, ["c"])
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "absent.parquet")
