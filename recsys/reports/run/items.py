"""Items of a run: titles, positions on the map, and neighbours."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.tables import column_names, read_table
from recsys.evaluation.item_map import FEATURE, INFORMATION

# Training events from which on an item's neighbours tell something of the model.
_KNOWN = 10


@dataclass(frozen=True)
class ItemTable:
    """Columns written by `recsys.evaluation.item_map.write_items`, each read on demand."""

    path: Path

    @cached_property
    def names(self) -> pa.Table:
        """`item_id`, `title`, `slice` and `frequency` of each item, one chunk a column."""
        columns = ["item_id", "title", "slice", "frequency"]
        return read_table(self.path, columns).combine_chunks()

    def row_of(self, item_id: str) -> int | None:
        """Returns the row of an id; None where there is no such item."""
        row: int = pc.index(self.names["item_id"], item_id).as_py()
        return None if row < 0 else row

    def titles(self, item_ids: list[str]) -> list[str]:
        """Returns titles in the order of the ids; an unknown id is its own title."""
        # The few are looked for among the many: an index of a million takes a second.
        wanted = pa.array(item_ids, self.names["item_id"].type)
        is_wanted = pc.is_in(self.names["item_id"], value_set=wanted)
        named = self.names.select(["item_id", "title"]).filter(is_wanted).to_pydict()
        titles = dict(zip(named["item_id"], named["title"], strict=True))
        return [titles.get(name) or name for name in item_ids]

    def search(self, text: str, most: int = 20) -> list[int]:
        """Returns rows whose id is the text, then those whose title holds it, by frequency."""
        row = self.row_of(text)
        is_hit = pc.match_substring(self.names["title"], text, ignore_case=True)
        rows = np.flatnonzero(pc.fill_null(is_hit, False).to_numpy())
        frequency = self.names["frequency"].to_numpy()[rows]
        by_frequency = rows[np.argsort(-frequency, kind="stable")].tolist()
        return list(dict.fromkeys([*([] if row is None else [row]), *by_frequency]))[:most]

    def similar(self, row: int) -> list[tuple[int, float]]:
        """Returns rows of the nearest items with their cosines; empty where they were not kept."""
        near, cosine = (self._neighbours[name][row].as_py() for name in ("similar", "cosine"))
        return list(zip(near or [], cosine or [], strict=True))

    def spread(self, count: int) -> list[int]:
        """Returns rows that have neighbours, at even distances, of items that are well known.

        Where no item has ten training events, they are those with the most.
        """
        rows = np.flatnonzero(pc.is_valid(self._neighbours["similar"]).to_numpy())
        frequency = self.names["frequency"].to_numpy()[rows]
        rows = rows[frequency >= min(_KNOWN, frequency.max(initial=0))]
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
        spread: list[int] = rows[chosen].tolist()
        return spread

    @cached_property
    def _neighbours(self) -> pa.Table:
        return read_table(self.path, ["similar", "cosine"])

    @cached_property
    def positions(self) -> pa.Table:
        """Items on the map: `x`, `y`, `item_id`, `title`, `slice`, `frequency` and the features."""
        columns = ["x", "y", "item_id", "title", "slice", "frequency"]
        columns += map(self.column, self.features)
        table = read_table(self.path, columns)
        return table.filter(pc.is_valid(table["x"]))

    @cached_property
    def features(self) -> list[str]:
        """Features by which the map can be coloured, the most telling first."""
        names = column_names(self.path)
        return [name.removeprefix(FEATURE) for name in names if name.startswith(FEATURE)]

    @property
    def information(self) -> dict[str, float]:
        """Share of the vectors' clusters that each feature tells; empty of earlier versions."""
        metadata = self.positions.schema.metadata or {}
        told: dict[str, float] = json.loads(metadata.get(INFORMATION.encode(), b"{}"))
        return told

    @staticmethod
    def column(feature: str) -> str:
        """Returns the name of the column with a feature's values."""
        return f"{FEATURE}{feature}"
