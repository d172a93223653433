"""Items and queries to look up: a few titles are shown, the others are folded away."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.reports.parts import Entry
from recsys.reports.lookup import similar_section
from recsys.reports.run.run_data import RunData


@pytest.mark.parametrize(("items", "titles", "folded"), [(20, 20, 0), (40, 12, 28)])
def test_many_entries_are_folded(tmp_path, items, titles, folded):
    path = tmp_path / "items.parquet"
    columns = {
        "item_id": [f"i{at}" for at in range(items)],
        "title": [f"Item {at}" for at in range(items)],
        "slice": ["head"] * items,
        "frequency": [20] * items,
        "similar": [[(at + 1) % items] for at in range(items)],
        "cosine": [[0.5]] * items,
    }
    pq.write_table(pa.table(columns), path)
    run = RunData("r", "1", lambda name: path if name == "evaluation/items.parquet" else None)
    entries = [part for part in similar_section(run).parts if isinstance(part, Entry)]
    named = [entry for entry in entries if entry.title.startswith("Items like")]
    assert len(named) == titles
    others = [entry for entry in entries if entry not in named]
    assert [len(entry.parts) for entry in others] == ([folded] if folded else [])
    assert all(entry.title == f"{folded} more items" for entry in others)
