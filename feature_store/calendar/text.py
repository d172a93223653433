"""Text as times: ISO-8601, dates with the parts in any order, names of months, and digits.

Arrow's own parser takes the usual forms of ISO-8601, as fast as text can be read. Columns that it
does not take whole are read by the regular expressions here, one for each form, whose groups are
converted as arrays. No value has two forms.
"""

import calendar
import itertools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.calendar.civil import Day, of_date, of_ordinal, of_week
from feature_store.calendar.numbers import is_number_unit, number_times
from feature_store.calendar.units import TimeUnit
from feature_store.core.columns import Bools, Ints

# Values that show whether Arrow's parser takes a column, and whether values repeat, as dates do.
_PROBED = 1_000

_CLOCK = (
    r"(?P<hour>\d{1,2})(?:[:.]?(?P<minute>\d{2})(?:[:.]?(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?)?"
    r"(?:\s*(?P<half>[ap])\.?m\.?)?"
)
_ZONE = r"\s*(?P<zone>z|[a-z]{2,4}|(?:utc|gmt)?[+-]\d{2}(?::?\d{2})?)?\s*(?:\[[^\]]*\]|\([^)]*\))?"
_REST = rf"(?:(?:[t_:]|,?\s+(?:at\s+)?){_CLOCK})?{_ZONE}$"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*[,.]?\s+)?"
_MONTH = r"(?P<name>[a-z]{3,9})\.?"
_NTH = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"

# Forms that can be read in one way, the most frequent first.
_FORMS = tuple(
    f"(?i)^{pattern}"
    for pattern in (
        rf"(?P<year>\d{{4}})[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}}){_REST}",
        rf"(?P<year>(?:19|20)\d{{2}})(?P<month>\d{{2}})(?P<day>\d{{2}}){_REST}",
        # RFC 2822, HTTP, Apache, Oracle, SAS: 5 Jan 2024, 05/Jan/2024:12:30:00 +0000, 05JAN24.
        rf"{_WEEKDAY}{_NTH}[-/. ]*{_MONTH}[-/., ]*(?P<year>\d{{4}}|\d{{2}}){_REST}",
        rf"{_WEEKDAY}{_MONTH}[-/ ]+{_NTH}[-/, ]+(?P<year>\d{{4}}){_REST}",
        # The year last: ctime, `date` and Twitter.
        rf"{_WEEKDAY}{_MONTH}\s+{_NTH}\s+{_CLOCK}{_ZONE}\s+(?P<year>\d{{4}})$",
        rf"(?P<year>\d{{4}})[-/ ]{_MONTH}[-/ ](?P<day>\d{{1,2}}){_REST}",
        rf"(?P<year>\d{{4}})-?w(?P<week>\d{{2}})(?:-?(?P<weekday>\d))?{_REST}",
        rf"(?P<year>\d{{4}})-(?P<ordinal>\d{{3}}){_REST}",
        r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})$",
    )
)
# Three numbers of which the year is not the first, or has two digits.
PARTS = rf"(?i)^(?P<first>\d{{1,2}})[-/.](?P<middle>\d{{1,2}})[-/.](?P<last>\d{{4}}|\d{{2}}){_REST}"
WHOLE = r"^[+-]?\d{1,18}$"
NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"

_MONTHS = {name.lower(): n for n, name in enumerate(calendar.month_name) if n}
_MONTHS |= {name[:3]: n for name, n in _MONTHS.items()} | {"sept": 9}
# Names of RFC 2822 and of UTC; others are used in several parts of the world.
_HOURS_AHEAD = {"z": 0, "utc": 0, "gmt": 0, "ut": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5}
_HOURS_AHEAD |= {"mst": -7, "mdt": -6, "pst": -8, "pdt": -7}
_NO_ZONE = 10_000
# POSIX: two digits of a year are of 1969 to 2068.
_CENTURY_FROM = 69


