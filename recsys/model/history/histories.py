"""Jagged histories of items, and the interface of their encoders.

An example reads a history up to and including one of its elements:

    elements    a b c | d e |        of 3 histories, of which the third is empty
    offsets     0      3     5  5
    read        2 0 4 -1             a b c;  a;  d e;  nothing

So the examples of a sequence of events share its elements, and each of them sees what was strictly
before its own.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Histories:
    """Jagged histories, and how far each example reads them.

    Attributes:
        items: [elements] rows of the items' inputs, oldest first.
        offsets: [histories + 1].
        read: [examples] the latest element that each reads, -1 for none; None: there is a history
            for each example, which it reads to the end.
    """

    items: Tensor
    offsets: Tensor
    read: Tensor | None = None

    @cached_property
    def latest(self) -> Tensor:
        """The latest element that each example reads, [examples]; -1 for none."""
        if self.read is not None:
            return self.read
        ends = self.offsets[1:]
        return torch.where(ends > self.offsets[:-1], ends - 1, -1)

    @cached_property
    def bags(self) -> tuple[Tensor, Tensor]:
        """All that each example reads: rows of the items' inputs, and offsets [examples + 1]."""
        if self.read is None or self._is_read_whole(self.read):
            return self.items, self.offsets
        history = torch.searchsorted(self.offsets, self.read, right=True) - 1
        start = self.offsets[history.clamp(min=0)]
        lengths = torch.where(self.read >= 0, self.read + 1 - start, 0)
        offsets = F.pad(lengths.cumsum(0), (1, 0))
        element = torch.arange(int(offsets[-1]), device=lengths.device)
        element += torch.repeat_interleave(start - offsets[:-1], lengths)
        return self.items[element], offsets

    def _is_read_whole(self, read: Tensor) -> bool:
        """Returns whether there is a history for each example, which it reads to the end."""
        if len(read) != len(self.offsets) - 1:
            return False
        return torch.equal(read, replace(self, read=None).latest)

    def or_default(self, encoded: Tensor, default: Tensor) -> Tensor:
        """Returns the default where an example reads nothing, [examples, dim].

        Args:
            encoded: [examples, dim].
            default: [dim].
        """
        return torch.where((self.latest < 0)[:, None], default, encoded)

    def plus_default(self, encoded: Tensor, default: Tensor) -> Tensor:
        """Adds the default where an example reads nothing, [examples, dim].

        It is `or_default` in a fraction of the time, for what is 0 there.

        Args:
            encoded: [examples, dim]; 0 where an example reads nothing.
            default: [dim].
        """
        return torch.addmm(encoded, (self.latest < 0).to(encoded.dtype)[:, None], default[None])


@dataclass(frozen=True)
class HistoryContext:
    """The model that an encoder is made for.

    Attributes:
        item_dim: Columns of the items' inputs.
        max_length: Longest history, in items.
        device: Device of the parameters.
    """

    item_dim: int
    max_length: int
    device: torch.device


class HistoryEncoder(nn.Module, ABC):
    """Encodes what each example reads of a history; a bundle's query tower calls it as it is.

    Attributes:
        dim: Columns of the output.

    Args:
        dim: Columns of the output.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def forward(self, inputs: Tensor, histories: Histories, default: Tensor) -> Tensor:
        """Encodes histories, [examples, dim].

        Args:
            inputs: [items, item_dim] of the items that histories are made of.
            histories: Histories whose elements are rows of `inputs`.
            default: [item_dim], learned, which may stand for an empty history.
        """
