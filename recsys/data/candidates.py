"""Candidates: the items that queries are scored against, and those that are no negatives.

1. Each rank encodes its part of the global batch's candidates. `P` are the examples' own items, `N`
   are drawn uniformly, and `C` are the corpus in its order; the columns of the logits are the
   candidates of all ranks, one rank after the other:

       candidates      rank 0       rank 1
       in_batch      | P P P      | P P P      |
       mixed         | P P P N N  | P P P N N  |
       corpus        | C C C C    | C C C C    |

2. Each example has one target, the column of its own item. Every other column is a negative,
3. except accidental hits: a candidate that is another positive of the example (which ones count is
   `loss.masked`), its own item drawn once more, or padding.

Every random choice is a hash of the seed, the step and the candidate's position in the global
batch, or in the corpus; so a step is the same for any number of ranks.
"""

from dataclasses import dataclass

import numpy as np

from feature_store.core.columns import Ints, Jagged
from feature_store.core.errors import UserError
from feature_store.core.hashing import hash64
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.config.loss import LossConfig
from recsys.data.plan import rows_per_rank
from recsys.data.reader import LocalBatch

# Largest corpus of a full softmax: with 1024 examples, its matrix of logits has 0.8 GB.
CORPUS_LIMIT = 200_000

_NEGATIVES = 41

_NO_PAIRS = np.zeros((0, 2), np.int64)


@dataclass(frozen=True)
class Candidates:
    """One rank's part of a step's candidates.

    Attributes:
        items: [K] items that this rank encodes; -1 is padding.
        keys: [K] keys that random choices about a candidate are hashes of: its position in the
            global batch (below 0 where it is drawn uniformly), or the item itself where all of the
            corpus are candidates.
        targets: [B] column of each example's own item; any column for padding.
        accidental_hits: [n, 2] example and column of a candidate that must not count as its
            negative; examples ascend.
        uniform: Fraction of the global batch's candidates that is drawn uniformly, and probability
            of each item in such a draw.
    """

    items: Ints
    keys: Ints
    targets: Ints
    accidental_hits: Ints
    uniform: tuple[float, float]


def check_candidates(prepared: Prepared, loss: LossConfig) -> None:
    """Checks that every item of the corpus can be a candidate, where the settings ask for it.

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


def only_items(items: Ints, examples: int) -> Candidates:
    """Returns items to encode, and examples that are scored against nothing."""
    targets = np.zeros(examples, np.int64)
    return Candidates(items, items, targets, _NO_PAIRS, (0.0, 0.0))


class CandidateBuilder:
    """Chooses the candidates of each step.

    Args:
        prepared: The prepared data.
        config: Configuration; its loss and training sections are used.

    Raises:
        UserError: The corpus is too large to be scored in every step; see `check_candidates`.
    """

    def __init__(self, prepared: Prepared, config: Config) -> None:
        check_candidates(prepared, config.loss)
        self._loss = config.loss
        self._seed = config.training.seed
        self._known = prepared.query_state.train.beside(prepared.own_items)
        self._corpus = np.flatnonzero(prepared.is_current_item).astype(np.int32)
        # Candidates of the corpus keep their column as slot; others have one within a step alone.
        self._slots = np.full(len(prepared.is_current_item), -1, np.int32)
        if config.loss.candidates.is_corpus:
            self._slots[self._corpus] = np.arange(len(self._corpus))
        self._uniform = config.loss.candidates.num_uniform(config.training.batch_size)

    def build(self, local: LocalBatch, rank: int, world_size: int) -> Candidates:
        """Builds one rank's part of a step, padded to equally many candidates on every rank."""
        if self._loss.candidates.is_corpus:
            return self._from_corpus(local, rank, world_size)
        return self._from_batch(local, rank, world_size)

    def uniform_negatives(self, step: int) -> Ints:
        """Draws the global batch's uniform negatives, with replacement."""
        draws = hash64(self._seed, _NEGATIVES, step, np.arange(self._uniform))
        return self._corpus[(draws % np.uint64(len(self._corpus))).astype(np.int64)]

    def _from_batch(self, local: LocalBatch, rank: int, world_size: int) -> Candidates:
        size = len(local.global_items)
        positions, positives = _split_over_ranks(local.global_items, world_size)
        drawn, negatives = _split_over_ranks(self.uniform_negatives(local.step), world_size)
        every = np.concatenate([positives, negatives], axis=1)  # [ranks, K]
        is_global = self._loss.candidates.is_global
        columns = every.reshape(-1) if is_global else every[rank]
        first = rank * every.shape[1] if is_global else 0
        targets = first + np.arange(positives.shape[1])
        bags, bag = self._positives(local)
        hits = accidental_hits(bags, bag, columns, targets[: len(bag)], self._slots)
        return Candidates(
            items=every[rank],
            keys=np.concatenate([positions[rank], -1 - drawn[rank]]),
            targets=targets,
            accidental_hits=_with_padding(hits, targets, np.flatnonzero(columns < 0)),
            uniform=(self._uniform / (size + self._uniform), 1 / len(self._corpus)),
        )

    def _from_corpus(self, local: LocalBatch, rank: int, world_size: int) -> Candidates:
        """Encodes the corpus, which holds the examples' own items, too."""
        _, every = _split_over_ranks(self._corpus, world_size)  # [ranks, K]
        targets = self._slots[local.item].astype(np.int64)
        assert (targets >= 0).all(), "an example's item is not of the corpus"
        bags, bag = self._positives(local)
        hits = accidental_hits_in_corpus(bags, bag, self._slots, targets)
        rows = rows_per_rank(len(local.global_items), world_size)
        targets = np.pad(targets, (0, rows - len(targets)))
        padding = np.arange(len(self._corpus), every.size)
        return Candidates(
            items=every[rank],
            keys=every[rank],
            targets=targets,
            accidental_hits=_with_padding(hits, targets, padding),
            uniform=(0.0, 0.0),
        )

    def _positives(self, local: LocalBatch) -> tuple[Jagged, Ints]:
        """Returns bags of items that are no negatives, and the bag of each example.

        Each bag holds the example's own item, which may be a candidate several times.
        """
        if self._loss.masked == "known":  # The example's item is among the query's training items.
            return self._known, local.query
        examples = np.arange(len(local.item))
        if self._loss.masked == "target":
            return Jagged(local.item, np.arange(len(examples) + 1)), examples
        history = local.seen()
        values = np.insert(history.values, history.offsets[1:], local.item)
        return Jagged.from_lengths(values, history.lengths + 1), examples


