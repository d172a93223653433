"""Vocabularies whose tokens leave when they are not used, so that tables do not grow for ever.

    rows      0    1    2    3
    day 1     a    b    c            entered: 0 0 0
    day 9     a    -    c            b was idle: it is out of vocabulary, and its row is free
    day 10    a    d    c    e       d took the row of b, e a new one; entered: 0 1 0 1

A row means nothing but its token, whose generation tells a checkpoint of an earlier one that it
knows nothing of it: see `recsys.checkpoint.table_rows`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Ints
from feature_store.encoding.vocabulary import Turnover, Vocabulary


def renewed_vocabulary(
    counts: pa.Table,
    *,
    first_row: int,
    previous: Vocabulary | None,
    min_count: int,
    max_size: int | None,
    idle_from: int,
    clear_unused: bool,
) -> Vocabulary:
    """Returns a vocabulary whose idle tokens have left their rows to new ones.

    Where rows are few, the most frequent ones enter.

    Args:
        counts: Counts of this run, columns token, count and last.
        first_row: Row of the first token.
        previous: Vocabulary of the previous run; its tokens keep their rows, unless they are idle.
        min_count: Smallest count of a new token.
        max_size: Greatest number of tokens.
        idle_from: Time of the last use before which a token is idle, microseconds.
        clear_unused: Whether earlier tokens that this run does not have leave, too.
    """
    old = previous.tokens if previous is not None else pa.array([], pa.string())
    turnover = previous.turnover if previous is not None else None
    if turnover is None:
        turnover = Turnover(np.zeros(len(old), np.int64), np.zeros(len(old), np.int64))
    now, last = _found(counts, old)
    last = np.maximum(last, turnover.last)
    stays = pc.is_valid(old).to_numpy(zero_copy_only=False) & (last >= idle_from)
    if clear_unused:
        stays &= now > 0
    kept = pc.if_else(pa.array(stays), old, None)
    is_new = pc.invert(pc.is_in(counts["token"], value_set=kept.drop_null()))
    is_new = pc.and_(is_new, pc.greater_equal(counts["count"], min_count))
    new = counts.filter(pc.and_(is_new, pc.greater_equal(counts["last"], idle_from)))
    new = new.sort_by([("count", "descending"), ("token", "ascending")])
    if max_size is not None:
        new = new.slice(0, max(0, max_size - int(stays.sum())))
    free = np.flatnonzero(~stays)[: len(new)]
    rows = np.concatenate([free, len(old) + np.arange(len(new) - len(free))])
    source = np.arange(len(old) + len(new) - len(free))
    source[rows] = len(old) + np.arange(len(new))
    tokens = pa.concat_arrays([kept, *new["token"].cast(pa.string()).chunks]).take(source)
    now, last_of_new = _found(counts, tokens)
    size = len(tokens) - len(old)
    entered = np.pad(turnover.entered, (0, size))
    if previous is not None:
        entered[rows] = int(turnover.entered.max(initial=0)) + 1
    last = np.pad(last, (0, size))
    last[rows] = last_of_new[rows]
    return Vocabulary(tokens, pa.array(now), first_row, Turnover(last, entered))


def _found(counts: pa.Table, tokens: pa.Array) -> tuple[Ints, Ints]:
    """Returns count and time of the last use of each token, [tokens] int64; 0 where it has none."""
    position = pc.index_in(tokens, value_set=counts["token"].combine_chunks(), skip_nulls=True)
    found = counts.take(position)
    columns = (pc.fill_null(found[name], 0).to_numpy() for name in ("count", "last"))
    count, last = columns
    return count, last
