"""A simulated month: a partition a day, with new items and queries, drift, and three bad days.

Queries like items of a group, and move to another one now and then. Items come every day, are
liked by their quality, and less the older they are. What is written depends on the seed and the day
alone.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.columns import Floats, Ints
from feature_store.core.files import write_parquet

BadDay = Literal["corrupt", "empty", "tenfold"]

GROUPS, ITEMS, QUERIES, EVENTS = 24, 960, 300, 900
# The first day of the job: two days for each of training, validation and test.
FIRST = 6
# Items and queries come every day, and some queries move to another group.
NEW_ITEMS, NEW_QUERIES, MOVING = 24, 6, 0.03
# An item's category is that of its group with this probability.
_TOLD = 0.8
# Probability of an event in the query's first and second group; else in any.
_FIRST, _SECOND = 0.7, 0.15
# Days after which an item's novelty is worn off by 63 %, and the part that stays.
_NOVELTY, _STAYS = 8.0, 0.2
# Bad days, by the part of the job's days before them.
_BAD: tuple[tuple[float, BadDay], ...] = ((0.3, "corrupt"), (0.55, "empty"), (0.8, "tenfold"))
_START = datetime(2026, 11, 1, tzinfo=UTC)


class Month:
    """The queries and items of a month, and what happens on its days, which are counted from 1.

    Args:
        days: Number of days.
        seed: Seed of everything.
    """

    def __init__(self, days: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        items, queries = ITEMS + NEW_ITEMS * (days + 1), QUERIES + NEW_QUERIES * (days + 1)
        self.days = days
        self.bad: dict[int, BadDay] = {
            round(FIRST + part * (days - FIRST)): kind for part, kind in _BAD
        }
        self._seed = seed
        self._group = random.integers(0, GROUPS, items)
        told = random.random(items) < _TOLD
        self._category = np.where(told, self._group, random.integers(0, GROUPS, items))
        self._quality = random.lognormal(sigma=0.8, size=items)
        self._born = np.concatenate(
            [random.integers(-20, 1, ITEMS), 1 + np.arange(items - ITEMS) // NEW_ITEMS]
        )
        self._joined = np.maximum(0, 1 + (np.arange(queries) - QUERIES) // NEW_QUERIES)
        self._activity = random.lognormal(sigma=0.6, size=queries)
        self._second = random.integers(0, GROUPS, queries)
        self._first = np.array(list(_drifting(random, days, queries)))

    def end(self, day: int) -> datetime:
        """Returns the end of a day: the first moment after its partition."""
        return _START + timedelta(days=day)

    def events(self, day: int, rows: int = EVENTS, draw: int = 0) -> pa.Table:
        """Returns events of a day as they happen, or others that might have happened.

        Args:
            day: Number of the day.
            rows: Number of events.
            draw: Number of the draw.
        """
        random = np.random.default_rng((self._seed, day, draw))
        active = self._activity * (self._joined <= day)
        query = random.choice(len(active), rows, p=active / active.sum())
        kind = random.random(rows)
        group = np.select(
            [kind < _FIRST, kind < _FIRST + _SECOND],
            [self._first[day][query], self._second[query]],
            random.integers(0, GROUPS, rows),
        )
        weight = self._weights(day)
        item = np.zeros(rows, np.int64)
        for each in range(GROUPS):
            of_group, asked = np.flatnonzero(self._group == each), group == each
            p = weight[of_group] / weight[of_group].sum()
            item[asked] = random.choice(of_group, int(asked.sum()), p=p)
        start = int((self.end(day) - timedelta(days=1)).timestamp())
        return pa.table(
            {
                "query_id": [f"q{q}" for q in query],
                "item_id": [f"i{i}" for i in item],
                "timestamp": start + np.sort(random.integers(0, 86_400, rows)),
            }
        )

    def write(self, day: int, events: Path, items: Path) -> None:
        """Writes the partition of a day, as bad as the day is, and the catalogue of that day.

        A day that is there is left as it is.
        """
        path = events / f"date={self.end(day) - timedelta(days=1):%Y-%m-%d}" / "part.parquet"
        if path.exists():
            return
        is_there = self._born <= day
        index = np.flatnonzero(is_there)
        catalogue = {
            "item_id": [f"i{i}" for i in index],
            "category": [f"c{c}" for c in self._category[index]],
        }
        write_parquet(items, pa.table(catalogue))
        bad = self.bad.get(day)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = self.events(day, 10 * EVENTS if bad == "tenfold" else EVENTS)
        pq.write_table(table.slice(0, 0) if bad == "empty" else table, path)
        if bad == "corrupt":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def _weights(self, day: int) -> Floats:
        age = day - self._born
        novelty = _STAYS + (1 - _STAYS) * np.exp(-np.maximum(age, 0) / _NOVELTY)
        return np.where(age >= 0, self._quality * novelty, 0.0)


def _drifting(random: np.random.Generator, days: int, queries: int) -> Iterator[Ints]:
    """Yields the first group of each query, day by day."""
    group: npt.NDArray[np.int64] = random.integers(0, GROUPS, queries)
    yield group
    for _ in range(days + 1):
        moves = random.random(queries) < MOVING
        group = np.where(moves, random.integers(0, GROUPS, queries), group)
        yield group
