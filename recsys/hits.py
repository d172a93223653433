"""Which candidates are no negatives of which example."""

import numpy as np

from feature_store.core.columns import Ints, Jagged


def accidental_hits(masked: Jagged, bag: Ints, columns: Ints, own: Ints) -> Ints:
    """The candidates that are in a row's bag, [n, 2] row and column.

    Args:
        masked: Bags of items that are no negatives.
        bag: [rows] which bag is the row's.
        columns: [columns] the candidates' items; -1 is padding.
        own: [rows] each row's own column, which is never a hit.
    """
    # Columns lie in buckets by a hash of their items, for most items of bags are in none of them.
    buckets = 8 << len(columns).bit_length()
    bucket = columns & (buckets - 1)
    order = np.argsort(bucket, kind="stable")
    counts = np.bincount(bucket, minlength=buckets)
    starts = np.cumsum(counts) - counts
    begin, end = masked.offsets[bag], masked.offsets[bag + 1]
    bags = [masked.values[i:j] for i, j in zip(begin.tolist(), end.tolist(), strict=True)]
    values = np.concatenate([masked.values[:0], *bags])
    bucket = values & (buckets - 1)
    found = np.flatnonzero((counts > 0)[bucket])
    row = np.repeat(np.arange(len(bag), dtype=np.int32), end - begin)[found]
    values, bucket = values[found], bucket[found]
    in_bucket = counts[bucket]
    # Each of them against all columns of its bucket.
    shift = starts[bucket] - (np.cumsum(in_bucket) - in_bucket)
    column = order[np.repeat(shift, in_bucket) + np.arange(in_bucket.sum())]
    row = np.repeat(row, in_bucket)
    is_hit = (columns[column] == np.repeat(values, in_bucket)) & (column != own[row])
    return np.stack([row[is_hit], column[is_hit]], axis=1).astype(np.int64)


def corpus_hits(masked: Jagged, bag: Ints, place: Ints, own: Ints) -> Ints:
    """As `accidental_hits`, where each item has at most one column.

    Args:
        masked: Bags of items that are no negatives.
        bag: [rows] which bag is the row's.
        place: [items] the item's column; -1 for none.
        own: [rows] each row's own column, which is never a hit.
    """
    bags = masked.take(bag)
    row, column = bags.row_of_value(), place[bags.values]
    is_hit = (column >= 0) & (column != own[row])
    return np.stack([row[is_hit], column[is_hit]], axis=1).astype(np.int64)


def padding_hits(own: Ints, columns: Ints) -> Ints:
    """The columns of padding, which are negatives of no row, [n, 2] as of `accidental_hits`.

    Args:
        own: [rows] each row's own column.
        columns: Of padding.
    """
    row, column = np.repeat(np.arange(len(own)), len(columns)), np.tile(columns, len(own))
    is_other = column != own[row]
    return np.stack([row[is_other], column[is_other]], axis=1)
