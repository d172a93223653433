"""A log whose long tail shares structure with the head only through features.

    items     features               training events
    head      a1 to a4               many: they teach what a group's a-values mean
    bridges   a1 to a4 and b1 to b4  none: they only stand in the catalogue
    tail      b1 to b4               one, of a query that it is not for

Queries like the items of one group. The a-values of an item are four names of one thing, and so are
its b-values. Labels say nothing true of the tail, as where an item's only click is a mistake, but
the bridges say which a-values its b-values go with. Where each view shows an a-value and a b-value,
the synonyms solve the task; only if the a-values are hidden together, as correlated features are,
must b lead to a. Of the 70 ways to split eight features into halves, 2 do that.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config.config import Config
from recsys.config.load import parse_config

GROUPS, ITEMS_OF_KIND, BRIDGES_OF_CODE = 48, 8, 3
QUERIES_OF_GROUP, TRAINED_OF_QUERY = 12, 5
NAMES = ("a1", "a2", "a3", "a4", "b1", "b2", "b3", "b4")


def write_bridged_log(directory: Path, seed: int = 0) -> None:
    """Writes events and items."""
    random = np.random.default_rng(seed)
    items, of_group = _items(random)
    events: list[dict[str, str]] = []

    def liked(query: int, item: str, split: str) -> None:
        events.append({"query_id": f"q{query}", "item_id": item, "split": split})

    for query in range(GROUPS * QUERIES_OF_GROUP):
        head, tail = (of_group[kind, query % GROUPS] for kind in ("head", "tail"))
        chosen = random.permutation(head)
        for item in chosen[:TRAINED_OF_QUERY]:
            liked(query, item, "train")
        rare = random.permutation(tail)
        for split, item in zip(("validation", "test"), rare, strict=False):
            liked(query, item, split)
        liked(query, chosen[-1], "test")
    for group in range(GROUPS):
        for item in of_group["tail", group]:
            liked(int(random.integers(QUERIES_OF_GROUP * GROUPS)), item, "train")
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(events), directory / "events.parquet")
    pq.write_table(pa.Table.from_pylist(items), directory / "items.parquet")


def _items(
    random: np.random.Generator,
) -> tuple[list[dict[str, Any]], dict[tuple[str, int], list[str]]]:
    """Builds the catalogue, and the ids of each kind in each group."""
    items: list[dict[str, Any]] = []
    of_group: dict[tuple[str, int], list[str]] = {}

    def add(kind: str, group: int, a: int | None, b: int | None) -> None:
        codes = dict(zip("ab", (a, b), strict=True))
        values = {
            name: None if codes[name[0]] is None else f"{name}.{group}.{codes[name[0]]}"
            for name in NAMES
        }
        items.append({"item_id": f"{kind}{len(items)}", **values})
        of_group.setdefault((kind, group), []).append(items[-1]["item_id"])

    for group in range(GROUPS):
        for code in range(ITEMS_OF_KIND):
            add("head", group, code, None)
            add("tail", group, None, code)
            for a in random.integers(0, ITEMS_OF_KIND, BRIDGES_OF_CODE):
                add("bridge", group, int(a), code)
    return items, of_group


def bridged_config(directory: Path, output: Path, **sections: dict[str, Any]) -> Config:
    """Builds the configuration of the bridged log; `sections` overrides keys of its sections."""
    document: dict[str, Any] = {
        "output": str(output),
        "executor": "local",
        "data": {
            "events": str(directory / "events.parquet"),
            "items": str(directory / "items.parquet"),
            "columns": {"timestamp": None},
            "split": {"kind": "given", "column": "split"},
            "history": {"kind": "others", "max_length": 8},
        },
        "features": {
            "item": [{"name": name, "kind": "categorical", "dim": 16} for name in NAMES],
        },
        "model": {"dim": 32, "item_tower": [], "query_tower": [], "residual": False},
        "loss": {"temperature": 0.1, "history_dropout": 0.3, "logq": {"strength": 0.0}},
        "training": {"epochs": 8, "batch_size": 256, "patience": 8, "sparse_learning_rate": 0.2},
        "ranking": {"channels": []},
        "evaluation": {"baselines": ["popularity"], "slices": [], "map_items": 0},
    }
    for name, keys in sections.items():
        document[name] = {**document.get(name, {}), **keys}
    return parse_config(document)
