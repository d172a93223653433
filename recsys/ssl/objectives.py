"""The self-supervised losses: two views of an item against each other, or items pushed apart."""

import copy

import torch.nn.functional as F
from torch import Tensor, nn, stack

from recsys.config.ssl import (
    CorrelatedMasking,
    FeatureDropout,
    MaskingConfig,
    NoSelfSupervision,
    RandomMasking,
    SelfSupervisionConfig,
    SpreadOut,
)
from recsys.losses import softmax as losses
from recsys.model.two_tower import TwoTower


class SelfSupervision(nn.Module):
    """The loss beside the main task, and what only it needs: it is trained, but not served.

    Attributes:
        alpha: Weight of the loss.
        tower: Of the views; None: the item tower.
        head: On the views' vectors; None: they are compared as they are.

    Args:
        settings: Of the method.
        model: Of the main task.
    """

    def __init__(self, settings: SpreadOut | MaskingConfig, model: TwoTower) -> None:
        super().__init__()
        self._settings = settings
        self.alpha = settings.alpha
        self.tower: nn.Module | None = None
        self.head: nn.Module | None = None
        if isinstance(settings, SpreadOut):
            return
        if settings.shared_layers == "inputs":
            self.tower = copy.deepcopy(model.item_tower)
        if settings.projection is not None:
            width = settings.projection
            self.head = nn.Sequential(
                nn.Linear(model.dim, width), nn.ReLU(), nn.Linear(width, width)
            )

    def forward(self, views: Tensor, items: Tensor) -> Tensor:
        """This rank's loss, whose mean over ranks is that of the global batch.

        Args:
            views: [views, S, dim], L2-normalised.
            items: [S]; -1 is padding.
        """
        if isinstance(self._settings, SpreadOut):
            return spread_out_loss(views[0], items=items)
        if self.head is not None:
            views = F.normalize(self.head(views), dim=2)
        view_a, view_b = views
        return contrastive_loss(view_a, view_b, items=items, temperature=self._settings.temperature)


def build_self_supervision(
    settings: SelfSupervisionConfig, model: TwoTower
) -> SelfSupervision | None:
    """What the configuration asks for; None where the main task is the only loss."""
    if isinstance(settings, NoSelfSupervision | FeatureDropout):
        return None
    assert isinstance(settings, SpreadOut | RandomMasking | CorrelatedMasking)
    return SelfSupervision(settings, model)


def contrastive_loss(
    view_a: Tensor, view_b: Tensor, *, items: Tensor, temperature: float
) -> Tensor:
    """Batch softmax of view A against view B (Yao et al. 2021, eq. 3).

    An item that was sampled twice is not its own negative.

    Args:
        view_a: [rows, dim], L2-normalised.
        view_b: [rows, dim], L2-normalised.
        items: [rows]; -1 is padding.
        temperature: Of the softmax.
    """
    targets = losses.own_columns(len(items), items.device)
    logits = losses.scaled_similarities(view_a, losses.gather(view_b), temperature=temperature)
    columns = losses.gather(items)
    logits = losses.mask_equal(logits, left=items, right=columns, targets=targets)
    # Weights make up for padding, so that the mean over all rows is that over the items.
    weight = (items >= 0) * (len(columns) / (columns >= 0).sum())
    return losses.weighted_cross_entropy(logits, targets=targets, weight=weight.to(logits.dtype))


def spread_out_loss(vectors: Tensor, *, items: Tensor) -> Tensor:
    """Distance of inner products from those of uniformly distributed vectors (Zhang et al. 2017).

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
    sums = stack([pairs.sum(), pairs.square().sum(), is_pair.sum().to(products.dtype)])
    # Moments are not means over ranks, so that every rank computes those of the global batch.
    first, second, count = losses.gather(sums[None]).sum(dim=0)
    count = count.clamp(min=1)
    return (first / count).square() + F.relu(second / count - 1 / vectors.shape[1])
