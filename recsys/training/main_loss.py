"""The main task: a softmax of each query over candidates, one of which is its own item."""

import math

import torch
from torch import Tensor, nn

from recsys.config.loss import LearnedTemperature as LearnedTemperatureConfig
from recsys.config.loss import LossConfig
from recsys.data.batch import Batch
from recsys.losses import softmax as losses
from recsys.losses.frequency import StreamingFrequency
from recsys.losses.memory import CandidateMemory
from recsys.model.two_tower import Encoded


class MainLoss(nn.Module):
    """Softmax over sampled candidates (Yi et al. 2019), or over the whole corpus.

    Args:
        settings: Settings of the candidates and of their logits.
        frequency: Estimator of Q, where the settings ask for a streaming one; see
            `build_frequency`.
        memory: Memory of past candidates, where the settings ask for one; see `build_memory`.
    """

    def __init__(
        self,
        settings: LossConfig,
        frequency: StreamingFrequency | None = None,
        memory: CandidateMemory | None = None,
    ) -> None:
        super().__init__()
        assert (frequency is not None) == (settings.logq.source.kind == "streaming")
        assert (memory is not None) == (settings.candidates.memory_batches > 0)
        self._settings = settings
        self.frequency = frequency
        self.memory = memory
        self.learned_temperature: LearnedTemperature | None = None
        if isinstance(settings.temperature, LearnedTemperatureConfig):
            bounds = settings.temperature.learned
            self.learned_temperature = LearnedTemperature(bounds.start, (bounds.low, bounds.high))

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        """Returns the mean loss of this rank's examples, a scalar."""
        vectors, correction = self._gather(encoded.items), self._correction(batch)
        hits = batch.accidental_hits
        if self.memory is None:
            return self._softmax(encoded.queries, vectors, correction, hits, batch)
        past_vectors, past_correction, past_hits = self.memory.columns(batch.known_positives)
        loss = self._softmax(
            encoded.queries,
            torch.cat([vectors, past_vectors]),
            torch.cat([correction, past_correction]),
            torch.cat([hits, past_hits + past_hits.new_tensor([0, len(vectors)])]),
            batch,
        )
        if self.training:
            # The order of the global batch makes the memory equal for any number of ranks.
            order = torch.arange(len(vectors), device=vectors.device).view(-1, batch.num_candidates)
            examples, uniform = order.tensor_split([batch.num_examples], dim=1)
            order = torch.cat([examples.reshape(-1), uniform.reshape(-1)])
            items = losses.gather(batch.candidates)
            self.memory.remember(items[order], vectors[order], correction[order])
        return loss

    def temperature(self) -> float | Tensor:
        """Returns the softmax temperature: a scalar tensor with a gradient where it is learned."""
        if self.learned_temperature is not None:
            return self.learned_temperature()
        assert isinstance(self._settings.temperature, float)
        return self._settings.temperature

    def positives(self, encoded: Encoded, batch: Batch) -> Tensor:
        """Returns vectors of the examples' own items, [B, dim]; rows of padding hold any."""
        return self._gather(encoded.items)[batch.targets]

    def _softmax(
        self, queries: Tensor, vectors: Tensor, correction: Tensor, hits: Tensor, batch: Batch
    ) -> Tensor:
        logits = losses.scaled_similarities(queries, vectors, temperature=self.temperature())
        logits = losses.correct_for_sampling(logits, correction=correction)
        logits = losses.mask_accidental_hits(logits, hits=hits)
        return losses.weighted_cross_entropy(logits, targets=batch.targets, weight=batch.weight)

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


class LearnedTemperature(nn.Module):
    """Positive number within bounds, learned as its logarithm (Radford et al. 2021, sec. 2.5).

    A step that leaves the bounds sets the parameter to the bound, from where a gradient can lead it
    in again.

    Args:
        start: Temperature of the first step.
        bounds: Lowest and highest temperature.
    """

    def __init__(self, start: float, bounds: tuple[float, float]) -> None:
        super().__init__()
        self._low, self._high = map(math.log, bounds)
        # Weight decay leaves a scalar alone, as it does biases.
        self.log_temperature = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> Tensor:
        """Returns the temperature, a scalar with a gradient."""
        with torch.no_grad():
            self.log_temperature.clamp_(self._low, self._high)
        return self.log_temperature.exp()
