"""Queries of a run: their histories, their recommendations, and the items to be found."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.tables import read_table
from recsys.evaluation.results import MODEL


@dataclass(frozen=True)
class Answer:
    """The evaluation of one query; items are ids.

    Attributes:
        query_id: Id of the query.
        history: Latest items of its history, latest first.
        recommended: Recommendations of the model, best first.
        popular: Recommendations by popularity, best first.
        held_out: Items to be found.
        ranks: Ranks of these, from 0; None beyond the list.
        slices: Slice of each of these by its training events.
        length: Length of the whole history.
    """

    query_id: str
    history: list[str]
    recommended: list[str]
    popular: list[str]
    held_out: list[str]
    ranks: list[int | None]
    slices: list[str]
    length: int


@dataclass(frozen=True)
class QueryTable:
    """Rows written by `recsys.evaluation.per_query.write_per_query`, one group read at a time."""

    path: Path

    @cached_property
    def ids(self) -> pa.Array:
        """Query ids, [queries], in the order of the file."""
        column = read_table(self.path, ["query_id"])["query_id"]
        return column.cast(pa.string()).combine_chunks()

    def answer(self, query_id: str) -> Answer | None:
        """Returns the evaluation of a query; None where it was not evaluated."""
        row: int = pc.index(self.ids, query_id).as_py()
        return None if row < 0 else self._answer(row)

    def spread(self, count: int) -> list[str]:
        """Returns ids of queries at even distances, so not chosen by their results."""
        total = len(self.ids)
        rows = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
        return [self.ids[row].as_py() for row in rows.tolist()]

    def starting_with(self, text: str, count: int = 20) -> list[str]:
        """Returns ids that begin with a text."""
        ids: list[str] = self.ids.filter(pc.starts_with(self.ids, text))[:count].to_pylist()
        return ids

    def _answer(self, row: int) -> Answer:
        columns = ["query_id", "history", "history_length", "held_out", "held_out_slice"]
        columns += [f"{MODEL}.items", f"{MODEL}.ranks", "popularity.items"]
        with pq.ParquetFile(self.path) as file:
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            group = int(np.searchsorted(ends, row, side="right"))
            table = file.read_row_group(group, columns=columns)
        start = int(ends[group] - sizes[group])
        values = table.slice(row - start, 1).to_pylist()[0]
        return Answer(
            query_id=values["query_id"],
            history=values["history"],
            recommended=values[f"{MODEL}.items"],
            popular=values["popularity.items"],
            held_out=values["held_out"],
            ranks=values[f"{MODEL}.ranks"],
            slices=values["held_out_slice"],
            length=values["history_length"],
        )
