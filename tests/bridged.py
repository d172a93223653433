"""A log whose long tail can be understood only through features, and how.

    items     features       training events
    head      a1, a2         many: they teach what a group's a-values mean
    bridges   a1, a2, b1, b2 none: they only stand in the catalogue
    tail      b1, b2         one

Queries like the items of one group. The a-values of an item are two names of one thing, and so are
its b-values; both name the group, within which a- and b-values are independent. A tail item has too
few events for its b-values to be learnt from labels, but bridges say which a-values they go with. A
task in which one view shows a1 and b1 and the other a2 and b2 is solved by the synonyms alone; only
if both a-values are hidden together, as correlated features are, must b lead to a.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Config
from recsys.config_file import parse_config

GROUPS, CODES = 16, 10
HEAD_OF_GROUP, BRIDGES_OF_CODE, TAIL_OF_GROUP = 20, 2, 20
QUERIES_OF_GROUP, EVENTS_OF_QUERY = 40, 12


def write_bridged_log(directory: Path, seed: int = 0) -> None:
    """Writes events and items."""
    random = np.random.default_rng(seed)
    items: list[dict[str, Any]] = []

    def add(kind: str, group: int, a: int | None, b: int | None) -> None:
        items.append(
            {
                "item_id": f"{kind}{len(items)}",
                "group": group,
                "a1": None if a is None else f"a{group}.{a}",
                "a2": None if a is None else f"x{group}.{a}",
                "b1": None if b is None else f"b{group}.{b}",
                "b2": None if b is None else f"y{group}.{b}",
            }
        )

    for group in range(GROUPS):
        for i in range(HEAD_OF_GROUP):
            add("head", group, i % CODES, None)
        for i in range(TAIL_OF_GROUP):
            add("tail", group, None, i % CODES)
        for b in range(CODES):
            for a in random.integers(0, CODES, BRIDGES_OF_CODE):
                add("bridge", group, int(a), b)
    names = {
        (kind, group): [
            item["item_id"]
            for item in items
            if item["group"] == group and item["item_id"].startswith(kind)
        ]
        for kind in ("head", "tail")
        for group in range(GROUPS)
    }
    events: list[dict[str, str]] = []

    def liked(query: int, item: str, split: str) -> None:
        events.append({"query_id": f"q{query}", "item_id": item, "split": split})

    for query in range(GROUPS * QUERIES_OF_GROUP):
        head, tail = (names[kind, query % GROUPS] for kind in ("head", "tail"))
        chosen = random.choice(head, EVENTS_OF_QUERY, replace=False)
        for item in chosen[2:]:
            liked(query, item, "train")
        liked(query, chosen[0], "validation")
        liked(query, chosen[1], "test")
        rare = random.choice(tail, 2, replace=False)
        liked(query, rare[0], "validation")
        liked(query, rare[1], "test")
    for group in range(GROUPS):
        for item in names["tail", group]:
            liked(int(random.integers(QUERIES_OF_GROUP)) * GROUPS + group, item, "train")
    table = pa.Table.from_pylist(items)
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(events), directory / "events.parquet")
    pq.write_table(table.drop(["group"]), directory / "items.parquet")


def bridged_config(directory: Path, output: Path, **sections: dict[str, Any]) -> Config:
    """Of the log that `write_bridged_log` wrote; `sections` overrides keys of the sections."""
    document: dict[str, Any] = {
        "output": str(output),
        "data": {
            "events": str(directory / "events.parquet"),
            "items": str(directory / "items.parquet"),
            "columns": {"timestamp": None},
            "split": {"kind": "given", "column": "split"},
            "history": {"kind": "others", "max_length": 14},
        },
        "features": {
            "item": [
                {"name": name, "kind": "categorical", "dim": 16}
                for name in ("a1", "a2", "b1", "b2")
            ]
        },
        "model": {"dim": 32, "item_tower": [64], "query_tower": [64], "residual": True},
        "loss": {"temperature": 0.1, "history_dropout": 0.3, "logq_strength": 0.0},
        "training": {"epochs": 12, "batch_size": 128, "patience": 12},
    }
    for name, keys in sections.items():
        document[name] = {**document.get(name, {}), **keys}
    return parse_config(document)
