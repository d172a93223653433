"""`prepare` on a log of another layout and file system: the same result as on a plain one."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Jagged
from feature_store.schema import FeatureSchema
from tests.support.prepare_logs import examples, rejected_rows, run, write_log

ROWS, ITEMS = 400, 30
ID, GENRES, MAKER = "what.item.id", "what.item.genres.name", "what.item.maker"


def events_table() -> pa.Table:
    random = np.random.default_rng(3)
    return pa.table(
        {
            "query_id": [f"q{i}" for i in random.integers(0, 20, ROWS)],
            "item_id": random.integers(0, ITEMS, ROWS),
            "timestamp": [f"2026-11-{10 + day}" for day in random.integers(0, 4, ROWS)],
            "event_type": random.choice(["view", "a/b", "other"], ROWS),
        }
    )


def items_table() -> pa.Table:
    return pa.table(
        {
            "item_id": np.arange(ITEMS),
            "genres": [[f"g{i % 4}", f"g{i % 3}"] if i % 7 else None for i in range(ITEMS)],
            "maker": [f"m{i % 5}" for i in range(ITEMS)],
        }
    )


def nested_log(directory: Path, events: pa.Table, items: pa.Table) -> dict[str, str]:
    """Writes the same log in structs, with time and type in the names of directories."""
    for day in pc.unique(events["timestamp"]).to_pylist():
        for kind in pc.unique(events["event_type"]).to_pylist():
            same = events.filter((pc.field("timestamp") == day) & (pc.field("event_type") == kind))
            who = pa.array([{"id": query} for query in same["query_id"].to_pylist()])
            what = pa.array([{"item": {"id": item}} for item in same["item_id"].to_pylist()])
            folder = directory / "events" / f"date={day}" / f"type={quote(kind, safe='')}"
            write_log(folder, part=pa.table({"who": who, "what": what}))
    what = pa.array(
        [
            {
                "item": {
                    "id": row["item_id"],
                    "genres": None
                    if row["genres"] is None
                    else [{"name": g} for g in row["genres"]],
                    "maker": row["maker"],
                }
            }
            for row in items.to_pylist()
        ]
    )
    write_log(directory, items=pa.table({"what": what}))
    return {"events": f"local://{directory}/events", "items": f"local://{directory}/items.parquet"}


def features(*names: str) -> FeatureSchema:
    kinds = ("id", "multi_valued", "categorical")
    item = [{"name": n, "kind": kind, "dim": 4} for n, kind in zip(names, kinds, strict=True)]
    return FeatureSchema.model_validate({"item": item})


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["query"], row["timestamp"], row["item"]


def test_a_nested_partitioned_log_by_url_is_prepared_like_a_plain_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"event_types": {"view": 1.0, "a/b": 2.0}}
    events, items = events_table(), items_table()
    plain = run(
        tmp_path / "plain",
        features("item_id", "genres", "maker"),
        columns={"event_type": "event_type"},
        **write_log(tmp_path / "log", events=events, items=items),
        **settings,
    )
    nested = run(
        tmp_path / "nested",
        features(ID, GENRES, MAKER),
        columns={"query_id": "who.id", "item_id": ID, "timestamp": "date", "event_type": "type"},
        **nested_log(tmp_path / "odd", events, items),
        **settings,
    )
    assert nested.manifest.counts == plain.manifest.counts
    assert sorted(examples(nested), key=key) == sorted(examples(plain), key=key)
    assert nested.item_encoder.ids.tokens.equals(plain.item_encoder.ids.tokens)
    for a, b in zip((ID, GENRES, MAKER), ("item_id", "genres", "maker"), strict=True):
        one, other = nested.item_columns[a], plain.item_columns[b]
        assert isinstance(one, Jagged)
        assert isinstance(other, Jagged)
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.offsets, other.offsets)
    rejected = [
        (row["who"]["id"], row["date"], row["type"]) for row in rejected_rows(nested, "events")
    ]
    expected = [
        (row["query_id"], row["timestamp"], row["event_type"])
        for row in rejected_rows(plain, "events")
    ]
    assert sorted(rejected) == sorted(expected)