def accidental_hits(
    positives: Jagged, bag: Ints, columns: Ints, targets: Ints, slots: Ints
) -> Ints:
    """Finds the candidates that are in an example's bag of positives, [n, 2] example and column.

    Args:
        positives: Bags of items that are no negatives.
        bag: [examples] bag of each example.
        columns: [columns] items of the candidates; -1 is padding.
        targets: [examples] column of each example's own item, which is never an accidental hit.
        slots: [items] int32 to work on, -1 for every item, which it is again afterwards.
    """
    distinct, slot_of_column, counts = np.unique(columns, return_inverse=True, return_counts=True)
    counts = counts.astype(np.int32)
    starts = np.cumsum(counts, dtype=np.int32) - counts
    order = np.argsort(slot_of_column, kind="stable").astype(np.int32)
    first = int(np.searchsorted(distinct, 0))  # Padding is in no bag.
    slots[distinct[first:]] = np.arange(first, len(distinct), dtype=np.int32)
    begin, end = positives.offsets[bag], positives.offsets[bag + 1]
    bags = [positives.values[i:j] for i, j in zip(begin.tolist(), end.tolist(), strict=True)]
    slot = slots[np.concatenate([positives.values[:0], *bags])]
    slots[distinct[first:]] = -1
    found = np.flatnonzero(slot >= 0)
    slot, example = slot[found], np.repeat(np.arange(len(bag), dtype=np.int32), end - begin)[found]
    # Each item that was found is in all columns of its slot.
    number = counts[slot]
    shift = starts[slot] - (np.cumsum(number, dtype=np.int32) - number)
    column = order[np.repeat(shift, number) + np.arange(number.sum(), dtype=np.int32)]
    example = np.repeat(example, number)
    others = np.flatnonzero(column != targets.astype(np.int32)[example])
    hits = np.empty((len(others), 2), np.int64)
    hits[:, 0], hits[:, 1] = example[others], column[others]
    return hits


def accidental_hits_in_corpus(
    positives: Jagged, bag: Ints, corpus_column: Ints, targets: Ints
) -> Ints:
    """Finds what `accidental_hits` finds, where each item has at most one column.

    Args:
        positives: Bags of items that are no negatives.
        bag: [examples] bag of each example.
        corpus_column: [items] column of each item; -1 for none.
        targets: [examples] column of each example's own item, which is never an accidental hit.
    """
    bags = positives.take(bag)
    example, column = bags.row_of_value(), corpus_column[bags.values]
    is_hit = (column >= 0) & (column != targets[example])
    return np.stack([example[is_hit], column[is_hit]], axis=1).astype(np.int64)


def _with_padding(hits: Ints, targets: Ints, columns: Ints) -> Ints:
    """Adds each example with every column of padding but its target; [n, 2] by example."""
    if not len(columns):
        return hits
    example = np.repeat(np.arange(len(targets)), len(columns))
    column = np.tile(columns, len(targets))
    is_other = column != targets[example]
    padding = np.stack([example[is_other], column[is_other]], axis=1)
    pairs = np.concatenate([hits, padding])
    return pairs[np.argsort(pairs[:, 0], kind="stable")]


def _split_over_ranks(values: Ints, world_size: int) -> tuple[Ints, Ints]:
    """Returns positions and values of each rank, [ranks, rows]; a value of -1 is padding."""
    rows = rows_per_rank(len(values), world_size)
    padded = np.full(rows * world_size, -1, values.dtype)
    padded[: len(values)] = values
    positions = np.arange(rows * world_size)
    return positions.reshape(world_size, rows), padded.reshape(world_size, rows)
