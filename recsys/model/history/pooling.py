"""Poolings of a history's items."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feature_store.encoding.pooling import recency_weights
from recsys.config.model import LastHistory, MeanHistory, RecentHistory
from recsys.model.history.histories import Histories, HistoryContext, HistoryEncoder

# First value of a learned half-life, in items.
_HALF_LIFE = 4.0


class MeanPooling(HistoryEncoder):
    """The mean of the items' inputs.

    Args:
        settings: Settings of the encoder.
        context: The model that it is made for.
    """

    def __init__(self, settings: MeanHistory, context: HistoryContext) -> None:
        super().__init__(context.item_dim)

    def forward(self, inputs: Tensor, histories: Histories, default: Tensor) -> Tensor:
        """Encodes histories, [examples, dim]; see `HistoryEncoder`."""
        values, offsets = histories.bags
        mean = F.embedding_bag(values, inputs, offsets, mode="mean", include_last_offset=True)
        return histories.plus_default(mean, default)


class LastItem(HistoryEncoder):
    """The inputs of the last item.

    Args:
        settings: Settings of the encoder.
        context: The model that it is made for.
    """

    def __init__(self, settings: LastHistory, context: HistoryContext) -> None:
        super().__init__(context.item_dim)

    def forward(self, inputs: Tensor, histories: Histories, default: Tensor) -> Tensor:
        """Encodes histories, [examples, dim]; see `HistoryEncoder`."""
        # An empty history has no last item: row 0 of the padded list stands in for it.
        last = inputs[F.pad(histories.items, (1, 0))[histories.latest + 1]]
        return histories.or_default(last, default)


class RecentPooling(HistoryEncoder):
    """A mean in which an item one position earlier weighs exp(-rate) as much.

    Args:
        settings: Settings of the encoder.
        context: The model that it is made for.
    """

    log_rate: Tensor

    def __init__(self, settings: RecentHistory, context: HistoryContext) -> None:
        super().__init__(context.item_dim)
        rate = math.log(2) / (settings.half_life or _HALF_LIFE)
        log_rate = torch.tensor(math.log(rate), device=context.device)
        if settings.half_life is None:
            self.log_rate = nn.Parameter(log_rate)
        else:
            self.register_buffer("log_rate", log_rate, persistent=False)

    def forward(self, inputs: Tensor, histories: Histories, default: Tensor) -> Tensor:
        """Encodes histories, [examples, dim]; see `HistoryEncoder`."""
        values, offsets = histories.bags
        weights = recency_weights_of(offsets, values.shape[0], torch.exp(self.log_rate))
        mean = F.embedding_bag(
            values,
            inputs,
            offsets,
            mode="sum",
            per_sample_weights=weights.to(inputs.dtype),
            include_last_offset=True,
        )
        return histories.plus_default(mean, default)


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
