"""Interface of the self-supervised methods: what each is given, and what it answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from pipelines.prepared.reader import Prepared


@dataclass(frozen=True)
class SslBatch:
    """One rank's sampled items of one step.

    All ranks have equally many. Items of the last ranks may be padding, which must have no
    influence on the loss.

    Attributes:
        vectors: [V, S, dim], L2-normalised outputs of the views' tower.
        inputs: [V, S, width], inputs of that tower: the features' embeddings side by side.
        hidden: [V, features] bool, the features that each view hides.
        items: [V, S], the item of each row; -1 is padding.
        key: [1] int64, key of this step's random numbers.
    """

    vectors: Tensor
    inputs: Tensor
    hidden: Tensor
    items: Tensor
    key: Tensor


@dataclass(frozen=True)
class SslContext:
    """The model and the data that a method is made for.

    Attributes:
        item_tower: Item tower, from inputs [rows, width] to vectors [rows, dim]; a method may copy
            it, and must not keep it.
        dim: Length of the item vectors.
        input_widths: Columns of each item feature in the tower's inputs, by name, in their order.
        prepared: The prepared data.
    """

    item_tower: nn.Module
    dim: int
    input_widths: Mapping[str, int]
    prepared: Prepared


class SslMethod(nn.Module, ABC):
    """A self-supervised loss and what only it needs: it is trained, but not served.

    What a checkpoint must hold is a parameter or a buffer. Buffers must be equal on all ranks, so
    that they are changed by gathered rows only, and only while the method is in training mode.

    Attributes:
        alpha: Weight of the loss beside the main one.
        tower: Tower of the views; None: they go through the item tower.

    Args:
        alpha: Weight of the loss.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.tower: nn.Module | None = None

    @abstractmethod
    def forward(self, batch: SslBatch) -> Tensor:
        """Computes this rank's loss, a scalar whose mean over ranks is the global batch's."""

    def after_step(self, item_tower: nn.Module) -> None:
        """Updates what no gradient does, such as moving averages, after the optimizers' step.

        Args:
            item_tower: Item tower with its new weights.
        """

    def measure(self, batch: SslBatch) -> dict[str, float]:
        """Measures figures of its own at each validation; a collective call, without gradients.

        Args:
            batch: Last batch of this rank.

        Returns:
            Figures of the global batch by name, equal on all ranks.
        """
        return {}
