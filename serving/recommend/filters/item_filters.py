"""Masks of the items that a filter leaves."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from threading import Lock

import numpy as np

from feature_store.core.columns import Bools, Ints
from feature_store.core.errors import UserError
from serving.recommend.filters.conditions import Condition, condition_of
from serving.recommend.filters.value_lists import ValueLists

# Bytes of masks that are kept: the same few categories come again and again.
_KEPT_BYTES = 64 * 1024**2

Where = Mapping[str, str | float | Sequence[str | float] | Mapping[str, float | str]]


class ItemFilters:
    """Masks of the items with some values.

    Args:
        lists: Items of each value, by feature.
        positions: Positions of the items in a mask, [items]; -1 of items without one.
        size: Length of a mask.
    """

    def __init__(self, lists: dict[str, ValueLists], positions: Ints, size: int) -> None:
        self._lists = lists
        self._positions = positions
        self._size = size
        self._kept: OrderedDict[object, Bools] = OrderedDict()
        self._lock = Lock()

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(self._lists)

    def mask(self, where: Where) -> Bools:
        """Returns whether an item meets the condition of each named feature, [size].

        Raises:
            UserError: There is no such feature to filter by, no item has a value, or a condition
                is none; see `condition_of`.
        """
        conditions = {name: _condition(name, value) for name, value in where.items()}
        key = tuple(sorted((name, _key(each)) for name, each in conditions.items()))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        mask = np.ones(self._size, bool)
        for name, condition in conditions.items():
            mask &= self._mask_of(self._items(name, condition))
        mask.setflags(write=False)
        with self._lock:
            self._kept[key] = mask
            while len(self._kept) > 1 and len(self._kept) * self._size > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return mask

    def _mask_of(self, items: Ints) -> Bools:
        mask = np.zeros(self._size, bool)
        positions = self._positions[items]
        mask[positions[positions >= 0]] = True
        return mask

    def _items(self, name: str, condition: Condition) -> Ints:
        lists = self._list(name)
        try:
            if isinstance(condition, dict):
                return lists.items_within(condition)
            return lists.items(condition)
        except ValueError as error:
            raise _fault(name, error) from None

    def _list(self, name: str) -> ValueLists:
        if name in self._lists:
            return self._lists[name]
        if not self._lists:
            raise UserError(f"filter by {name!r}: this model has no features to filter by.")
        close = get_close_matches(name, self._lists, 1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else "see export.filters."
        raise UserError(f"filter by {name!r}: expected some of {', '.join(self._lists)}; {hint}")


def _condition(name: str, value: object) -> Condition:
    try:
        return condition_of(value)
    except ValueError as error:
        raise _fault(name, error) from None


def _fault(name: str, error: ValueError) -> UserError:
    text = str(error)
    return UserError(f"filter by {name!r}: {text}{'' if text.endswith(('.', '?')) else '.'}")


def _key(condition: Condition) -> tuple[object, ...]:
    if isinstance(condition, dict):  # Texts of values are no pairs, so that these are no values.
        return tuple(sorted(condition.items(), key=lambda bound: bound[0]))
    return tuple(sorted(condition))
