"""A log whose values come and go, and a configuration in which they pass on their rows.

Each day has a device of its own in three events, and an item of its own in four.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from recsys.config.config import Config
from recsys.stages.prepare import prepare
from tests.support.nightly.daily_log import daily_config, events_of, midnight, write_day

MIN_COUNT, IDLE_DAYS = 2, 3
_FEATURES: dict[str, Any] = {
    "item": [
        {
            "name": "item_id",
            "kind": "id",
            "dim": 8,
            "min_count": MIN_COUNT,
            "max_idle_days": IDLE_DAYS,
        }
    ],
    "query": [],
    "context": [{"name": "device", "kind": "categorical", "dim": 4, "max_idle_days": IDLE_DAYS}],
}


def turnover_config(directory: Path, **sections: dict[str, Any]) -> Config:
    """Builds the configuration of a log and an output below a directory."""
    ranking = {"channels": []}
    return daily_config(
        directory / "events",
        directory / "out",
        **{"features": _FEATURES, "ranking": ranking, **sections},
    )


def write_turnover_days(directory: Path, first: int, last: int) -> None:
    """Writes the partitions of some days."""
    for day in range(first, last + 1):
        table = events_of(day)
        items, devices = table["item_id"].to_pylist(), table["device"].to_pylist()
        items[:4], devices[:3] = [f"hot{day}"] * 4, [f"only{day}"] * 3
        table = table.set_column(1, "item_id", pa.array(items))
        write_day(directory / "events", day, table.set_column(3, "device", pa.array(devices)))


def prepare_day(directory: Path, day: int) -> None:
    """Prepares the log as of the end of a day."""
    prepare(turnover_config(directory), as_of=midnight(day), console=Console(quiet=True))
