"""Logs whose answer is known.

Planted: queries like the items of one group, and features name the group. Groceries: customers come
back to what they bought.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config.config import Config
from recsys.config.load import parse_config

GROUPS, ITEMS_IN_GROUP, QUERIES, EVENTS_OF_QUERY = 12, 12, 240, 9
GROCERIES, CUSTOMERS, PURCHASES = 30, 40, 7
# Number of the queries whose last item is their first one again, and of those whose last but one
# is their second one.
BACK, BACK_BEFORE = 32, 10


def write_planted_log(directory: Path, *, shuffled: bool = False, seed: int = 0) -> None:
    """Writes events, items and queries; `shuffled` gives each event another event's item."""
    random = np.random.default_rng(seed)
    items = GROUPS * ITEMS_IN_GROUP
    query = np.repeat(np.arange(QUERIES), EVENTS_OF_QUERY)
    item = np.concatenate(
        [
            (q % GROUPS) * ITEMS_IN_GROUP
            + random.choice(ITEMS_IN_GROUP, EVENTS_OF_QUERY, replace=False)
            for q in range(QUERIES)
        ]
    )
    if shuffled:
        item = random.permutation(item)
    group = np.arange(items) // ITEMS_IN_GROUP
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table(
            {
                "query_id": [f"q{q}" for q in query],
                "item_id": [f"i{i}" for i in item],
                "timestamp": 1_500_000_000 + random.integers(0, 10**6, len(query)),
            }
        ),
        directory / "events.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "item_id": [f"i{i}" for i in range(items)],
                "group": [f"g{g}" for g in group],
                "tags": [[f"t{g}", f"u{i % 5}"] for i, g in enumerate(group)],
                "words": [f"Item number {i} of group {g}" for i, g in enumerate(group)],
                "price": random.normal(size=items),
            }
        ),
        directory / "items.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "query_id": [f"q{q}" for q in range(QUERIES)],
                "country": [f"c{q % 4}" for q in range(QUERIES)],
            }
        ),
        directory / "queries.parquet",
    )


def planted_config(directory: Path, output: Path, **sections: dict[str, Any]) -> Config:
    """Builds the configuration of the planted log; `sections` overrides keys of its sections."""
    document: dict[str, Any] = {
        "output": str(output),
        "executor": "local",
        "data": {
            "events": str(directory / "events.parquet"),
            "items": str(directory / "items.parquet"),
            "queries": str(directory / "queries.parquet"),
            "split": {"kind": "random_hash"},
            "history": {"kind": "others", "max_length": 8},
        },
        "features": {
            "item": [
                {"name": "item_id", "kind": "id", "dim": 16},
                {"name": "group", "kind": "categorical", "dim": 8},
                {"name": "tags", "kind": "multi_valued", "dim": 8},
                {"name": "words", "kind": "text", "dim": 8},
                {"name": "price", "kind": "numeric", "dim": 4},
            ],
            "query": [{"name": "country", "kind": "categorical", "dim": 4}],
        },
        "model": {"dim": 16, "item_tower": [32], "query_tower": [32], "dropout": 0.1},
        "loss": {"history_dropout": 0.2},
        "ssl": {"method": "cfm", "alpha": 0.1},
        "training": {"epochs": 8, "batch_size": 128, "patience": 8},
        "sharding": {"row_wise_from": 100},
        "evaluation": {"select_by": "recall@10"},
    }
    for name, keys in sections.items():
        document[name] = {**document.get(name, {}), **keys}
    return parse_config(document)


def write_groceries(path: Path) -> dict[str, list[str]]:
    """Writes events, a day apart within a query, and returns the items of each query by time."""
    random = np.random.default_rng(0)
    bought = {}
    for query in range(CUSTOMERS):
        items = [f"i{item}" for item in random.choice(GROCERIES, PURCHASES, replace=False)]
        if query < BACK:
            items[-1] = items[0]
        if query < BACK_BEFORE:
            items[-2] = items[1]
        bought[f"q{query}"] = items
    rows = [
        (query, item, 1_700_000_000 + at * 86_400 + place)
        for place, (query, items) in enumerate(bought.items())
        for at, item in enumerate(items)
    ]
    query_id, item_id, timestamp = map(list, zip(*rows, strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"query_id": query_id, "item_id": item_id, "timestamp": timestamp})
    pq.write_table(table, path)
    return bought


def groceries_config(events: Path, output: Path, repeats: str, **sections: Any) -> Config:
    """Builds a configuration that holds the last event of each query out."""
    document: dict[str, Any] = {
        "output": str(output),
        "executor": "local",
        "data": {"events": str(events), "repeats": repeats},
        "features": {
            "item": [{"name": "item_id", "kind": "id", "dim": 8}],
            "query": [],
        },
        "model": {"dim": 8, "item_tower": [], "query_tower": []},
        "ssl": {"method": "none"},
        "loss": {"id_dropout": 0.0},
        "training": {"epochs": 1, "batch_size": 64},
        "ranking": {"channels": []},
        "evaluation": {"baselines": ["random", "popularity"]},
    }
    return parse_config({**document, **sections})
