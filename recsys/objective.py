"""The training objective: the main task plus alpha times the self-supervised task."""

from torch import Tensor, nn

from recsys import losses
from recsys.batch import Batch
from recsys.frequency import StreamingFrequency
from recsys.loss_settings import LossConfig
from recsys.model import Encoded, TwoTower
from recsys.ssl_settings import NoSelfSupervision, SelfSupervisionConfig


class TwoTowerObjective(nn.Module):
    """A model with its losses, so that one module is sharded, trained and saved.

    Args:
        model: The towers.
        loss: Settings of the main task.
        ssl: Settings of the self-supervised task.
        frequency: Estimates Q where the settings ask for a streaming one; see `build_frequency`.
    """

    def __init__(
        self,
        model: TwoTower,
        loss: LossConfig,
        ssl: SelfSupervisionConfig,
        frequency: StreamingFrequency | None = None,
    ) -> None:
        super().__init__()
        assert (frequency is not None) == (loss.logq == "streaming")
        self.model = model
        self.frequency = frequency
        self._loss = loss
        self._ssl = ssl

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise (a scalar), and each loss by name, detached.

        Every rank's loss is the mean over its own examples with the whole global batch as
        candidates, so that the mean over ranks is the loss of the global batch.
        """
        encoded = self.model(batch)
        main = self.main_loss(encoded, batch)
        if isinstance(self._ssl, NoSelfSupervision):
            return main, {"main": main.detach()}
        self_supervised = self.self_supervised_loss(encoded, batch)
        total = main + self._ssl.alpha * self_supervised
        return total, {"main": main.detach(), "ssl": self_supervised.detach()}

    def main_loss(self, encoded: Encoded, batch: Batch) -> Tensor:
        """Batch softmax of queries against the global batch's items (Yi et al. 2019)."""
        targets = losses.own_columns(batch.num_examples, batch.items.device)
        logits = losses.scaled_similarities(
            encoded.queries, losses.gather(encoded.items), temperature=self._loss.temperature
        )
        logits = losses.correct_for_sampling(
            logits, log_q=self._log_q(batch), strength=self._loss.logq_strength
        )
        logits = losses.mask_hits(logits, hits=batch.hits)
        return losses.weighted_cross_entropy(logits, targets=targets, weight=batch.weight)

    def _log_q(self, batch: Batch) -> Tensor:
        """Of the global batch's items."""
        if self.frequency is None:
            return losses.gather(batch.log_q)
        items = losses.gather(batch.items)
        if self.training:
            self.frequency.update(items[items >= 0])
        return self.frequency.log_q(items.clamp(min=0))  # Padding's is never used.

    def self_supervised_loss(self, encoded: Encoded, batch: Batch) -> Tensor:
        """Batch softmax of view A against view B (Yao et al. 2021, eq. 3)."""
        assert not isinstance(self._ssl, NoSelfSupervision)
        targets = losses.own_columns(batch.num_views, batch.view_items.device)
        logits = losses.scaled_similarities(
            encoded.view_a, losses.gather(encoded.view_b), temperature=self._ssl.temperature
        )
        items = losses.gather(batch.view_items)
        logits = losses.mask_equal(logits, left=batch.view_items, right=items, targets=targets)
        # Weights make up for padding, so that the mean over all rows is that over the items.
        weight = (batch.view_items >= 0) * (len(items) / (items >= 0).sum())
        return losses.weighted_cross_entropy(
            logits, targets=targets, weight=weight.to(logits.dtype)
        )
