"""Delimiters of strings that hold several values, such as `Drama|Comedy`.

A bar, a semicolon or an arrow between words is a delimiter wherever the parts come back. A comma or
a slash is as often punctuation: of a title, a person's name, a date, a path. So between their parts
must be letters, few words, and either far fewer different parts than different strings (as in lists
of genres), or a last part that is one of a few (as in `city, state, country`).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Strings that are looked at, spread evenly.
_LOOKED_AT = 20_000
# Part of the strings that hold a delimiter; with a place at their end, nearly all do.
_JOINED_FROM, _ENDS_FROM = 0.2, 0.8
# Parts that nearly never repeat are no values of a set.
_SINGLES_UP_TO = 0.9
# Blank-separated words of a part of a list.
_WORDS_UP_TO = 3.0
# Distinct parts, and distinct last parts, per distinct string.
_PARTS_UP_TO, _ENDS_UP_TO = 0.5, 0.1
_SURE, _DOUBTFUL = ("|", ";", ">"), (",", "/")
# Addresses on the web, paths, markup and lists that a program printed are no such strings.
_OTHER = r"://|^[/\\.<{\[(]|[>}\])]$"


@dataclass(frozen=True)
class _Parts:
    """The parts of some strings at a delimiter.

    Attributes:
        joined: Share of strings that hold the delimiter.
        wholes: Number of distinct strings.
        distinct: Number of distinct parts.
        once: Share of the parts that occur once.
        ends: Number of distinct last parts of strings that hold the delimiter.
        words: Mean number of words of a part.
        letters: Share of the parts with a letter.
    """

    joined: float
    wholes: int
    distinct: int
    once: float
    ends: int
    words: float
    letters: float

    @property
    def repeats(self) -> bool:
        """Whether parts are values that come back."""
        return self.joined >= _JOINED_FROM and self.once <= _SINGLES_UP_TO

    @property
    def is_list(self) -> bool:
        """Whether strings are combinations of few values, in words."""
        return self._is_of_words and self.distinct <= _PARTS_UP_TO * self.wholes

    @property
    def ends_in_few(self) -> bool:
        """Whether strings go from the particular to the general, as places do."""
        is_usual = self._is_of_words and self.joined >= _ENDS_FROM
        return is_usual and 1 < self.ends <= _ENDS_UP_TO * self.wholes

    @property
    def _is_of_words(self) -> bool:
        return self.words <= _WORDS_UP_TO and self.letters >= 0.5


def find_delimiter(strings: pa.Array, *, are_places: bool = False) -> str | None:
    """Returns the delimiter between the values of strings; None where they are single values.

    Args:
        strings: Strings without nulls.
        are_places: Whether the name of the column says that these are places.
    """
    step = max(1, len(strings) // _LOOKED_AT)
    some = pc.utf8_trim_whitespace(strings.take(pa.array(np.arange(0, len(strings), step))))
    if not len(some) or pc.mean(pc.match_substring_regex(some, _OTHER)).as_py() >= _JOINED_FROM:
        return None
    for delimiter in (*_SURE, *_DOUBTFUL):
        if pc.mean(pc.match_substring(some, delimiter)).as_py() < _JOINED_FROM:
            continue
        found = _parts(some, delimiter)
        is_sure = delimiter in _SURE or found.is_list
        is_place = delimiter == "," and (found.ends_in_few or (are_places and found.repeats))
        if found.repeats and (is_sure or is_place):
            return delimiter
    return None


def _parts(strings: pa.Array, delimiter: str) -> _Parts:
    split = pc.split_pattern(strings, delimiter)
    parts = pc.utf8_trim_whitespace(pc.list_flatten(split))
    parts = parts.filter(pc.not_equal(parts, ""))
    counts = pc.value_counts(parts)
    times = counts.field("counts").to_numpy()
    joined = pc.match_substring(strings, delimiter)
    words = pc.list_value_length(pc.utf8_split_whitespace(parts))
    last = np.cumsum(pc.list_value_length(split).to_numpy()) - 1
    ends = pc.utf8_trim_whitespace(pc.list_flatten(split).take(pa.array(last)).filter(joined))
    return _Parts(
        joined=float(pc.mean(joined).as_py()),
        wholes=len(pc.unique(strings)),
        distinct=len(counts),
        once=float((times == 1).sum() / max(1, times.sum())),
        ends=len(pc.unique(ends)),
        words=float(pc.mean(words).as_py() or 0.0),
        letters=float(pc.mean(pc.match_substring_regex(parts, r"\pL")).as_py() or 0.0),
    )
