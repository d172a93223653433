"""Look-ups in files that are mapped, not read."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
from hypothesis import given, settings

from serving.bundle import ids
from serving.bundle.ids import IdTable, write_ids

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@settings(max_examples=15, deadline=None)
@given(st.lists(TEXTS, unique=True, max_size=30), st.lists(TEXTS, max_size=10), st.data())
def test_rows_are_those_of_a_dictionary(tmp_path_factory, known, others, data):
    gone = data.draw(st.sets(st.sampled_from(known))) if known else set()
    directory = tmp_path_factory.mktemp("ids")
    write_ids(directory, "item", pa.array([None if i in gone else i for i in known], pa.string()))
    table = IdTable.read(directory, "item")
    asked = [*known, *others]
    rows = {text: row for row, text in enumerate(known) if text not in gone}
    assert table.rows(asked).tolist() == [rows.get(text, -1) for text in asked]
    assert [table[row] for row in rows.values()] == list(rows)
    assert len(table) == len(known)


def test_ids_of_equal_digests_are_told_apart(tmp_path, monkeypatch):
    for name in ("token_digests", "text_digests"):
        monkeypatch.setattr(ids, name, lambda t: np.full(len(t), 7, np.uint64))
    write_ids(tmp_path, "item", pa.array(["a", "b", None, "c"]))
    table = IdTable.read(tmp_path, "item")
    assert table.rows(["c", "a", "d", "b"]).tolist() == [3, 0, -1, 1]
