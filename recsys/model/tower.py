"""A tower: from the joined inputs of a row to its vector."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.config.model import ModelConfig, Norm
from recsys.losses import softmax as losses

# Of the running statistics: how much a batch counts.
_MOMENTUM = 0.1
_EPSILON = 1e-5


class Tower(nn.Module):
    """Cross layers, hidden layers and a projection to an L2-normalised vector.

        inputs -- dropout --+-- cross layers -- hidden layers -- linear --(+)-- normalise -->
                            |                                              |
                            +-------- linear, where there is a residual ---+

    The residual hands the vector what is linear in the inputs, so that the hidden layers are left
    with the rest.

    Args:
        width: Of the input.
        hidden: Widths of the hidden layers.
        settings: Of both towers.
        device: Of the parameters.
    """

    def __init__(
        self, width: int, hidden: Sequence[int], settings: ModelConfig, device: torch.device
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(settings.dropout)
        self.crosses = nn.ModuleList(
            Cross(width, settings.cross_rank, device) for _ in range(settings.cross_layers)
        )
        widths = [width, *hidden]
        self.hidden = nn.ModuleList(
            Hidden(before, after, settings, device)
            for before, after in zip(widths, hidden, strict=False)
        )
        self.output = nn.Linear(widths[-1], settings.dim, device=device)
        self.residual = (
            nn.Linear(width, settings.dim, bias=False, device=device) if settings.residual else None
        )

    def forward(self, inputs: Tensor, is_row: Tensor | None = None) -> Tensor:
        """[rows, width] to [rows, dim].

        Args:
            inputs: [rows, width].
            is_row: [rows] bool: not padding; None: none is.
        """
        inputs = self.dropout(inputs)
        rows = inputs
        for cross in self.crosses:
            rows = cross(inputs, rows)
        for hidden in self.hidden:
            rows = hidden(rows, is_row)
        vectors = self.output(rows)
        if self.residual is not None:
            vectors = vectors + self.residual(inputs)
        return F.normalize(vectors, dim=1)


class Hidden(nn.Module):
    """A linear layer, its norm, an activation and dropout."""

    def __init__(self, width: int, size: int, settings: ModelConfig, device: torch.device) -> None:
        super().__init__()
        self.linear = nn.Linear(width, size, device=device)
        self.norm = _norm(settings.norm, size, device)
        self.activation = nn.GELU() if settings.activation == "gelu" else nn.ReLU()
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, rows: Tensor, is_row: Tensor | None) -> Tensor:
        """[rows, width] to [rows, size]."""
        rows = self.linear(rows)
        if isinstance(self.norm, BatchNorm):
            rows = self.norm(rows, is_row)
        elif self.norm is not None:
            rows = self.norm(rows)
        return self.dropout(self.activation(rows))


def _norm(kind: Norm, width: int, device: torch.device) -> nn.Module | None:
    if kind == "none":
        return None
    return BatchNorm(width, device) if kind == "batch" else nn.LayerNorm(width, device=device)


class Cross(nn.Module):
    """A cross layer of DCN-v2 (Wang et al. 2021, eq. 1 and 2): x0 * (W x + b) + x.

    Args:
        width: Of the input and the output.
        rank: Of W, which then is a product of two narrow matrices; None: any.
        device: Of the parameters.
    """

    def __init__(self, width: int, rank: int | None, device: torch.device) -> None:
        super().__init__()
        self.narrow = (
            nn.Identity() if rank is None else nn.Linear(width, rank, bias=False, device=device)
        )
        self.linear = nn.Linear(width if rank is None else rank, width, device=device)

    def forward(self, first: Tensor, rows: Tensor) -> Tensor:
        """[rows, width]; `first` is what went into the first of the layers."""
        return first * self.linear(self.narrow(rows)) + rows


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) over the rows of all ranks that are not padding.

    `torch.nn.SyncBatchNorm` runs on CUDA alone, and knows of no padding.

    Attributes:
        mean: [width], running, of what is normalised outside of training.
        variance: [width], the same.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, device=device))
        self.bias = nn.Parameter(torch.zeros(width, device=device))
        self.register_buffer("mean", torch.zeros(width, device=device))
        self.register_buffer("variance", torch.ones(width, device=device))

    def forward(self, rows: Tensor, is_row: Tensor | None) -> Tensor:
        """[rows, width]; in training a collective call."""
        rows = rows.float()
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = self._measured(rows, is_row)
        return (rows - mean) * (self.weight * torch.rsqrt(variance + _EPSILON)) + self.bias

    def _measured(self, rows: Tensor, is_row: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and variance of the global batch, [width]; the running ones follow them."""
        weight = rows.new_ones((1, len(rows))) if is_row is None else is_row.to(rows)[None]
        centred = rows - self.mean  # The variance of what is far from zero would be cancelled.
        sums = torch.cat(
            [weight @ centred, weight @ centred.square(), weight.sum().expand_as(self.mean[None])]
        )
        first, second, count = losses.gather(sums[None]).sum(dim=0)
        first, second = first / count, second / count
        mean, variance = first + self.mean, second - first.square()
        with torch.no_grad():
            self.mean.lerp_(mean, _MOMENTUM)
            self.variance.lerp_(variance, _MOMENTUM)
        return mean, variance
