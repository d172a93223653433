"""A tower: from the joined inputs of a row to its vector."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.config.model import ModelConfig
from recsys.unit_rows import unit_rows


class Tower(nn.Module):
    """Hidden layers and a projection to an L2-normalised vector.

        inputs -- dropout --+-- hidden layers -- linear -----------(+)-- normalise -->
                            |                                       |
                            +-- linear, where there is a residual --+

    The residual adds a linear map of the inputs to the vector, so that the hidden layers need to
    learn only the rest.

    Args:
        width: Columns of the input.
        hidden: Widths of the hidden layers.
        settings: Settings of both towers.
        device: Device of the parameters.
    """

    def __init__(
        self, width: int, hidden: Sequence[int], settings: ModelConfig, device: torch.device
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(settings.dropout)
        widths = [width, *hidden]
        self.hidden = nn.ModuleList(
            Hidden(before, after, settings, device)
            for before, after in zip(widths, hidden, strict=False)
        )
        self.output = nn.Linear(widths[-1], settings.dim, device=device)
        self.residual = (
            nn.Linear(width, settings.dim, bias=False, device=device) if settings.residual else None
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps [rows, width] to [rows, dim]."""
        inputs = self.dropout(inputs)
        rows = inputs
        for hidden in self.hidden:
            rows = hidden(rows)
        vectors = self.output(rows)
        if self.residual is not None:
            vectors = vectors + self.residual(inputs)
        return unit_rows(vectors)


class Hidden(nn.Module):
    """A linear layer, its norm, ReLU and dropout."""

    def __init__(self, width: int, size: int, settings: ModelConfig, device: torch.device) -> None:
        super().__init__()
        self.linear = nn.Linear(width, size, device=device)
        self.norm = nn.LayerNorm(size, device=device) if settings.norm == "layer" else None
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """Maps [rows, width] to [rows, size]."""
        rows = self.linear(rows)
        if self.norm is not None:
            rows = self.norm(rows)
        return self.dropout(F.relu(rows))
