"""Past steps' item vectors as more negatives (cross-batch memory)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.config.loss import LossConfig


class CandidateMemory(nn.Module):
    """The candidates of the latest steps, newest first, as they were.

    Wang et al. (2020), "Cross-Batch Memory for Embedding Learning", and for two towers Wang et al.
    (2021), "Cross-Batch Negative Sampling for Training Two-Tower Recommenders": a tower changes so
    little in a few steps that its vectors of then still serve as negatives, and those of the memory
    cost no forward. A vector is `batches` steps old at most, and has no gradient. Its sampling
    correction is also that of then, for it was then that it was drawn.

    Its buffers are part of the checkpoint. All ranks see the candidates of the global batch, and so
    hold equal buffers.

    Args:
        batches: Steps that are remembered.
        candidates: Of a global batch, at most.
        dim: Of the vectors.
    """

    def __init__(self, batches: int, candidates: int, dim: int) -> None:
        super().__init__()
        self.vectors: Tensor
        self.items: Tensor
        self.correction: Tensor
        self.register_buffer("vectors", torch.zeros(batches, candidates, dim))
        # A place without a candidate: -1, and no logit, for its correction is infinite.
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
        """Puts a step in, and forgets the oldest.

        Args:
            items: [candidates] of the global batch; -1 is padding.
            vectors: [candidates, dim].
            correction: [candidates].
        """
        is_item = items >= 0
        items, vectors, correction = items[is_item], vectors[is_item], correction[is_item]
        places = self.items.shape[1]
        assert len(items) <= places
        spare = places - len(items)
        self._put(self.items, F.pad(items, (0, spare), value=-1))
        self._put(self.vectors, F.pad(vectors, (0, 0, 0, spare)))
        self._put(self.correction, F.pad(correction, (0, spare), value=float("inf")))

    def _put(self, buffer: Tensor, newest: Tensor) -> None:
        buffer.copy_(torch.cat([newest[None].to(buffer.dtype), buffer[:-1]]))


def build_memory(settings: LossConfig, batch_size: int, dim: int) -> CandidateMemory | None:
    """The memory that the configuration asks for, if any.

    Args:
        settings: Of the loss.
        batch_size: Examples of a global batch, at most.
        dim: Of the vectors.
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
    # Each pair against its item's stretch of the ordered columns.
    row = known[:, 0].repeat_interleave(counts)
    shift = (first - (counts.cumsum(0) - counts)).repeat_interleave(counts)
    place = torch.arange(len(row), device=columns.device) + shift
    return torch.stack([row, order[place]], dim=1)
