"""A log of pages that are read one after the other, in which every channel has what it needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.prepared.reader import Prepared
from recsys.channels.channel import ChannelData
from recsys.channels.log import TrainingLog
from recsys.config.config import Config
from recsys.config.load import parse_config
from recsys.stages.prepare import prepare

PAGES, GROUPS, EVENTS = 36, 4, 7


def pages_config(directory: Path, **sections: Any) -> Config:
    """Writes the log and returns its configuration. Queries are pages, and their events links."""
    random = np.random.default_rng(0)
    links = [
        (page, (page + 1 + GROUPS * int(step)) % PAGES, 1_600_000_000 + 86_400 * at + page)
        for page in range(PAGES)
        for at, step in enumerate(random.choice(PAGES // GROUPS - 1, EVENTS, replace=False))
    ]
    page, item, time = (np.array(column) for column in zip(*links, strict=True))
    names = np.array([f"page {i}" for i in range(PAGES)])
    directory.mkdir(parents=True, exist_ok=True)
    events = {"query_id": names[page], "item_id": names[item], "timestamp": time}
    pq.write_table(pa.table(events), directory / "events.parquet")
    pages = np.arange(PAGES)
    table = pa.table(
        {
            "item_id": names,
            "group": [f"g{i % GROUPS}" for i in pages],
            "title": [f"word{i % GROUPS} rare{i}" for i in pages],
            "text": [f"rare{(i + 1) % PAGES} word{i % 3}" for i in pages],
            "size": random.normal(size=PAGES),
            "shape": [random.normal(size=3).tolist() for _ in pages],
        }
    )
    pq.write_table(table, directory / "items.parquet")
    document: dict[str, Any] = {
        "output": str(directory / "out"),
        "executor": "local",
        "data": {
            "events": str(directory / "events.parquet"),
            "items": str(directory / "items.parquet"),
            "split": {"kind": "leave_last_out"},
            "history": {"kind": "past", "max_length": 10},
        },
        "features": {
            "item": [
                {"name": "item_id", "kind": "id", "dim": 8},
                {"name": "group", "kind": "categorical", "dim": 8},
                {"name": "title", "kind": "text", "dim": 8},
                {"name": "text", "kind": "text", "dim": 8},
                {"name": "size", "kind": "numeric", "dim": 4},
                {"name": "shape", "kind": "vector", "dim": 4, "length": 3},
            ],
            "query": [{"name": "query_id", "kind": "id", "dim": 8, "shares": "item.item_id"}],
        },
        "model": {"dim": 8, "item_tower": [], "query_tower": []},
        "ssl": {"method": "none"},
        "training": {"epochs": 2, "batch_size": 64, "ray": None},
        "ranking": {"neighbours": 5},
    }
    return parse_config({**document, **sections})


def pages_data(directory: Path) -> ChannelData:
    """Writes the log, prepares it, and returns what channels are fitted to."""
    config = pages_config(directory)
    prepare(config)
    prepared = Prepared(config.prepared_dir)
    return ChannelData(prepared, TrainingLog.read(prepared))
