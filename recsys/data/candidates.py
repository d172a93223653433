"""The candidates that queries are scored against: which items, and who is no negative of whom.

Columns of logits are the candidates of all ranks, one rank after the other. `P` are examples' own
items, `N` are drawn uniformly, and `C` are the corpus in its order:

    in_batch  | P P P | P P P |
    mixed     | P P P N N | P P P N N |
    corpus    | C C C C | C C C C |

Every random choice is a hash of the seed, the step and the candidate's place in the global batch,
or in the corpus; so a step is the same whatever the number of ranks.
"""

from dataclasses import dataclass

import numpy as np

from feature_store.core.columns import Ints, Jagged
from feature_store.core.errors import UserError
from feature_store.core.hashing import hash64
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.config.loss import LossConfig
from recsys.data.reader import Share

# With 1024 examples, one matrix of logits over so many items has 0.8 GB.
CORPUS_LIMIT = 200_000

_NEGATIVES = 41

_NO_PAIRS = np.zeros((0, 2), np.int64)


@dataclass(frozen=True)
class Candidates:
    """One rank's part.

    Attributes:
        items: [K] that this rank encodes; -1 is padding.
        keys: [K] that random choices about the candidate are hashes of: its place in the batch
            (below 0 where it is drawn uniformly), or the item where all of the corpus are there.
        targets: [B] the column of each example's own item; of padding, any.
        hits: [n, 2] example and column, where the column is no negative of the example.
        known: [n, 2] example and item, where the item is no negative of the example in the memory;
            none where there is no memory.
        uniform: Which share of the global batch's candidates is drawn uniformly, and how probable
            each item is in such a draw.
    """

    items: Ints
    keys: Ints
    targets: Ints
    hits: Ints
    known: Ints
    uniform: tuple[float, float]


class CandidateBuilder:
    """Chooses the candidates of each step.

    Args:
        prepared: The prepared data.
        config: Its loss and training sections are used.

    Raises:
        UserError: The corpus is too large to be scored in every step; see `check_candidates`.
    """

    def __init__(self, prepared: Prepared, config: Config) -> None:
        check_candidates(prepared, config.loss)
        self._loss = config.loss
        self._seed = config.training.seed
        self._known = prepared.query_state.train.beside(prepared.own_items)
        self._corpus = np.flatnonzero(prepared.is_current_item).astype(np.int32)
        self._column = np.full(len(prepared.is_current_item), -1)
        self._column[self._corpus] = np.arange(len(self._corpus))
        self._uniform = config.loss.candidates.num_uniform(config.training.batch_size)

    def share(self, share: Share, rank: int, world_size: int) -> Candidates:
        """One rank's part of a step, padded to as many candidates as every rank has."""
        if self._loss.candidates.is_corpus:
            return self._whole_corpus(share, rank, world_size)
        size = len(share.columns)
        examples, positives = _shared_out(share.columns, world_size)
        places, negatives = _shared_out(self.uniform_negatives(share.step), world_size)
        columns = np.concatenate([positives, negatives], axis=1)
        items = columns[rank]
        first = rank * len(items) if self._loss.candidates.is_global else 0
        columns = columns.reshape(-1) if self._loss.candidates.is_global else items
        targets = first + np.arange(positives.shape[1])
        masked, bag = self._masked(share)
        hits = accidental_hits(masked, bag, columns, targets[: len(bag)])
        return Candidates(
            items=items,
            keys=np.concatenate([examples[rank], -1 - places[rank]]),
            targets=targets,
            hits=np.concatenate([hits, padding_hits(targets, np.flatnonzero(columns < 0))]),
            known=_pairs(masked, bag) if self._loss.candidates.memory_batches else _NO_PAIRS,
            uniform=(self._uniform / (size + self._uniform), 1 / len(self._corpus)),
        )

    def uniform_negatives(self, step: int) -> Ints:
        """The global batch's uniformly drawn items."""
        draws = hash64(self._seed, _NEGATIVES, step, np.arange(self._uniform))
        return self._corpus[(draws % np.uint64(len(self._corpus))).astype(np.int64)]

    def _whole_corpus(self, share: Share, rank: int, world_size: int) -> Candidates:
        """Examples' own items need no rows: they are among the corpus."""
        _, columns = _shared_out(self._corpus, world_size)
        items = columns[rank]
        targets = self._column[share.item]
        assert (targets >= 0).all(), "an example's item is not of the corpus"
        masked, bag = self._masked(share)
        hits = corpus_hits(masked, bag, self._column, targets)
        rows = -(-len(share.columns) // world_size)
        targets = np.pad(targets, (0, rows - len(targets)))
        padding = np.arange(len(self._corpus), columns.size)
        return Candidates(
            items=items,
            keys=items,
            targets=targets,
            hits=np.concatenate([hits, padding_hits(targets, padding)]),
            known=_NO_PAIRS,
            uniform=(0.0, 0.0),
        )

    def _masked(self, share: Share) -> tuple[Jagged, Ints]:
        """Bags of items that are no negatives, and which one is each example's.

        The example's own item, which may be a candidate several times, is in each of them.
        """
        if self._loss.masked == "known":  # An example is one of the query's training items.
            return self._known, share.query
        own = np.arange(len(share.item))
        if self._loss.masked == "target":
            return Jagged(share.item, np.arange(len(own) + 1)), own
        history = share.seen()
        values = np.insert(history.values, history.offsets[1:], share.item)
        return Jagged.from_lengths(values, history.lengths + 1), own


def only_items(items: Ints, examples: int) -> Candidates:
    """Items to encode, and examples that are scored against nothing."""
    targets = np.zeros(examples, np.int64)
    return Candidates(items, items, targets, _NO_PAIRS, _NO_PAIRS, (0.0, 0.0))


def check_candidates(prepared: Prepared, loss: LossConfig) -> None:
    """Whether every item of the corpus can be a candidate, where the settings ask for it.

    Raises:
        UserError: The corpus is too large.
    """
    items = int(prepared.is_current_item.sum())
    if loss.candidates.is_corpus and items > CORPUS_LIMIT:
        raise UserError(
            f"loss.candidates corpus scores every query against all {items:,} items, and "
            f"{CORPUS_LIMIT:,} is the limit; set loss.candidates: {{kind: mixed}}, which draws "
            "some of them in each step."
        )


def _shared_out(values: Ints, world_size: int) -> tuple[Ints, Ints]:
    """Places and values of each rank, [world_size, rows]; a value of -1 is padding."""
    rows = -(-len(values) // world_size)
    padded = np.full(rows * world_size, -1, values.dtype)
    padded[: len(values)] = values
    places = np.arange(rows * world_size)
    return places.reshape(world_size, rows), padded.reshape(world_size, rows)


def _pairs(masked: Jagged, bag: Ints) -> Ints:
    """Each row with the items of its bag, [n, 2]."""
    bags = masked.take(bag)
    return np.stack([bags.row_of_value(), bags.values], axis=1).astype(np.int64)


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
