"""A log that grows by a partition a day, and the configuration of a model that learns it fast."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config.config import Config
from recsys.config.load import parse_config

GROUPS, ITEMS_IN_GROUP, QUERIES, EVENTS_OF_DAY = 6, 30, 60, 150
FIRST = date(2026, 11, 1)


def partition(events: Path, day: int) -> Path:
    """Returns the file of a day, counted from 1."""
    return events / f"date={FIRST + timedelta(days=day - 1)}" / "part.parquet"


def events_of(day: int, rows: int = EVENTS_OF_DAY) -> pa.Table:
    """Draws the events of a day: queries like the items of a group; each day has an item more."""
    random = np.random.default_rng(day)
    query = random.integers(0, QUERIES, rows)
    item = (query % GROUPS) * ITEMS_IN_GROUP + random.integers(0, ITEMS_IN_GROUP, rows)
    start = datetime.combine(FIRST + timedelta(days=day - 1), datetime.min.time(), UTC)
    names = [f"i{i}" for i in item]
    names[0] = f"new{day}"
    return pa.table(
        {
            "query_id": [f"q{q}" for q in query],
            "item_id": names,
            "timestamp": int(start.timestamp()) + np.sort(random.integers(0, 86_400, rows)),
            "device": [f"d{n % 3}" for n in range(rows)],
        }
    )


def write_days(events: Path, first: int, last: int) -> None:
    """Writes the partitions of some days."""
    for day in range(first, last + 1):
        write_day(events, day, events_of(day))


def write_day(events: Path, day: int, table: pa.Table) -> None:
    """Writes the partition of a day."""
    path = partition(events, day)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def without_day(events: Path, day: int) -> None:
    """Removes the partition of a day."""
    partition(events, day).unlink()
    partition(events, day).parent.rmdir()


def midnight(day: int) -> datetime:
    """Returns the end of a day, counted from 1: the first moment after its partition."""
    return datetime.combine(FIRST + timedelta(days=day), datetime.min.time(), UTC)


def daily_config(events: Path, output: Path, **sections: dict[str, Any]) -> Config:
    """Builds the configuration; `sections` overrides keys of its sections."""
    document: dict[str, Any] = {
        "output": str(output),
        "executor": "local",
        "data": {
            "events": str(events),
            "split": {"kind": "time", "validation": "2d", "test": "2d"},
            "history": {"max_length": 8},
        },
        "features": {"item": [{"name": "item_id", "kind": "id", "dim": 8}], "query": []},
        "model": {"dim": 8, "item_tower": [], "query_tower": [], "dropout": 0.0},
        "ssl": {"method": "none"},
        "loss": {"id_dropout": 0.0},
        "training": {"epochs": 2, "batch_size": 64},
        "ranking": {"channels": ["co_occurrence"]},
        "evaluation": {"select_by": "ndcg@10", "baselines": ["popularity"]},
    }
    for name, keys in sections.items():
        document[name] = {**document.get(name, {}), **keys}
    return parse_config(document)
