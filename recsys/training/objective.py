"""The training objective: the main task plus alpha times the self-supervised task."""

from torch import Tensor, nn

from recsys.config.config import Config
from recsys.config.loss import LossConfig
from recsys.config.ssl import SelfSupervisionConfig
from recsys.data.batch import Batch
from recsys.losses.frequency import StreamingFrequency, build_frequency
from recsys.losses.memory import CandidateMemory, build_memory
from recsys.model.two_tower import TwoTower
from recsys.ssl.objectives import build_self_supervision
from recsys.training.main_loss import MainLoss


class TwoTowerObjective(nn.Module):
    """A model with its losses, so that one module is sharded, trained and saved.

    Args:
        model: The towers.
        loss: Settings of the main task.
        ssl: Settings of the self-supervised task.
        frequency: Of the main task; see `MainLoss`.
        memory: Of the main task.
    """

    def __init__(
        self,
        model: TwoTower,
        loss: LossConfig,
        ssl: SelfSupervisionConfig,
        frequency: StreamingFrequency | None = None,
        memory: CandidateMemory | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.main_loss = MainLoss(loss, frequency, memory)
        self.self_supervision = build_self_supervision(ssl, model)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise (a scalar), and what to log: each loss by name, detached.

        Every rank's loss is the mean over its own examples with the whole global batch as
        candidates, so that the mean over ranks is the loss of the global batch.
        """
        ssl = self.self_supervision
        encoded = self.model(batch, ssl.tower if ssl is not None else None)
        total = self.main_loss(encoded, batch)
        parts = {"main": total.detach()}
        if ssl is not None:
            self_supervised = ssl(encoded.views, batch.view_items[0])
            total = total + ssl.alpha * self_supervised
            parts["ssl"] = self_supervised.detach()
        if self.main_loss.learned_temperature is not None:
            parts["temperature"] = self.main_loss.learned_temperature().detach()
        return total, parts


def build_objective(model: TwoTower, config: Config, num_items: int) -> TwoTowerObjective:
    """The objective that the configuration asks for.

    Args:
        model: The towers.
        config: Its loss, ssl and training sections are used.
        num_items: Of the catalogue.
    """
    frequency = build_frequency(config.loss, num_items)
    memory = build_memory(config.loss, config.training.batch_size, model.dim)
    return TwoTowerObjective(model, config.loss, config.ssl, frequency, memory)
