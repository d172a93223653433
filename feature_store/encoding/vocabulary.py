"""Vocabularies: a token keeps its row for ever, or as long as it is used; see `turnover`."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.columns import Bools, Ints
from feature_store.core.files import write_parquet

# Below this many look-ups a Python dictionary beats Arrow, which hashes the vocabulary every call.
_SMALL_LOOKUP = 4096


class Turnover(NamedTuple):
    """Times at which the tokens of a vocabulary were used, and entered.

    Attributes:
        last: Time of the last use, [n], microseconds.
        entered: Generation in which the token took its row, [n]; 0: the first one.
    """

    last: Ints
    entered: Ints


class Vocabulary:
    """Tokens and their rows in an embedding table.

    Args:
        tokens: Strings, [n]; token i has row `first_row + i`. Null where a token was forgotten.
        counts: Occurrences when the token was last counted, [n].
        first_row: 0 for ids; 1 where all out-of-vocabulary tokens share row 0.
        turnover: Times of tokens, where these can leave; None: they cannot.
    """

    def __init__(
        self,
        tokens: pa.Array,
        counts: pa.Array,
        first_row: int,
        turnover: "Turnover | None" = None,
    ) -> None:
        self.tokens = tokens
        self.counts = counts
        self.first_row = first_row
        self.turnover = turnover
        self._rows: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def num_embeddings(self) -> int:
        """Rows that its table needs, the out-of-vocabulary row included."""
        return self.first_row + len(self.tokens)

    @property
    def generation(self) -> int:
        """Number of times that tokens have entered since the first ones."""
        return 0 if self.turnover is None else int(self.turnover.entered.max(initial=0))

    def is_later(self, generation: int) -> Bools:
        """Checks which tokens entered after a generation, on a row of another's, [n]."""
        if self.turnover is None:
            return np.zeros(len(self.tokens), bool)
        return self.turnover.entered > generation

    def rows(self, tokens: pa.Array) -> Ints:
        """Looks tokens up: rows, [n] int32, -1 where a token is unknown."""
        if len(tokens) <= _SMALL_LOOKUP:
            if self._rows is None:
                rows = enumerate(self.tokens.to_pylist())
                self._rows = {token: row for row, token in rows if token is not None}
            index = np.array([self._rows.get(t, -1) for t in tokens.to_pylist()], np.int32)
        else:
            positions = pc.index_in(tokens, value_set=self.tokens, skip_nulls=True)
            index = pc.fill_null(positions, -1).to_numpy(zero_copy_only=False)
        return np.where(index < 0, index, index + self.first_row).astype(np.int32)

    def save(self, path: Path) -> None:
        """Writes Parquet with columns token, row and count, and those of a turnover."""
        rows = np.arange(len(self.tokens), dtype=np.int64) + self.first_row
        table = {"token": self.tokens, "row": pa.array(rows), "count": self.counts}
        if self.turnover is not None:
            table |= {"last": self.turnover.last, "entered": self.turnover.entered}
        write_parquet(path, pa.table(table))

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
            ValueError: The file holds something else.
        """
        table = pq.read_table(path)
        first_row = table["row"][0].as_py() if table.num_rows else 1
        if first_row not in (0, 1):
            raise ValueError(f"{path.name} begins with row {first_row}")
        columns = [table[name].combine_chunks() for name in ("token", "count")]
        turnover = None
        if "entered" in table.column_names:
            turnover = Turnover(table["last"].to_numpy(), table["entered"].to_numpy())
        return cls(columns[0], columns[1], first_row, turnover)


def count_tokens(tokens: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Counts tokens but null ones; columns token (string) and count (int64)."""
    counted = pc.value_counts(tokens.drop_null())
    return pa.table(
        {"token": counted.field("values").cast(pa.string()), "count": counted.field("counts")}
    )


def merge_counts(parts: list[pa.Table]) -> pa.Table:
    """Adds up the counts of parts; of their column last, if there is one, the latest stays."""
    has_last = "last" in parts[0].column_names
    added = [("count", "sum"), *([("last", "max")] if has_last else [])]
    merged = pa.concat_tables(parts).group_by("token").aggregate(added)
    names = {"token": "token", "count_sum": "count", **({"last_max": "last"} if has_last else {})}
    return merged.select(list(names)).rename_columns(list(names.values()))


def grow_vocabulary(
    counts: pa.Table,
    *,
    first_row: int,
    previous: Vocabulary | None = None,
    min_count: int = 0,
    max_size: int | None = None,
    clear_unused: bool = False,
) -> Vocabulary:
    """Appends new tokens, the most frequent first, ties in code-point order; old rows never move.

    Args:
        counts: Counts of this run, columns token and count.
        first_row: Row of the first token.
        previous: Vocabulary of the previous run; its tokens stay, whatever their count now.
        min_count: Smallest count of a new token.
        max_size: Greatest number of tokens, old and new.
        clear_unused: Whether earlier tokens that this run does not have become null.
    """
    old = previous.tokens if previous is not None else pa.array([], pa.string())
    is_new = pc.invert(pc.is_in(counts["token"], value_set=old))
    new = counts.filter(pc.and_(is_new, pc.greater_equal(counts["count"], min_count)))
    new = new.sort_by([("count", "descending"), ("token", "ascending")])
    if max_size is not None:
        new = new.slice(0, max(0, max_size - len(old)))
    tokens = pa.concat_arrays([old, *new["token"].cast(pa.string()).chunks])
    current = counts["token"].combine_chunks()
    position = pc.index_in(tokens, value_set=current, skip_nulls=True)
    now = pc.fill_null(pc.take(counts["count"].combine_chunks(), position), 0)
    if clear_unused:
        tokens = pc.if_else(pc.is_null(position), None, tokens)
    return Vocabulary(tokens, now.cast(pa.int64()), first_row)
