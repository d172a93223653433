"""Taken rows: their own values in every type of column, and nothing of other rows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.logs.columns import take_rows

_WORDS = ["ours", "theirs", "ours too", None]
_CODES = pa.array(_WORDS).dictionary_encode()
_STARTS = pa.array([0, 1, 2, 3, 4], pa.int32())
_LENGTHS = pa.array([1, 1, 1, 1], pa.int32())
COLUMNS = {
    "dictionary": _CODES,
    "list": pa.ListArray.from_arrays(_STARTS, _CODES),
    "large list": pa.LargeListArray.from_arrays(_STARTS.cast(pa.int64()), _CODES),
    "list of one size": pa.FixedSizeListArray.from_arrays(_CODES, 1),
    "list view": pa.ListViewArray.from_arrays(_STARTS[:4], _LENGTHS, _CODES),
    "struct": pa.StructArray.from_arrays([_CODES, _LENGTHS], ["word", "number"]),
    "map": pa.MapArray.from_arrays(_STARTS, pa.array(["a", "b", "c", "d"]), _CODES),
    "list of structs": pa.ListArray.from_arrays(
        _STARTS, pa.StructArray.from_arrays([_CODES], ["word"])
    ),
    "numbers": pa.array([1, 2, 3, None]).dictionary_encode(),
    "text": pa.array(_WORDS, pa.large_string()),
    "view": pa.array(_WORDS, pa.string_view()),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_rows_keep_their_values_and_leave_the_others(name, tmp_path):
    column = COLUMNS[name]
    taken = take_rows(pa.table({"x": column}), pa.chunked_array([[2, 0, 3]]))["x"]
    values = column.to_pylist()
    assert taken.to_pylist() == [values[2], values[0], values[3]]
    pq.write_table(pa.table({"x": taken}), tmp_path / "rows.parquet", compression="none")
    written = (tmp_path / "rows.parquet").read_bytes()
    assert b"theirs" not in written
    assert (b"ours" in written) == (name != "numbers")
