"""RFM, CFM and neighbours: two views of an item against those of other items."""

import copy

import torch
from torch import Tensor, nn

from recsys.config.ssl.contrastive import ContrastiveSettings
from recsys.losses import softmax as losses
from recsys.losses.batch_softmax import Equal, batch_softmax
from recsys.ssl.method import SslBatch, SslContext, SslMethod
from recsys.unit_rows import unit_rows


class ContrastiveLoss(SslMethod):
    """Softmax of view A of each item against view B of all (Yao et al. 2021, eq. 3).

    Attributes:
        head: Projection of the views' vectors; None: they are compared as they are.

    Args:
        settings: Settings of the method.
        context: The model that it is made for.
    """

    def __init__(self, settings: ContrastiveSettings, context: SslContext) -> None:
        super().__init__(settings.alpha)
        self._temperature = settings.temperature
        # Both views show one item, unless the second shows a neighbour.
        self._shown = 2 if settings.view_plan.of_neighbours else 1
        self.head: nn.Module | None = None
        if settings.shared_layers == "inputs":
            self.tower = copy.deepcopy(context.item_tower)
        if settings.projection is not None:
            width = settings.projection
            self.head = nn.Sequential(
                nn.Linear(context.dim, width), nn.ReLU(), nn.Linear(width, width)
            )

    def forward(self, batch: SslBatch) -> Tensor:
        """Computes this rank's loss, a scalar whose mean over ranks is the global batch's."""
        views = batch.vectors
        if self.head is not None:
            views = unit_rows(self.head(views))
        view_a, view_b = views
        items = batch.items[: self._shown]
        return contrastive_loss(view_a, view_b, items=items, temperature=self._temperature)


def contrastive_loss(
    view_a: Tensor, view_b: Tensor, *, items: Tensor, temperature: float
) -> Tensor:
    """Computes the batch softmax of view A against view B (Yao et al. 2021, eq. 3).

    No negative of a row shows the row's first item in either view, or its second one in view B: an
    item that was sampled twice is not its own negative.

    Args:
        view_a: [rows, dim], L2-normalised.
        view_b: [rows, dim], L2-normalised.
        items: [1, rows], the item that both views show, or [2, rows], that of each; -1 is padding.
        temperature: Temperature of the softmax.
    """
    targets = losses.target_columns(items.shape[1], items.device)
    columns = torch.stack([losses.gather(shown) for shown in items])
    # Weights make up for padding, so that the mean over all rows is that over the items.
    weight = (items[0] >= 0) * (columns.shape[1] / (columns[0] >= 0).sum())
    if len(items) == 1:
        same = Equal(items, columns, targets)
    else:
        same = Equal(items[[0, 0, 1]], columns[[0, 1, 1]], targets)
    return batch_softmax(
        view_a,
        losses.gather(view_b),
        temperature=temperature,
        targets=targets,
        weight=weight.to(view_a.dtype),
        masked=same,
    )
