"""The encoders of a query's history, each by its settings."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recsys.config.model import (
    AttentionHistory,
    HistorySettings,
    LastHistory,
    MeanHistory,
    RecentHistory,
)
from recsys.model.history.attention import SelfAttention
from recsys.model.history.histories import Histories, HistoryContext, HistoryEncoder
from recsys.model.history.pooling import LastItem, MeanPooling, RecentPooling

# The encoder of each kind; it is called with the settings of the kind.
ENCODERS: dict[type[HistorySettings], Callable[[Any, HistoryContext], HistoryEncoder]] = {
    MeanHistory: MeanPooling,
    LastHistory: LastItem,
    RecentHistory: RecentPooling,
    AttentionHistory: SelfAttention,
}


class JoinedEncoders(nn.ModuleDict):
    """Encoders of one history, by kind, with their outputs side by side.

    Attributes:
        dim: Columns of the output.

    Args:
        settings: Settings of each encoder.
        context: The model that they are made for.
    """

    def __init__(self, settings: Sequence[HistorySettings], context: HistoryContext) -> None:
        encoders = {each.kind: ENCODERS[type(each)](each, context) for each in settings}
        super().__init__(encoders)
        self.dim = sum(encoder.dim for encoder in encoders.values())

    def forward(self, inputs: Tensor, histories: Histories, default: Tensor) -> Tensor:
        """Encodes histories, [examples, dim]; see `HistoryEncoder`."""
        return torch.cat([encoder(inputs, histories, default) for encoder in self.values()], dim=1)
