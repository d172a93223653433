"""The exact best items by inner products, of which nearly all are only glanced at.

Every product is computed once, in bf16 where the processor multiplies that faster than float32:
both are off by no more than a known bound. What may be among the best all the same is kept, and
computed again in float64 in the end. Of a block of products only the highest of each group is
compared with the lowest score that can still be among the best.
"""

import numpy as np
import torch
from torch import Tensor

from feature_store.core.columns import Jagged
from recsys.products import has_bfloat16, product

QUERY_BLOCK, ITEM_BLOCK = 256, 4096
# Products of a group whose highest alone is looked at; the second is for the first bound.
_GROUP, _SAMPLE_GROUP = 32, 16
# Part of the items in that sample, and its groups for each of the k best.
_SAMPLED, _SAMPLE_GROUPS = 1 / 64, 3
# Kept products for each of the k best before the bound is raised; and those that may be left then.
_KEPT, _MOST_KEPT = 3, 16
# Corpora of fewer samples than these are ranked whole.
_WORTH = 4
# Relative error of one rounded operation.
_UNIT, _BFLOAT16_UNIT = 2.0**-24, 2.0**-8
# Sum of products below all normal numbers, which a processor may take for 0.
_TINY = 1e-30
_HIGHEST = torch.finfo(torch.float32).max
# Vectors that are looked at at a time.
_BLOCK = 4096


class Items:
    """The items of a search, as they are multiplied.

    Args:
        vectors: Item vectors, [items, dim] float32.
        is_rough: Whether products are computed in bf16; None: where the processor is made for it.

    Attributes:
        vectors: Item vectors.
        rounded: Item vectors in float32 or bf16.
        longest: Length of the longest vector.
        off: Length of the largest difference of a vector from the rounded one.
    """

    def __init__(self, vectors: Tensor, is_rough: bool | None = None) -> None:
        if is_rough is None:
            is_rough = has_bfloat16()
        self.vectors = vectors
        self.rounded = vectors.bfloat16() if is_rough else vectors
        self.longest = self.off = 0.0
        for part, rounded in zip(vectors.split(_BLOCK), self.rounded.split(_BLOCK), strict=True):
            self.longest = _longer(self.longest, part)
            if is_rough:
                self.off = _longer(self.off, part - rounded)

    def __len__(self) -> int:
        return len(self.vectors)


