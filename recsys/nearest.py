"""The exact best items by inner products, of which nearly all are only glanced at.

Every product is computed once in float32, which is fast and off by no more than a known bound.
What may be among the best all the same is kept, and computed again in float64 in the end. Of a
block of products only the highest of each group is compared with the lowest score that can still
be among the best.
"""

import numpy as np
import torch
from torch import Tensor

from feature_store.core.columns import Jagged
from recsys.products import product

QUERY_BLOCK, ITEM_BLOCK = 512, 2048
# Products of a group whose highest alone is looked at; the second is for the first bound.
_GROUP, _SAMPLE_GROUP = 64, 16
# Part of the items in that sample, and its groups for each of the k best.
_SAMPLED, _SAMPLE_GROUPS = 1 / 64, 3
# Kept products for each of the k best before the bound is raised; and those that may be left then.
_KEPT, _MOST_KEPT = 2, 16
# Corpora of fewer samples than these are ranked whole.
_WORTH = 4
_UNIT = 2.0**-24  # Relative error of one rounded float32 operation.


class Nearest:
    """Search for the best items of some queries, over blocks of ascending items.

    Args:
        queries: Query vectors, [rows, dim] float32.
        items: Item vectors, [items, dim] float32.
        excluded: Items that are not candidates, [rows].
        hidden: Whether no query may have an item, [items]; None: all may be had.
        k: Number of best items, at most the number of items.
        longest: Length of the longest item vector.
    """

    def __init__(
        self,
        queries: Tensor,
        items: Tensor,
        excluded: Jagged,
        hidden: Tensor | None,
        k: int,
        longest: float,
    ) -> None:
        self._queries, self._items, self._hidden, self._k = queries, items, hidden, k
        rows, values = excluded.row_of_value(), excluded.values
        order = np.argsort(values, kind="stable")
        self._excluded_rows = torch.from_numpy(rows[order])
        self._excluded_items = values[order].astype(np.int64)
        # Sums of dim rounded products in any order (Higham 2002, section 3.1), and the rounding of
        # the exact score.
        error = (items.shape[1] + 8) * _UNIT * longest * queries.norm(dim=1, keepdim=True)
        self._error = error + torch.finfo(torch.float32).tiny
        self._bound = torch.full((len(queries), 1), -torch.inf)
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def best(self, item_block: int) -> Tensor:
        """Searches all items.

        Args:
            item_block: Number of items at a time.

        Returns:
            Items, [rows, k], best first, and the lower item first where scores are equal; -1 where
            there are fewer.
        """
        self._sample()
        kept, limit = 0, _KEPT * self._k * len(self._queries)
        for start in range(0, len(self._items), item_block):
            kept += self._look_at(start, min(start + item_block, len(self._items)))
            if kept > limit:
                kept = self._raise_bound()
                if kept > _MOST_KEPT * limit:  # There may be any number of equal vectors.
                    kept = self._settle()
        self._raise_bound()
        self._settle()
        ((rows, items, _),) = self._kept
        found = _table(rows, items, len(self._queries), -1)
        return torch.nn.functional.pad(found, (0, self._k - found.shape[1]), value=-1)

    def _sample(self) -> None:
        """Sets the bound by a part of the items: k groups have k items that are as good."""
        step = len(self._items) // sample_size(len(self._items), self._k)
        if step < 2:
            return
        products = product(self._queries, self._items[::step].contiguous())
        is_sampled = self._excluded_items % step == 0
        here = torch.from_numpy(self._excluded_items[is_sampled] // step)
        products[self._excluded_rows[torch.from_numpy(is_sampled)], here] = -torch.inf
        if self._hidden is not None:
            products.masked_fill_(self._hidden[::step], -torch.inf)
        highest = _grouped(products, _SAMPLE_GROUP).amax(dim=2)
        self._bound = self._below_kth(highest)

    def _below_kth(self, table: Tensor) -> Tensor:
        """Returns what no product of the k best can be below, where the table has k of them."""
        lowest = table.topk(self._k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
        return lowest - 2 * self._error  # Both the lowest and what is compared with it may be off.

    def _look_at(self, start: int, stop: int) -> int:
        """Keeps the items of a block whose products are above the bound; returns how many."""
        products = product(self._queries, self._items[start:stop])
        first, last = np.searchsorted(self._excluded_items, (start, stop))
        if first < last:
            here = torch.from_numpy(self._excluded_items[first:last] - start)
            products[self._excluded_rows[first:last], here] = -torch.inf
        if self._hidden is not None:
            products.masked_fill_(self._hidden[start:stop], -torch.inf)
        groups = _grouped(products, _GROUP)
        found = np.flatnonzero((groups.amax(dim=2) > self._bound).numpy())
        row, group = np.divmod(found, groups.shape[1])
        rows = torch.from_numpy(row)
        values = groups.view(-1, _GROUP)[torch.from_numpy(found)]
        place = np.flatnonzero((values > self._bound[rows]).numpy())
        chosen, within = np.divmod(place, _GROUP)
        items = torch.from_numpy(start + group[chosen] * _GROUP + within)
        self._kept.append((rows[chosen], items, values.view(-1)[place]))
        return len(place)

    def _raise_bound(self) -> int:
        """Raises the bound to what the kept ones show, and drops those below; returns the rest."""
        rows, items, values = self._all_kept()
        table = _table(rows, values, len(self._queries), -torch.inf)
        if table.shape[1] >= self._k:
            self._bound = torch.maximum(self._bound, self._below_kth(table))
            is_left = values > self._bound[rows, 0]
            rows, items, values = rows[is_left], items[is_left], values[is_left]
        self._kept = [(rows, items, values)]
        return len(rows)

    def _settle(self) -> int:
        """Computes the scores of what is kept, and keeps the k best of each row alone."""
        rows, items, values = self._all_kept()
        scores = _exact(self._queries, self._items, rows, items)
        order = np.lexsort((items.numpy(), -scores.numpy(), rows.numpy()))
        counts = torch.bincount(rows, minlength=len(self._queries))
        starts = counts.cumsum(0) - counts
        place = torch.arange(len(rows)) - starts[rows]  # The rows are in order in both.
        kept = torch.from_numpy(order[(place < self._k).numpy()])
        self._kept = [(rows[kept], items[kept], values[kept])]
        return len(kept)

    def _all_kept(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns rows in ascending order, and items and products of all that is kept."""
        rows, items, values = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
        order = torch.from_numpy(np.argsort(rows.numpy(), kind="stable"))
        return rows[order], items[order], values[order]


def _exact(queries: Tensor, items: Tensor, rows: Tensor, chosen: Tensor) -> Tensor:
    """Computes products of pairs in float64, rounded once, [pairs] float32."""
    parts = [torch.empty(0, dtype=torch.float64)]
    for pairs in torch.arange(len(rows)).split(2**16):
        parts.append((queries[rows[pairs]].double() * items[chosen[pairs]].double()).sum(dim=1))
    return torch.cat(parts).float()


def _table(rows: Tensor, values: Tensor, size: int, fill: float) -> Tensor:
    """Writes values of ascending rows as a matrix, [size, most of a row]."""
    counts = torch.bincount(rows, minlength=size)
    place = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
    table = torch.full((size, int(counts.max())), fill, dtype=values.dtype)
    table[rows, place] = values
    return table


def _grouped(products: Tensor, size: int) -> Tensor:
    """Cuts rows into groups, [rows, groups, size]; the last one is filled up with -inf."""
    missing = -products.shape[1] % size
    if missing:
        products = torch.nn.functional.pad(products, (0, missing), value=-torch.inf)
    return products.view(len(products), -1, size)


def sample_size(num_items: int, k: int) -> int:
    """Returns the number of items that give the first bound."""
    return max(int(num_items * _SAMPLED), _SAMPLE_GROUPS * _SAMPLE_GROUP * k)


def is_worth_it(num_items: int, k: int) -> bool:
    """Returns whether the corpus is large enough for a bound to leave most of it out."""
    return num_items >= _WORTH * sample_size(num_items, k)
