"""XSimGCL: two noised copies of an item's vector against those of other items, without masks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.config.ssl.noise import Noise
from recsys.losses.softmax import target_columns
from recsys.ssl.hashing import hash_uniform
from recsys.ssl.method import SslBatch, SslContext, SslMethod
from recsys.ssl.methods.contrastive import contrastive_loss


class NoiseLoss(SslMethod):
    """Softmax over vectors that differ from the item's by noise alone (Yu et al. 2023, XSimGCL).

    The noise does little but keep the task from being solved by equality; the loss spreads the
    vectors evenly over the sphere (their section 3).

    Args:
        settings: Settings of the method.
        context: The model that it is made for.
    """

    def __init__(self, settings: Noise, context: SslContext) -> None:
        super().__init__(settings.alpha)
        self._settings = settings

    def forward(self, batch: SslBatch) -> Tensor:
        """Computes this rank's loss, a scalar whose mean over ranks is the global batch's."""
        (vectors,), items = batch.vectors, batch.items
        view_a, view_b = (
            noised(vectors, key=batch.key, view=view, epsilon=self._settings.epsilon)
            for view in range(2)
        )
        return contrastive_loss(view_a, view_b, items=items, temperature=self._settings.temperature)


def noised(vectors: Tensor, *, key: Tensor, view: int, epsilon: float) -> Tensor:
    """Adds noise of length epsilon in the vectors' own orthant (Yu et al. 2023, eq. 7).

    Args:
        vectors: [rows, dim], L2-normalised.
        key: [1] int64, key of the step's random numbers.
        view: Number of the noised copy, from 0.
        epsilon: Length of the noise.

    Returns:
        [rows, dim], L2-normalised.
    """
    rows, dim = vectors.shape
    uniform = hash_uniform(
        key,
        torch.tensor(view, device=vectors.device),
        target_columns(rows, vectors.device)[:, None],  # Positions in the global batch.
        torch.arange(dim, device=vectors.device),
    )
    noise = vectors.sign() * F.normalize(uniform, dim=1)
    return F.normalize(vectors + epsilon * noise, dim=1)
