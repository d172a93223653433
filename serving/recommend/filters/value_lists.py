"""The items of each value of a feature.

items/filters/<feature>.arrow    value, ascending, and the indices of the items that have it
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Ints, Jagged, jagged_from_arrow
from feature_store.core.files import write_atomically
from feature_store.encoding.numbers import days_of, numbers_of
from serving.bundle.files import mapped_table

# Types of a feature's values: of names, of numbers and of dates.
NAMES, NUMBERS, DATES = pa.string(), pa.float64(), pa.timestamp("us")
# Values among which the nearest is looked for, and those that an error lists.
_NEAR, _LISTED = 1000, 5


class ValueLists:
    """The items of each value of one feature.

    Args:
        values: [values] distinct strings, numbers or dates, ascending.
        items: [values] item indices.
    """

    def __init__(self, values: pa.Array, items: Jagged) -> None:
        self.values = values
        self._items = items

    @classmethod
    def read(cls, path: Path) -> "ValueLists":
        """Opens a file of `write_value_lists`, memory-mapped.

        Raises:
            ValueError: Its values are of another type, or have not one list of items each.
        """
        table = mapped_table(path)
        values, items = table["value"].combine_chunks(), jagged_from_arrow(table["items"])
        if values.type not in (NAMES, NUMBERS, DATES) or values.null_count:
            raise ValueError(f"{path.name} has values of type {values.type}, or none")
        return cls(values, items)

    @property
    def lengths(self) -> Ints:
        """Number of items of each value, [values]."""
        return self._items.lengths

    @property
    def listed(self) -> Ints:
        """Items of all values, one value after the other."""
        return self._items.values

    def items(self, values: Iterable[str]) -> Ints:
        """Returns the items that have any of the values.

        Raises:
            ValueError: No item has one of them; the text names the nearest.
        """
        return self._items.take(np.array([self._row(value) for value in values], np.int64)).values

    def items_within(self, bounds: Mapping[str, float | str]) -> Ints:
        """Returns the items with a value within bounds: `ge`, `gt`, `le`, `lt`.

        Raises:
            ValueError: A bound is no number, or date; or the values are none.
        """
        numbers, rows = self._ordered
        if not len(numbers):
            example = f", such as {self.values[0].as_py()!r}" if len(self.values) else ""
            raise ValueError(f"its values are no numbers{example}; name values instead of a range")
        first, last = 0, len(numbers)
        for operator, bound in bounds.items():
            side: Literal["left", "right"] = "left" if operator in ("ge", "lt") else "right"
            place = int(np.searchsorted(numbers, self._number(bound, operator), side))
            if operator in ("ge", "gt"):
                first = max(first, place)
            else:
                last = min(last, place)
        return self._items.take(rows[first : max(first, last)]).values

    def pairs(self) -> tuple[pa.Array, Ints]:
        """Lists each value with an item that has it, [pairs]."""
        return self.values.take(pa.array(self._items.row_of_value())), self._items.values

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {value: row for row, value in enumerate(self.values.to_pylist())}

    @cached_property
    def _ordered(self) -> tuple[npt.NDArray[np.float64], Ints]:
        """Numbers that values are, dates as days since 1970, ascending, and the value of each."""
        converted = days_of(self.values) if self.values.type == DATES else numbers_of(self.values)
        numbers = converted.to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(np.isfinite(numbers))
        rows = rows[np.argsort(numbers[rows], kind="stable")]
        return numbers[rows], rows

    def _number(self, given: float | str, name: str) -> float:
        """Reads a bound or a value as those of the feature are."""
        if self.values.type == DATES:
            text = f"{given:g}" if isinstance(given, float) else given
            number = days_of(pa.array([text], pa.string()))[0].as_py()
            expected = "a date, such as 2024-01-31"
        else:
            number = numbers_of(pa.array([given]))[0].as_py()
            expected = "a number"
        if number is None or not np.isfinite(number):
            raise ValueError(f"{name} is {given!r}; expected {expected}")
        return float(number)

    def _row(self, value: str) -> int:
        if self.values.type == NAMES:
            if value in self._rows:
                return self._rows[value]
        else:
            numbers, rows = self._ordered
            number = self._number({"true": 1.0, "false": 0.0}.get(value, value), "it")
            place = int(np.searchsorted(numbers, number))
            if place < len(numbers) and numbers[place] == number:
                return int(rows[place])
        raise ValueError(f"no item has {value!r}; {self._hint(value)}")

    def _hint(self, value: str) -> str:
        if not len(self.values):
            return "no item has any value."
        if self.values.type == NAMES:
            near = self._nearest_name(value)
        else:
            numbers, rows = self._ordered
            distances = np.abs(numbers - self._number(value, "it"))
            near = _text(self.values[int(rows[int(np.argmin(distances))])].as_py())
        if near is not None:
            return f"the nearest is {near!r}."
        some = ", ".join(repr(each) for each in self.values[:_LISTED].to_pylist())
        more = ", ..." if len(self.values) > _LISTED else ""
        return f"expected one of {some}{more}"

    def _nearest_name(self, value: str) -> str | None:
        """Finds a similar value; of many, among those that are spelt alike at the beginning."""
        folded = pc.equal(pc.utf8_lower(self.values), value.lower())
        row = pc.index(folded, True).as_py()
        if row >= 0:
            return str(self.values[row].as_py())
        first = 0
        if len(self.values) > _NEAR:
            place = pc.sum(pc.less(self.values, value)).as_py() or 0
            first = min(max(0, place - _NEAR // 2), len(self.values) - _NEAR)
        names = self.values.slice(first, _NEAR).to_pylist()
        return next(iter(get_close_matches(value, names, 1)), None)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_filters(directory: Path) -> dict[str, ValueLists]:
    """Reads all features that `write_value_lists` wrote to a directory."""
    return {unquote(path.stem): ValueLists.read(path) for path in sorted(directory.glob("*.arrow"))}


def write_value_lists(directory: Path, feature: str, values: pa.Array, items: Ints) -> None:
    """Writes the items of each value.

    Args:
        directory: Directory of all features.
        feature: Name of the feature.
        values: [pairs] strings, numbers or dates.
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
    names = counted.field("values") if counted is not None else pa.array([], values.type)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    lists = pa.LargeListArray.from_arrays(
        pa.array(offsets, pa.int64()), pc.cast(distinct["items"].combine_chunks(), pa.int32())
    )
    table = pa.table({"value": names, "items": lists})

    def write(temporary: Path) -> None:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows))

    write_atomically(directory / f"{quote(feature, safe=' ')}.arrow", write)
