"""The main task: a softmax of each query over candidates, one of which is its own item."""

import torch
from torch import Tensor, nn

from recsys.config.loss import LossConfig
from recsys.data.batch import Batch
from recsys.losses import softmax as losses
from recsys.losses.batch_softmax import Pairs, batch_softmax
from recsys.losses.frequency import StreamingFrequency
from recsys.model.two_tower import Encoded


class MainLoss(nn.Module):
    """Softmax over sampled candidates (Yi et al. 2019), or over the whole corpus.

    Args:
        settings: Settings of the candidates and of their logits.
        frequency: Estimator of Q, where the settings ask for a streaming one; see
            `build_frequency`.
    """

    def __init__(self, settings: LossConfig, frequency: StreamingFrequency | None = None) -> None:
        super().__init__()
        assert (frequency is not None) == (settings.logq.source.kind == "streaming")
        self._settings = settings
        self.frequency = frequency

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        """Returns the mean loss of this rank's examples, a scalar."""
        candidates = self._gather(encoded.items)
        return batch_softmax(
            encoded.queries,
            candidates,
            temperature=self._settings.temperature,
            targets=batch.targets,
            weight=batch.weight,
            correction=self._correction(batch),
            masked=Pairs.of(batch.accidental_hits, len(candidates)),
        )

    def positives(self, encoded: Encoded, batch: Batch) -> Tensor:
        """Returns vectors of the examples' own items, [B, dim]; rows of padding hold any."""
        return self._gather(encoded.items)[batch.targets]

    def _correction(self, batch: Batch) -> Tensor:
        """Returns the sampling correction of each candidate of all ranks, [columns]."""
        log_q = self._log_q(batch)
        if self._settings.candidates.is_corpus:
            log_sampled = torch.zeros_like(log_q)
        elif self._settings.candidates.num_uniform(batch_size=1):
            log_sampled = losses.log_mixture(log_q, uniform=batch.uniform)
        else:
            log_sampled = log_q
        return losses.sampling_correction(
            log_sampled=log_sampled, log_q=log_q, strength=self._settings.logq.strength
        )

    def _log_q(self, batch: Batch) -> Tensor:
        """Returns log Q of each candidate of all ranks, [columns], and updates its estimator."""
        if self.frequency is None:
            return self._gather(batch.log_q)
        if self.training:
            self.frequency.update(losses.gather(batch.items))
        return self.frequency.log_q(self._gather(batch.candidates))

    def _gather(self, rows: Tensor) -> Tensor:
        """Gathers rows of this rank's candidates to those of all ranks, [columns, ...]."""
        return losses.gather(rows) if self._settings.candidates.is_global else rows
