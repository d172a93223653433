"""How a query reads its history: poolings of its items' inputs, and self-attention over them.

Histories are jagged. An example reads one up to and including one of its elements:

    elements    a b c | d e |        of 3 histories, of which the third is empty
    offsets     0      3     5  5
    read        2 0 4 -1             a b c;  a;  d e;  nothing

So the examples of a sequence of events share its elements, and each of them sees what was strictly
before its own.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feature_store.encoding.pooling import recency_weights
from recsys.config.model import ModelConfig
from recsys.model.attention import SelfAttention

# The learned half-life's first value, in items.
_HALF_LIFE = 4.0


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

    def latest(self) -> Tensor:
        """[examples] element, -1 for none."""
        if self.read is not None:
            return self.read
        ends = self.offsets[1:]
        return torch.where(ends > self.offsets[:-1], ends - 1, -1)

    def bags(self) -> tuple[Tensor, Tensor]:
        """What each example reads: rows of the items' inputs, and offsets [examples + 1]."""
        if self.read is None:
            return self.items, self.offsets
        history = torch.searchsorted(self.offsets, self.read, right=True) - 1
        start = self.offsets[history.clamp(min=0)]
        lengths = torch.where(self.read >= 0, self.read + 1 - start, 0)
        offsets = F.pad(lengths.cumsum(0), (1, 0))
        element = torch.arange(int(offsets[-1]), device=lengths.device)
        element += torch.repeat_interleave(start - offsets[:-1], lengths)
        return self.items[element], offsets


class HistoryEncoder(nn.Module):
    """Reads a history in one or several ways, side by side.

    Attributes:
        dim: Columns of the output.

    Args:
        item_dim: Of the items' inputs.
        settings: Its poolings.
        max_length: Of a history, in items.
        device: Of the parameters.
    """

    def __init__(
        self, item_dim: int, settings: ModelConfig, max_length: int, device: torch.device
    ) -> None:
        super().__init__()
        self.poolings = settings.history_pooling
        widths = {"attention": settings.attention.width}
        self.dim = sum(widths.get(pooling, item_dim) for pooling in self.poolings)
        if "recent" in self.poolings:
            self.recent = RecentPooling(settings.history_half_life, device)
        if "attention" in self.poolings:
            self.attention = SelfAttention(item_dim, settings.attention, max_length, device)

    def forward(self, inputs: Tensor, histories: Histories, default: Tensor) -> Tensor:
        """[examples, dim].

        Args:
            inputs: [items, item_dim] of the items that histories are made of.
            histories: Their elements are rows of `inputs`.
            default: [item_dim] stands for an empty history; attention has one of its own.
        """
        latest = histories.latest()
        values, offsets = histories.bags()
        columns = []
        for pooling in self.poolings:
            if pooling == "attention":
                columns.append(self.attention(inputs, histories.items, histories.offsets, latest))
                continue
            if pooling == "mean":
                pooled = F.embedding_bag(
                    values, inputs, offsets, mode="mean", include_last_offset=True
                )
            elif pooling == "recent":
                pooled = self.recent(inputs, values, offsets)
            else:
                # An empty history has no last item: row 0 of the padded list stands in for it.
                pooled = inputs[F.pad(histories.items, (1, 0))[latest + 1]]
            columns.append(torch.where((latest < 0)[:, None], default, pooled))
        return torch.cat(columns, dim=1)


class RecentPooling(nn.Module):
    """A mean in which an item one place earlier weighs exp(-rate) as much.

    Args:
        half_life: Items back at which one weighs half; None: learned.
        device: Of the parameter.
    """

    log_rate: Tensor

    def __init__(self, half_life: float | None, device: torch.device) -> None:
        super().__init__()
        log_rate = torch.tensor(math.log(math.log(2) / (half_life or _HALF_LIFE)), device=device)
        if half_life is None:
            self.log_rate = nn.Parameter(log_rate)
        else:
            self.register_buffer("log_rate", log_rate, persistent=False)

    def forward(self, inputs: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
        """[bags, item_dim].

        Args:
            inputs: [items, item_dim].
            values: [total] rows of `inputs`, the latest of a bag last.
            offsets: [bags + 1].
        """
        weights = recency_weights_of(offsets, values.shape[0], torch.exp(self.log_rate))
        return F.embedding_bag(
            values,
            inputs,
            offsets,
            mode="sum",
            per_sample_weights=weights.to(inputs.dtype),
            include_last_offset=True,
        )


def recency_weights_of(offsets: Tensor, total: int, rate: Tensor) -> Tensor:
    """Computes the recency weights of the values of bags, [total], in the type of the rate.

    Args:
        offsets: Bounds of the bags, [bags + 1].
        total: Number of values; the latest of a bag is its last.
        rate: Decay rate, a scalar.
    """
    position = torch.arange(total, device=offsets.device)
    bag = torch.searchsorted(offsets[1:], position, right=True)
    end = offsets[1:][bag]
    lengths = (end - offsets[:-1][bag]).to(rate.dtype)
    return recency_weights((end - 1 - position).to(rate.dtype), lengths, rate, torch)
