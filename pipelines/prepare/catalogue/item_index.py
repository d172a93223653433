"""The index of the items' ids, in which every bucket looks its own up.

To look ids up, Arrow hashes all of the vocabulary, once for each bucket: that grows with the square
of the log. Here all hashes are sorted once, and a look-up is a binary search for each of the
bucket's ids.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Bools, Ints
from feature_store.core.files import write_array
from feature_store.core.hashing import hash_strings
from feature_store.core.sorting import stable_order
from feature_store.encoding.vocabulary import Vocabulary

# Seed of the hashes of ids: with another one the same configuration would give other examples.
_SEED = 5
# Number of ids that are hashed at a time, which takes some bytes for each of their characters.
_AT_ONCE = 1 << 17


def keys_of(ids: pa.Array) -> Ints:
    """Hashes ids, [n] uint64; examples are chosen and shuffled by these, and not by indices."""
    return hash_strings(_SEED, ids)


@dataclass(frozen=True)
class ItemIndex:
    """The index of the items; every field is [items].

    Attributes:
        vocabulary: Ids by the item's index.
        keys: Hashes of the ids, see `keys_of`, ascending.
        item: Item of each of the keys.
        rank: Position of each item's id in code-point order.
        current: Whether each item is in this run's log.
    """

    vocabulary: Vocabulary
    keys: Ints
    item: Ints
    rank: Ints
    current: Bools

    def find(self, ids: pa.Array, keys: Ints) -> Ints:
        """Looks ids up.

        Args:
            ids: Ids, [n].
            keys: Hashes of the ids, [n].

        Returns:
            Index of each item, [n] int64; -1 where there is none of this run.
        """
        found = np.full(len(ids), -1)
        if not len(self.keys):
            return found
        order = np.argsort(keys)  # Neighbours are searched for in memory that is at hand.
        place = np.empty(len(keys), np.int64)
        place[order] = np.searchsorted(self.keys, keys[order])
        place = np.minimum(place, len(self.keys) - 1)
        alike = np.flatnonzero(self.keys[place] == keys)
        item = self.item[place[alike]].astype(np.int64)
        texts = ids.take(pa.array(alike))
        is_same = pc.equal(self.vocabulary.tokens.take(pa.array(item)), texts).fill_null(False)
        # Where two ids have one hash, only one of them is found by it.
        others = pa.array(np.flatnonzero(~is_same.to_numpy(zero_copy_only=False)))
        if len(others):
            item[others.to_numpy()] = self.vocabulary.rows(texts.take(others))
        found[alike] = np.where((item >= 0) & self.current[item], item, -1)
        return found

    def rank_of(self, items: Ints) -> Ints:
        """Returns the rank of each item, -1 where there is none."""
        rank = np.full(len(items), -1)
        known = items >= 0
        rank[known] = self.rank[items[known]]
        return rank


def write_item_index(directory: Path, ids: Vocabulary) -> None:
    """Writes the files of `load_item_index`, but for those of the vocabulary itself."""
    parts = range(0, len(ids), _AT_ONCE)
    hashed = [keys_of(ids.tokens.slice(start, _AT_ONCE)) for start in parts]
    keys = np.concatenate([np.empty(0, np.uint64), *hashed])
    order = stable_order(keys)
    rank = np.empty(len(ids), np.int32)
    rank[pc.sort_indices(ids.tokens).to_numpy()] = np.arange(len(ids))
    write_array(directory / "keys.npy", keys[order])
    write_array(directory / "item.npy", order.astype(np.int32))
    write_array(directory / "rank.npy", rank)


@lru_cache(maxsize=1)
def load_item_index(directory: Path, vocabulary: Path, current: Path) -> ItemIndex:
    """Reads an index; a worker process keeps it between tasks.

    Args:
        directory: Folder of the files that `write_item_index` wrote.
        vocabulary: File of the items' ids.
        current: NumPy file, [items]: which items are in this run's log.
    """
    keys, item, rank = (np.load(directory / f"{name}.npy") for name in ("keys", "item", "rank"))
    return ItemIndex(Vocabulary.load(vocabulary), keys, item, rank, np.load(current))
