"""The training objective: the main task plus alpha times the self-supervised task."""

from torch import Tensor, nn

from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.data.batch import Batch
from recsys.losses.frequency import build_frequency
from recsys.model.two_tower import Encoded, TwoTower
from recsys.ssl.method import SslBatch, SslContext, SslMethod
from recsys.ssl.methods import build_method
from recsys.training.main_loss import MainLoss

# Losses to log by name, each a detached scalar.
Losses = dict[str, Tensor]


class TwoTowerObjective(nn.Module):
    """Model with its losses, so that one module is sharded, trained and saved.

    Args:
        model: The towers.
        main_loss: Loss of the main task.
        self_supervision: Loss of the self-supervised task; None: there is none.
    """

    def __init__(
        self, model: TwoTower, main_loss: MainLoss, self_supervision: SslMethod | None
    ) -> None:
        super().__init__()
        self.model = model
        self.main_loss = main_loss
        self.self_supervision = self_supervision

    def forward(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Computes the loss to minimise (a scalar), and each loss by name, detached, to log.

        Every rank's loss is the mean over its own examples with the whole global batch as
        candidates, so that the mean over ranks is the loss of the global batch.
        """
        ssl = self.self_supervision
        encoded = self.model(batch, ssl.tower if ssl is not None else None)
        total = self.main_loss(encoded, batch)
        losses = {"main": total.detach()}
        if ssl is not None:
            self_supervised = ssl(ssl_batch(encoded, batch))
            total = total + ssl.alpha * self_supervised
            losses["ssl"] = self_supervised.detach()
        return total, losses

    def after_step(self) -> None:
        """Lets the self-supervised method update what no gradient does; call it after each step."""
        if self.self_supervision is not None:
            self.self_supervision.after_step(self.model.item_tower)


def ssl_batch(encoded: Encoded, batch: Batch) -> SslBatch:
    """Returns the rows of a batch that self-supervision sampled, as its methods read them."""
    inputs = encoded.item_inputs[batch.num_candidates :]
    return SslBatch(
        vectors=encoded.views,
        inputs=inputs.view(*batch.view_items.shape, inputs.shape[1]),
        hidden=batch.view_hidden,
        items=batch.view_items,
        key=batch.view_key,
    )


def build_objective(model: TwoTower, config: Config, prepared: Prepared) -> TwoTowerObjective:
    """Builds the objective that the configuration asks for.

    Args:
        model: The towers.
        config: Configuration; its loss, ssl and training sections are used.
        prepared: The prepared data.
    """
    frequency = build_frequency(config.loss, prepared.num_items)
    widths = {feature.name: feature.dim for feature in model.item_inputs.features}
    context = SslContext(model.item_tower, model.dim, widths, prepared)
    return TwoTowerObjective(
        model, MainLoss(config.loss, frequency), build_method(config.ssl, context)
    )