def text_times(column: pa.Array, unit: TimeUnit | None) -> pa.Array:
    """Converts strings to int64 microseconds since 1970, with null for what is no time.

    Args:
        column: Strings.
        unit: Meaning of strings of digits, or the order of day, month and year where the year is
            not first; None: such strings are no times, except YYYYMMDD.
    """
    if not len(column):
        return pa.array([], pa.int64())
    fast = _by_arrow(column)
    if fast is not None:
        return fast
    if len(column) > _PROBED and len(pc.unique(column.slice(0, _PROBED))) < _PROBED / 2:
        encoded = column.dictionary_encode()
        return _by_forms(encoded.dictionary, unit).take(encoded.indices)
    return _by_forms(column, unit)


def _by_arrow(column: pa.Array) -> pa.Array | None:
    """Parses strings that are all ISO-8601 with a zone, or all without one; else returns None.

    Dates may have slashes.
    """
    # A few of them first, for Arrow reports each value that it cannot parse, which is slow.
    some = column.take(pa.array(np.linspace(0, len(column) - 1, _PROBED).astype(np.int64)))
    kinds = (("us", None), ("us", "UTC"), ("ns", None), ("ns", "UTC"))
    for (unit, zone), slash in itertools.product(kinds, ("-", "/")):
        kind = pa.timestamp(unit, zone)
        try:
            pc.cast(_with_dashes(some, slash), kind)
            times = pc.cast(_with_dashes(column, slash), kind)
        except pa.ArrowInvalid:
            continue
        return number_times(pc.cast(times, pa.int64()), "us" if unit == "us" else "ns")
    return None


def _with_dashes(strings: pa.Array, slash: str) -> pa.Array:
    if slash == "-":
        return strings
    return pc.replace_substring(strings, slash, "-", max_replacements=2)


class _Open:
    """The strings that no form has taken yet, and the times of the others.

    Args:
        column: Strings.
    """

    def __init__(self, column: pa.Array) -> None:
        self._text = pc.utf8_trim_whitespace(column)
        self._times = np.zeros(len(column), np.int64)
        self._valid = np.zeros(len(column), bool)
        self._rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        self._left = self._text.take(pa.array(self._rows))

    def match(self, pattern: str) -> tuple[pa.Array, Bools]:
        """Returns the strings that match, and where they are among those that are left."""
        mask = pc.match_substring_regex(self._left, pattern)
        return self._left.filter(mask), mask.to_numpy(zero_copy_only=False)

    def put(self, where: Bools, times: Ints, valid: Bools) -> None:
        """Stores the times of the strings that a form takes; they are no longer left."""
        rows = self._rows[where]
        self._times[rows], self._valid[rows] = times, valid
        self._rows = self._rows[~where]
        self._left = self._left.filter(pa.array(~where))

    def times(self) -> pa.Array:
        """Returns the times, null where no form has given one."""
        return pa.array(self._times, mask=~self._valid)

    def __len__(self) -> int:
        return len(self._rows)


def _by_forms(column: pa.Array, unit: TimeUnit | None) -> pa.Array:
    strings = _Open(column)
    if unit is not None and is_number_unit(unit):
        for pattern, kind in ((WHOLE, pa.int64()), (NUMBER, pa.float64())):
            matches, where = strings.match(pattern)
            times = number_times(pc.cast(_unsigned(matches), kind), unit)
            strings.put(where, *_values(times))
    for pattern in _FORMS:
        if len(strings):
            _put_form(strings, pattern, None)
    if unit in ("dmy", "mdy", "ymd") and len(strings):
        _put_form(strings, PARTS, unit)
    return strings.times()


