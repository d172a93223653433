"""The training events that channels are fitted to."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from feature_store.core.columns import Ints, Jagged
from pipelines.prepared.examples import EXAMPLE_SCHEMA
from pipelines.prepared.reader import Prepared

_NO_EVENTS = EXAMPLE_SCHEMA.empty_table().select(["query", "item", "timestamp"])


@dataclass(frozen=True)
class TrainingLog:
    """The training events of all queries; no event of another split is among them.

    Attributes:
        items: Items of each query's events, oldest first, of equal times by index, [queries].
        times: Time of each event, [events] int64 microseconds since 1970; None where the log has
            no time.
        num_items: Number of items of the catalogue.
    """

    items: Jagged
    times: Ints | None
    num_items: int

    @classmethod
    def read(cls, prepared: Prepared) -> "TrainingLog":
        """Reads the training examples, in 40 bytes of memory an event."""
        columns = ["query", "item", "timestamp"]
        parts = [pq.read_table(path, columns=columns) for path in prepared.examples("train")]
        table = pa.concat_tables([*parts, _NO_EVENTS])
        query, item = table["query"].to_numpy(), table["item"].to_numpy()
        has_time = table.num_rows > 0 and table["timestamp"].null_count == 0
        time = np.zeros(len(item), np.int64)
        if has_time:
            time = table["timestamp"].cast(pa.int64()).to_numpy()
        order = np.lexsort((item, time, query))
        lengths = np.bincount(query, minlength=prepared.num_queries)
        items = Jagged.from_lengths(item[order].astype(np.int32), lengths)
        return cls(items, time[order] if has_time else None, prepared.num_items)

    def seen(self, most: int) -> sparse.csr_matrix:
        """Returns the binary matrix of queries and their items, [queries, items] float32.

        Args:
            most: Number of the latest events of a query that count.
        """
        offsets = self.items.offsets
        from_end = np.repeat(offsets[1:], self.items.lengths) - np.arange(len(self.items.values))
        bags = self.items if from_end.max(initial=0) <= most else self.items.keep(from_end <= most)
        matrix = sparse.csr_matrix(
            (np.ones(len(bags.values), np.float32), bags.values.copy(), bags.offsets.copy()),
            (len(bags), self.num_items),
        )
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        return matrix
