"""Spread-out regularisation: items pushed apart, without views."""

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.config.ssl.spread_out import SpreadOut
from recsys.losses import softmax as losses
from recsys.ssl.method import SslBatch, SslContext, SslMethod


class SpreadOutLoss(SslMethod):
    """Spread-out regularisation of the items as they are (Zhang et al. 2017).

    Args:
        settings: Settings of the method.
        context: The model that it is made for.
    """

    def __init__(self, settings: SpreadOut, context: SslContext) -> None:
        super().__init__(settings.alpha)

    def forward(self, batch: SslBatch) -> Tensor:
        """Computes this rank's loss, a scalar whose mean over ranks is the global batch's."""
        return spread_out_loss(batch.vectors[0], items=batch.items[0])


def spread_out_loss(vectors: Tensor, *, items: Tensor) -> Tensor:
    """Measures how far inner products are from those of uniform vectors (Zhang et al. 2017).

    Over all pairs of different items of the global batch, M1 is the mean of the inner products and
    M2 that of their squares. Of uniform vectors on the sphere these are 0 and 1/dim. The loss is

        M1^2 + max(0, M2 - 1/dim)

    Args:
        vectors: [rows, dim], L2-normalised.
        items: [rows]; -1 is padding.
    """
    columns = losses.gather(items)
    products = vectors @ losses.gather(vectors).T
    is_pair = (items[:, None] != columns[None, :]) & (items[:, None] >= 0) & (columns >= 0)
    pairs = products * is_pair
    sums = torch.stack([pairs.sum(), pairs.square().sum(), is_pair.sum().to(products.dtype)])
    # Moments are not means over ranks, so that every rank computes those of the global batch.
    first, second, count = losses.gather(sums[None]).sum(dim=0)
    count = count.clamp(min=1)
    return (first / count).square() + F.relu(second / count - 1 / vectors.shape[1])
