"""Filters of items by the values of their features.

items/filters/<feature>.arrow    value, ascending, and the indices of the items that have it
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from threading import Lock
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import token_of
from feature_store.core.columns import Bools, Ints, Jagged, jagged_from_arrow
from feature_store.core.errors import UserError
from feature_store.core.files import write_atomically
from serving.bundle.files import mapped_table

# Bytes of masks that are kept: the same few categories come again and again.
_KEPT_BYTES = 64 * 1024**2

Where = Mapping[str, Sequence[str | float]]


class ValueLists:
    """The items of each value of one feature.

    Args:
        values: [values] distinct strings.
        items: [values] item indices.
    """

    def __init__(self, values: pa.Array, items: Jagged) -> None:
        self.values = values
        self._items = items

    @classmethod
    def read(cls, path: Path) -> "ValueLists":
        """Opens a file of `write_value_lists`, memory-mapped."""
        table = mapped_table(path)
        return cls(table["value"].combine_chunks(), jagged_from_arrow(table["items"]))

    @property
    def listed(self) -> Ints:
        """Items of all values, one value after the other."""
        return self._items.values

    def items(self, values: Iterable[str]) -> Ints:
        """Returns the items that have any of the values."""
        rows = [self._rows[value] for value in values if value in self._rows]
        return self._items.take(np.array(rows, np.int64)).values

    def pairs(self) -> tuple[pa.Array, Ints]:
        """Lists each value with an item that has it, [pairs]."""
        return self.values.take(pa.array(self._items.row_of_value())), self._items.values

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {value: row for row, value in enumerate(self.values.to_pylist())}


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
        """Returns whether an item has one of the values of each named feature, [size].

        Raises:
            UserError: There is no such feature to filter by, or a value is none of any feature.
        """
        tokens = {name: tokens_of_filter(name, values) for name, values in where.items()}
        key = tuple(sorted((name, tuple(sorted(values))) for name, values in tokens.items()))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        mask = np.ones(self._size, bool)
        for name, values in tokens.items():
            mask &= self._mask_of(self._list(name).items(values))
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

    def _list(self, name: str) -> ValueLists:
        if name in self._lists:
            return self._lists[name]
        if not self._lists:
            raise UserError(f"filter by {name!r}: this model has no features to filter by.")
        close = get_close_matches(name, self._lists, 1)
        hint = f"did you mean {close[0]!r}?" if close else "see export.filters."
        raise UserError(f"filter by {name!r}: expected some of {', '.join(self._lists)}; {hint}")


def tokens_of_filter(name: str, values: Iterable[object]) -> list[str]:
    """Formats values as those of the log: true is "true" and not 1, and 3.0 is 3.

    Raises:
        UserError: A value is no string, number or boolean.
    """
    tokens: list[str] = []
    for value in values:
        token = token_of(value)
        if token is None:
            raise UserError(
                f"filter by {name!r}: {value!r} is no value; "
                "expected a string, a finite number or a boolean."
            )
        tokens.append(token)
    return tokens


def read_filters(directory: Path) -> dict[str, ValueLists]:
    """Reads all features that `write_value_lists` wrote to a directory."""
    return {unquote(path.stem): ValueLists.read(path) for path in sorted(directory.glob("*.arrow"))}


def write_value_lists(directory: Path, feature: str, values: pa.Array, items: Ints) -> None:
    """Writes the items of each value.

    Args:
        directory: Directory of all features.
        feature: Name of the feature.
        values: [pairs] strings.
        items: [pairs] the item of each value.
    """
    pairs = pa.table({"value": values, "items": pa.array(items, pa.int32())})
    distinct = (
        pairs.group_by(["value", "items"])
        .aggregate([])
        .sort_by([("value", "ascending"), ("items", "ascending")])
    )
    counted = distinct["value"].combine_chunks().value_counts() if len(distinct) else None
    lengths = counted.field("counts").to_numpy() if counted is not None else np.empty(0, np.int64)
    names = counted.field("values") if counted is not None else pa.array([], pa.string())
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    lists = pa.LargeListArray.from_arrays(
        pa.array(offsets, pa.int64()), pc.cast(distinct["items"].combine_chunks(), pa.int32())
    )
    table = pa.table({"value": names, "items": lists})

    def write(temporary: Path) -> None:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows))

    write_atomically(directory / f"{quote(feature, safe=' ')}.arrow", write)
