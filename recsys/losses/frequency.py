"""Frequency of items in a stream of examples, estimated while training (Yi et al. 2019)."""

import torch
from torch import Tensor, nn

from recsys.config.loss import LossConfig, StreamingQ

# Functions that hash items into shared counters, each with counters of its own.
_HASHES = 4
_PRIME = 2_147_483_647
_MULTIPLIERS = (1_103_515_245, 742_938_285, 950_706_376, 1_226_874_159)
_SHIFTS = (12_345, 590_558_003, 87_298_173, 1_403_580_517)


class StreamingFrequency(nn.Module):
    """The probability that an example's item is a given one, for every item at any time.

    Algorithm 2 of Yi et al. (2019), "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations": A holds when an item was last seen, B a moving mean of the intervals between
    its events, and the probability is 1 / B. Time is counted in examples and not in batches, which
    is the paper's algorithm for batches of one: so an item that a batch holds many times has an
    interval below a batch, and Q is that of `exact`.

    The first n intervals weigh 1/n until that is below the learning rate, so that no initial value
    remains. For an item of constant probability q, the intervals are geometric: after n events the
    mean of B is 1/q, its variance is at most (1 - q) / q^2 times a = max(1/n, rate / (2 - rate)),
    and log Q is above log q by about a / 2. After a change, the weight of the old probability
    shrinks by the factor 1 - rate with every event of the item.

    Where items share counters, a counter sees the events of all its items. They can only make
    intervals shorter, so the longest of the hash functions' intervals is taken (the paper's
    "multiple hashings").

    Its buffers are part of the checkpoint. All ranks see the items of the global batch, and so hold
    equal buffers.

    Args:
        num_items: Number of items in the catalogue.
        learning_rate: Weight of an event in the moving mean.
        buckets: Number of counters of each hash function; None: one for each item, unhashed.
    """

    def __init__(self, num_items: int, learning_rate: float, buckets: int | None = None) -> None:
        super().__init__()
        self._rate = learning_rate
        self._buckets = buckets
        shape = (1, num_items) if buckets is None else (_HASHES, buckets)
        self.last: Tensor
        self.interval: Tensor
        self.events: Tensor
        self.examples: Tensor
        self.register_buffer("last", torch.zeros(shape, dtype=torch.int64))  # A
        self.register_buffer("interval", torch.zeros(shape, dtype=torch.float64))  # B
        self.register_buffer("events", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("examples", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, items: Tensor) -> None:
        """Updates the estimates with the next examples of the stream.

        Args:
            items: [examples] int64, of the global batch in its order; -1 is padding.
        """
        items = items[items >= 0]
        if not len(items):
            return
        now = self.examples + torch.arange(1, len(items) + 1, device=items.device)
        for row, counters in enumerate(self._counters(items)):
            self._update(row, counters, now)
        self.examples += len(items)

    def log_q(self, items: Tensor) -> Tensor:
        """Returns log-probabilities, [items] float32.

        An item that was never seen counts as if its first event came next. Padding (-1) gets some
        finite number.
        """
        seen = self._counters(items.clamp(min=0))
        interval = self.interval.gather(1, seen)
        never = (self.examples + 1).to(interval.dtype)
        interval = torch.where(self.events.gather(1, seen) > 0, interval, never)
        return -interval.amax(dim=0).log().float()

    def _update(self, row: int, counters: Tensor, now: Tensor) -> None:
        """Updates one hash function's counters as a loop over the examples would, but at once."""
        order = torch.argsort(counters, stable=True)
        counter, time = counters[order], now[order]
        distinct, sizes = torch.unique_consecutive(counter, return_counts=True)
        ends = sizes.cumsum(0)
        group = torch.repeat_interleave(sizes)
        # Number of the event among its counter's events in this batch, from 0.
        index = torch.arange(len(counter), device=counter.device) - (ends - sizes)[group]
        earlier = torch.where(index == 0, self.last[row, counter], time.roll(1))
        old = self.events[row, distinct]
        new = old + sizes
        number = old[group] + index + 1
        weight = torch.clamp(1 / number.double(), min=self._rate) * self._kept(number, new[group])
        # Not `index_add`, whose order of additions is not the same in every run on a GPU.
        added = torch.segment_reduce((time - earlier) * weight, "sum", lengths=sizes)
        self.interval[row, distinct] = self.interval[row, distinct] * self._kept(old, new) + added
        self.last[row, distinct] = time[ends - 1]
        self.events[row, distinct] = new

    def _kept(self, number: Tensor, end: Tensor) -> Tensor:
        """Computes the weight of the mean over `number` events after event `end`, float64.

        It is the product of (1 - max(1/n, rate)) over the events n between, which telescopes.
        """
        turn = int(1 / self._rate)
        mean = number.clamp(max=turn).double() / end.clamp(max=turn)
        return mean * (1 - self._rate) ** (end.clamp(min=turn) - number.clamp(min=turn)).double()

    def _counters(self, items: Tensor) -> Tensor:
        """Returns the counter of each item, [hash functions, items]."""
        if self._buckets is None:
            return items[None]
        multipliers = items.new_tensor(_MULTIPLIERS)[:, None]
        shifts = items.new_tensor(_SHIFTS)[:, None]
        # Carter and Wegman (1979); the product of two numbers below 2^31 fits.
        return (items * multipliers + shifts) % _PRIME % self._buckets


def build_frequency(settings: LossConfig, num_items: int) -> StreamingFrequency | None:
    """Builds the estimate that the configuration asks for; None where Q is exact."""
    source = settings.logq.source
    if not isinstance(source, StreamingQ):
        return None
    return StreamingFrequency(num_items, source.learning_rate, source.buckets)