class Nearest:
    """Search for the best items of some queries, over blocks of ascending items.

    Args:
        queries: Query vectors, [rows, dim] float32.
        items: Items.
        excluded: Items that are not candidates, [rows].
        hidden: Whether no query may have an item, [items]; None: all may be had.
        k: Number of best items, at most the number of items.
    """

    def __init__(
        self,
        queries: Tensor,
        items: Items,
        excluded: Jagged,
        hidden: Tensor | None,
        k: int,
    ) -> None:
        self._queries, self._items, self._hidden, self._k = queries, items, hidden, k
        rows, values = excluded.row_of_value(), excluded.values
        order = np.argsort(values, kind="stable")
        self._excluded_rows = torch.from_numpy(rows[order])
        self._excluded_items = values[order].astype(np.int64)
        self._rounded = queries.to(items.rounded.dtype)
        off = _lengths(queries - self._rounded)
        length = _lengths(queries) + off
        # Sums of dim rounded products in any order (Higham 2002, section 3.1), and the rounding of
        # the exact score.
        error = (queries.shape[1] + 8) * _UNIT * length * (items.longest + items.off)
        # The rounding of vectors, by Cauchy and Schwarz, and with the errors of these norms.
        error += (1 + 2.0**-10) * (off * items.longest + length * items.off)
        # It is taken off before the next error, which is relative to more than what is left then.
        error = error * (1 + 2 * _BFLOAT16_UNIT) + _TINY
        # Products and their parts may overflow, and say nothing: all scores of these are computed.
        is_open = ~(length * (items.longest + items.off) < _HIGHEST / 2)
        self._error = error.masked_fill_(is_open, torch.inf).float()
        self._open = is_open[:, 0].nonzero()[:, 0]
        # The rounding of the sum, relative to what it becomes.
        is_rough = items.rounded.dtype == torch.bfloat16
        self._relative = _BFLOAT16_UNIT * (1 + 2.0**-6) if is_rough else 0.0
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
        products = self._products(self._items.rounded[::step].contiguous())
        is_sampled = self._excluded_items % step == 0
        here = torch.from_numpy(self._excluded_items[is_sampled] // step)
        products[self._excluded_rows[torch.from_numpy(is_sampled)], here] = -torch.inf
        if self._hidden is not None:
            products.masked_fill_(self._hidden[::step], -torch.inf)
        highest = _grouped(products, _SAMPLE_GROUP).amax(dim=1).float()
        self._bound = self._below_kth(highest)

    def _products(self, items: Tensor) -> Tensor:
        """Returns the products with some items; 0, above a bound of -inf, where they overflow."""
        products = product(self._rounded, items)
        if len(self._open):
            products[self._open] = 0
        return products

    def _below_kth(self, table: Tensor) -> Tensor:
        """Returns what no product of the k best can be below, where the table has k of them."""
        lowest = table.topk(self._k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
        # Both the lowest and what is compared with it may be off.
        return self._below(self._below(lowest))

    def _below(self, values: Tensor) -> Tensor:
        """Returns what scores of these products are not below, and products of these scores."""
        values = values - self._error
        return values - self._relative * values.abs().clamp(max=_HIGHEST)

    def _look_at(self, start: int, stop: int) -> int:
        """Keeps the items of a block whose products are above the bound; returns how many."""
        products = self._products(self._items.rounded[start:stop])
        first, last = np.searchsorted(self._excluded_items, (start, stop))
        if first < last:
            here = torch.from_numpy(self._excluded_items[first:last] - start)
            products[self._excluded_rows[first:last], here] = -torch.inf
        if self._hidden is not None:
            products.masked_fill_(self._hidden[start:stop], -torch.inf)
        groups, cut = _comparable(_grouped(products, _GROUP), self._bound)
        step = groups.shape[2]
        found = np.flatnonzero((groups.amax(dim=1) > cut).numpy())
        row, group = np.divmod(found, step)
        at = (row * (_GROUP * step) + group)[:, None] + np.arange(_GROUP) * step
        is_above = groups.view(-1).numpy().take(at) > cut.numpy().take(row)[:, None]
        at = at.reshape(-1).take(np.flatnonzero(is_above))
        rows, items = (torch.from_numpy(each) for each in np.divmod(at, _GROUP * step))
        self._kept.append((rows, start + items, products[rows, items].float()))
        return len(at)

    def _raise_bound(self) -> int:
        """Raises the bound to what the kept ones show, and drops those below; returns the rest."""
        rows, items, values = self._all_kept()
        table = _table(rows, values, len(self._queries), -torch.inf)
        if table.shape[1] >= self._k:
            self._bound = torch.maximum(self._bound, self._below_kth(table))
            left = torch.from_numpy(np.flatnonzero((values > self._bound[rows, 0]).numpy()))
            rows, items, values = rows[left], items[left], values[left]
        self._kept = [(rows, items, values)]
        return len(rows)

    def _settle(self) -> int:
        """Computes the scores of what is kept, and keeps the k best of each row alone."""
        rows, items, values = self._all_kept()
        scores = _exact(self._queries, self._items.vectors, rows, items)
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
        # Numbers of 16 bits are sorted in one pass.
        kind = np.uint16 if len(self._queries) < 2**16 else np.int64
        order = torch.from_numpy(np.argsort(rows.numpy().astype(kind), kind="stable"))
        return rows[order], items[order], values[order]


def _lengths(vectors: Tensor) -> Tensor:
    """Returns the lengths of vectors, [rows, 1] float64: squares would overflow in float32."""
    return torch.linalg.vector_norm(vectors, dim=1, keepdim=True, dtype=torch.float64)


def _longer(length: float, vectors: Tensor) -> float:
    """Returns the greatest of a length and those of vectors; NaN where one of them is."""
    return float(np.maximum(length, float(_lengths(vectors).max())))


def _exact(queries: Tensor, items: Tensor, rows: Tensor, chosen: Tensor) -> Tensor:
    """Computes products of pairs in float64, rounded once, [pairs] float32."""
    parts = [torch.empty(0, dtype=torch.float64)]
    for pairs in torch.arange(len(rows)).split(2**12):
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
    """Cuts rows into groups, [rows, size, groups], whose products lie a number of groups apart.

    So the highest of many groups are found side by side. The last products of groups are filled up
    with -inf.
    """
    missing = -products.shape[1] % size
    if missing:
        products = torch.nn.functional.pad(products, (0, missing), value=-torch.inf)
    return products.view(len(products), size, -1)


def _comparable(groups: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    """Returns products and bounds whose highest are found fast, and that compare in the same way.

    Args:
        groups: Products, [rows, size, groups].
        bound: [rows, 1] float32.

    Returns:
        Numbers in the place of the products, and in that of the bounds, which may be a little low.
    """
    if groups.dtype == torch.float32:
        return groups, bound
    if float(bound.min()) < 0:
        return groups.float(), bound
    # PyTorch has no fast maximum of bf16. Its numbers from 0 on have the order of their bits as
    # integers, and those below 0 are integers below 0.
    return groups.view(torch.int16), (bound.view(torch.int32) >> 16).to(torch.int16)


def sample_size(num_items: int, k: int) -> int:
    """Returns the number of items that give the first bound."""
    return max(int(num_items * _SAMPLED), _SAMPLE_GROUPS * _SAMPLE_GROUP * k)


def is_worth_it(num_items: int, k: int) -> bool:
    """Returns whether the corpus is large enough for a bound to leave most of it out."""
    return num_items >= _WORTH * sample_size(num_items, k)