def _unsigned(strings: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(strings, r"^\+", "")


def _values(times: pa.Array) -> tuple[Ints, Bools]:
    valid = times.is_valid().to_numpy(zero_copy_only=False)
    return pc.fill_null(times, 0).to_numpy(), valid


def _put_form(strings: _Open, pattern: str, order: str | None) -> None:
    matches, where = strings.match(pattern)
    if len(matches):
        fields = _Fields(pc.extract_regex(matches, pattern))
        strings.put(where, *_times_of(fields, order))


@dataclass(frozen=True)
class _Fields:
    """The groups of a regular expression that matched every value.

    Attributes:
        groups: Struct of strings; a group that took no part is empty.
    """

    groups: pa.StructArray

    def has(self, name: str) -> bool:
        """Checks whether the expression has a group."""
        return bool(self.groups.type.get_field_index(name) >= 0)

    def text(self, name: str) -> pa.Array:
        """Returns a group in lower case, [values]."""
        return pc.ascii_lower(pc.struct_field(self.groups, name))

    def number(self, name: str, default: int = 0) -> Ints:
        """Returns a group of digits as numbers, [values]; the default where it is empty."""
        if not self.has(name):
            return np.full(len(self.groups), default, np.int64)
        text = self.text(name)
        text = pc.if_else(pc.equal(text, ""), str(default), text)
        return pc.cast(text, pa.int64()).to_numpy()

    def mapped(self, name: str, value_of: dict[str, int] | None, default: int) -> Ints:
        """Returns the numbers that words stand for; zones where there is no mapping, [values]."""
        encoded = self.text(name).dictionary_encode()
        words = encoded.dictionary.to_pylist()
        numbers = [
            value_of.get(word, default) if value_of is not None else _minutes_ahead(word)
            for word in words
        ]
        return np.array(numbers, np.int64)[encoded.indices.to_numpy()]


def _times_of(fields: _Fields, order: str | None) -> tuple[Ints, Bools]:
    """Returns the microseconds of the fields' times, and which are times, [values]."""
    time = _time_of_day(fields)
    if order is not None:
        names = {"dmy": ("last", "middle", "first"), "mdy": ("last", "first", "middle")}
        year, month, day = names.get(order, ("first", "middle", "last"))
        is_short = pc.equal(pc.utf8_length(fields.text("last")), 2)
        short = is_short.to_numpy(zero_copy_only=False)
        times, valid = of_date(
            _year(fields.number(year), short), fields.number(month), fields.number(day), time
        )
        return times, valid & (short | (order != "ymd"))
    short = pc.equal(pc.utf8_length(fields.text("year")), 2).to_numpy(zero_copy_only=False)
    year_number = _year(fields.number("year"), short)
    if fields.has("week"):
        return of_week(year_number, fields.number("week"), fields.number("weekday", 1), time)
    if fields.has("ordinal"):
        return of_ordinal(year_number, fields.number("ordinal"), time)
    has_name = fields.has("name")
    month_number = fields.mapped("name", _MONTHS, 0) if has_name else fields.number("month")
    return of_date(year_number, month_number, fields.number("day", 1), time)


def _year(number: Ints, is_short: Bools) -> Ints:
    full = np.where(number < _CENTURY_FROM, number + 2000, number + 1900)
    return np.where(is_short, full, number)


def _time_of_day(fields: _Fields) -> Day:
    if not fields.has("hour"):
        return Day()
    hour = fields.number("hour")
    half = fields.mapped("half", {"": 0, "a": 1, "p": 2}, 0)
    # On a clock of twelve hours, 12 is 0, and 0 or 13 do not exist.
    hour = np.where(half == 0, hour, np.where((hour < 1) | (hour > 12), 99, hour % 12))
    hour += np.where(half == 2, 12, 0)
    digits = pc.utf8_rpad(pc.utf8_slice_codeunits(fields.text("fraction"), 0, 6), 6, "0")
    micro = pc.cast(digits, pa.int64()).to_numpy()
    offset = fields.mapped("zone", None, 0)
    return Day(hour, fields.number("minute"), fields.number("second"), micro, offset)


def _minutes_ahead(zone: str) -> int:
    """Returns the minutes that a zone is ahead of UTC; too many for any where it is unknown."""
    if not zone:
        return 0
    if zone in _HOURS_AHEAD:
        return 60 * _HOURS_AHEAD[zone]
    digits = zone.removeprefix("utc").removeprefix("gmt")
    if digits[0] not in "+-":
        return _NO_ZONE
    hours, minutes = int(digits[1:3]), int(digits[3:].removeprefix(":") or 0)
    return (-1 if digits[0] == "-" else 1) * (60 * hours + minutes) if minutes < 60 else _NO_ZONE
