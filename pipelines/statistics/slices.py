"""Slices of items by their training events: head, torso, tail and cold.

Their bounds are resolved from the training log, by `SliceBounds.of` alone: the search for the
ranking, every evaluation, the gate and all pages use the same ones.
"""

from typing import Literal

import numpy as np

from feature_store.core.columns import Bools, Ints
from feature_store.core.settings import Frozen

_MOST_OF_TAIL = 5
_HEAD_QUANTILE = 0.8
# With a smaller part of the events than this, a torso says nothing.
_LEAST_OF_TORSO = 0.03
# Parts of the events by which the bounds are set then.
_OF_HEAD, _TO_TORSO = 0.5, 0.8


class SliceBounds(Frozen):
    """Bounds of the slices.

    Attributes:
        rule: Whether the bounds are the fixed ones or by cumulative share of the events.
        tail: Most training events of an item of the tail; cold items have none.
        torso: Most training events of an item of the torso, head items have more; that of the tail
            where there is no torso.
        fixed_torso: Share of the training events that fixed bounds leave the torso.
    """

    rule: Literal["fixed", "share"]
    tail: int
    torso: int
    fixed_torso: float

    @classmethod
    def of(cls, frequency: Ints) -> "SliceBounds":
        """Resolves the bounds for a training log.

        Fixed bounds are 5 events for the tail, and for the torso the 80th percentile of the items
        that have training events: the smallest frequency that at least 80 % of them do not exceed.
        Where that leaves the torso less than 3 % of the events, as with a few items that have
        nearly all of them or with items of which most have few, the bounds are by cumulative
        share, the most popular items first: the head has 50 % of the events, head and torso 80 %,
        each as nearly as whole frequencies allow. A log of fewer than three different frequencies
        has no better bounds than the fixed ones.

        Args:
            frequency: Training events of each item, [items].
        """
        trained = frequency[frequency > 0]
        total = max(1, int(trained.sum()))
        border = np.quantile(trained, _HEAD_QUANTILE, method="inverted_cdf") if len(trained) else 0
        tail, torso = _MOST_OF_TAIL, max(_MOST_OF_TAIL, int(border))
        share = float(trained[(trained > tail) & (trained <= torso)].sum() / total)
        steps, times = np.unique(trained, return_counts=True)
        if share >= _LEAST_OF_TORSO or len(steps) < 3:
            return cls(rule="fixed", tail=tail, torso=torso, fixed_torso=share)
        below = np.cumsum(steps * times)[:-1] / total  # what a bound at each frequency leaves below
        to_torso = 1 + int(np.abs(below[1:] - (1 - _OF_HEAD)).argmin())
        to_tail = int(np.abs(below[:to_torso] - (1 - _TO_TORSO)).argmin())
        tail, torso = int(steps[to_tail]), int(steps[to_torso])
        return cls(rule="share", tail=tail, torso=torso, fixed_torso=share)

    def members(self, frequency: Ints) -> dict[str, Bools]:
        """Returns whether each item is in the slice, [items], by slice.

        Args:
            frequency: Training events of each item, [items].
        """
        return {
            "head": frequency > self.torso,
            "torso": (frequency > self.tail) & (frequency <= self.torso),
            "tail": (frequency > 0) & (frequency <= self.tail),
            "cold": frequency == 0,
        }

    def marks(self) -> list[str]:
        """Returns what fingerprints hold of the bounds: nothing of fixed ones.

        Earlier versions had these alone, so what they measured stays up to date.
        """
        return [] if self.rule == "fixed" else [self.model_dump_json()]

    def ranges(self) -> str:
        """Returns the training events of each slice in words."""
        tail = f"tail 1 to {self.tail:,}" if self.tail > 1 else "tail 1"
        torso = "no torso"
        if self.torso > self.tail:
            first = self.tail + 1
            torso = f"torso {first:,}" + (f" to {self.torso:,}" if self.torso > first else "")
        return f"cold 0, {tail}, {torso}, head {self.torso + 1:,} or more"

    def sentence(self) -> str:
        """Returns the bounds in words, and by which rule they were set."""
        why = "the torso reaches to the 80th percentile of the trained items"
        if self.rule == "share":
            why = (
                "by cumulative share, about 50 % of the events are the head's and 80 % those of "
                f"head and torso, because fixed bounds leave the torso {self.fixed_torso:.1%}"
            )
        return f"slices by an item's training events: {self.ranges()} ({why})"


class Slice(Frozen):
    """The items of a slice, and their events in each split."""

    items: int
    train: int
    validation: int
    test: int


def item_slices(frequency: Ints) -> dict[str, Bools]:
    """Assigns items to slices by their training events.

    Args:
        frequency: Training events of each item, [items].

    Returns:
        Whether each item is in the slice, [items], by slice.
    """
    return SliceBounds.of(frequency).members(frequency)


def events_by_slice(by_split: Ints, bounds: SliceBounds) -> dict[str, Slice]:
    """Counts the items and events of each slice.

    Args:
        by_split: Events for training, validation and test, [items, 3].
        bounds: Bounds of the slices.
    """
    slices = {}
    for name, is_member in bounds.members(by_split[:, 0]).items():
        events = by_split[is_member].sum(axis=0).tolist()
        slices[name] = Slice(
            items=int(is_member.sum()), train=events[0], validation=events[1], test=events[2]
        )
    return slices
