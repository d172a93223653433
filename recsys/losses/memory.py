"""Past steps' item vectors as more negatives (cross-batch memory)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.config.loss import LossConfig


class CandidateMemory(nn.Module):
    """The candidates of the latest steps, newest first, as they were.

    Wang et al. (2020), "Cross-Batch Memory for Embedding Learning", and for two towers Wang et al.
    (2021), "Cross-Batch Negative Sampling for Training Two-Tower Recommenders": a tower changes so
    little in a few steps that old vectors still serve as negatives, and they cost no forward pass.
    A vector is `batches` steps old at most, and has no gradient. It keeps the sampling correction
    of the step in which it was drawn.

    Its buffers are part of the checkpoint. All ranks see the candidates of the global batch, and so
    hold equal buffers.

    Args:
        batches: Number of steps that are remembered.
        candidates: Most candidates of a global batch.
        dim: Length of the vectors.
    """

    def __init__(self, batches: int, candidates: int, dim: int) -> None:
        super().__init__()
        self.vectors: Tensor
        self.items: Tensor
        self.correction: Tensor
        self.register_buffer("vectors", torch.zeros(batches, candidates, dim))
        # A position without a candidate holds item -1, and its infinite correction leaves no logit.
        self.register_buffer("items", torch.full((batches, candidates), -1))
        self.register_buffer("correction", torch.full((batches, candidates), float("inf")))

    def columns(self, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns vectors [columns, dim], corrections [columns] and accidental hits [n, 2].

        Args:
            known: [n, 2] example, and item that must not count as its negative.
        """
        hits = accidental_hits_among(known, self.items.view(-1))
        return self.vectors.flatten(0, 1), self.correction.view(-1), hits

    @torch.no_grad()
    def remember(self, items: Tensor, vectors: Tensor, correction: Tensor) -> None:
        """Stores the candidates of a step, and forgets the oldest step.

        Args:
            items: [candidates] of the global batch; -1 is padding.
            vectors: [candidates, dim].
            correction: [candidates].
        """
        is_item = items >= 0
        items, vectors, correction = items[is_item], vectors[is_item], correction[is_item]
        capacity = self.items.shape[1]
        assert len(items) <= capacity
        spare = capacity - len(items)
        self._put(self.items, F.pad(items, (0, spare), value=-1))
        self._put(self.vectors, F.pad(vectors, (0, 0, 0, spare)))
        self._put(self.correction, F.pad(correction, (0, spare), value=float("inf")))

    def _put(self, buffer: Tensor, newest: Tensor) -> None:
        buffer.copy_(torch.cat([newest[None].to(buffer.dtype), buffer[:-1]]))


def build_memory(settings: LossConfig, batch_size: int, dim: int) -> CandidateMemory | None:
    """Builds the memory that the configuration asks for; None where it asks for none.

    Args:
        settings: Settings of the loss.
        batch_size: Most examples of a global batch.
        dim: Length of the vectors.
    """
    candidates = settings.candidates
    if not candidates.memory_batches:
        return None
    uniform = candidates.num_uniform(batch_size)
    return CandidateMemory(candidates.memory_batches, batch_size + uniform, dim)


def accidental_hits_among(known: Tensor, columns: Tensor) -> Tensor:
    """Returns each row with the columns of its known positives, [m, 2].

    Args:
        known: [n, 2] row and item.
        columns: [columns] items, in which one may be several times; -1 is none.
    """
    ordered, order = columns.sort(stable=True)
    items = known[:, 1].contiguous()
    first = torch.searchsorted(ordered, items)
    counts = torch.searchsorted(ordered, items, right=True) - first
    # The columns of a pair's item are neighbours in the order.
    row = known[:, 0].repeat_interleave(counts)
    shift = (first - (counts.cumsum(0) - counts)).repeat_interleave(counts)
    position = torch.arange(len(row), device=columns.device) + shift
    return torch.stack([row, order[position]], dim=1)
