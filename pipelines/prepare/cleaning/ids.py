"""Ids of a column: strings, what is none, and what looks like one but hardly is."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import MISSING, ids_and_missing, token_strings
from feature_store.schema import Side
from pipelines.statistics.summaries import ColumnSummary

# A query (item) with so large a share of the events, and so many times the events of an average
# one, may stand for all unknown ones, such as -1, 0 or anonymous.
_SHARE_FROM: Mapping[Side, float] = {"query": 0.05, "item": 0.25}
_TIMES_AVERAGE_FROM = 10
_DISTINCT_FROM = 10


# Ids that may be another spelling of an id: with blanks, leading zeros, or a fraction of zeros.
_OTHER_SPELLING = r"^\s|\s$|^0+\d|^\d+\.0+$"
_DIFFERENCES = 'blanks at their ends, leading zeros or ".0"'


@dataclass(frozen=True)
class Ids:
    """The ids of a column.

    Attributes:
        strings: Ids as strings, [rows]; null where there is none.
        missing: Whether no id is given, [rows]; one that is given may be invalid.
        texts: Number of rows by the text that stands for a missing id; blank ones are "".
    """

    strings: pa.Array
    missing: pa.Array
    texts: dict[str, int]


def ids_of(column: pa.ChunkedArray) -> Ids:
    """Converts a column of ids, and counts the texts that stand for missing ones."""
    strings, missing = ids_and_missing(column)
    texts: dict[str, int] = {}
    if missing.true_count > column.null_count:
        given = token_strings(column).filter(missing).drop_null()
        listed = pc.if_else(pc.is_in(given, value_set=pa.array(MISSING)), given, "")
        texts = {pair["values"]: pair["counts"] for pair in pc.value_counts(listed).to_pylist()}
    return Ids(strings, missing, dict(sorted(texts.items())))


def note_on_texts(what: str, parts: Iterable[Mapping[str, int]]) -> Iterator[str]:
    """Yields a sentence on the texts that were taken for missing ids.

    Args:
        what: Noun for the ids, such as `events: query id`.
        parts: Number of rows by text, of each piece.
    """
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part)
    if counts:
        texts = ", ".join(f'"{text}" {n:,} times' for text, n in counts.most_common())
        yield f"{what} missing: {texts}; put aside, for no id is called so (docs/data.md)"


def note_on_share(side: Side, column: ColumnSummary) -> Iterator[str]:
    """Yields a warning if one id has an implausible share of the events."""
    if column.top is None or column.distinct is None or not column.top.counts:
        return
    distinct = column.distinct.count
    text, count = max(column.top.counts.items(), key=lambda pair: pair[1])
    average = (column.values - count) / max(1, distinct - 1)
    is_large = count >= _SHARE_FROM[side] * column.values
    if distinct >= _DISTINCT_FROM and is_large and count >= _TIMES_AVERAGE_FROM * average:
        yield (
            f'warning: {count / column.values:.1%} of the events are of the {side} "{text}", '
            f"{count / average:,.0f} times those of an average one; if it stands for unknown ones, "
            "take these events out of the log"
        )


def note_on_spellings(what: str, ids: pa.Array) -> Iterator[str]:
    """Yields a warning if some ids differ from others in their spelling alone.

    Args:
        what: Noun for the ids, such as `query ids`.
        ids: Distinct ids.
    """
    is_other = pc.match_substring_regex(ids, _OTHER_SPELLING)
    alike, example = _alike(ids.filter(is_other), ids.filter(pc.invert(is_other)))
    if alike:
        yield (
            f"warning: {alike:,} {what} differ from others only in {_DIFFERENCES}, such as "
            f"{example}; if these are the same, write them in one way"
        )


def note_on_unknown(unknown: pa.Array, listed: pa.Array) -> Iterator[str]:
    """Yields a warning if unknown items differ from listed ones in their spelling alone.

    Args:
        unknown: Ids of the events that the table of items does not have.
        listed: Ids that it has.
    """
    alike, example = _alike(unknown, listed)
    if alike:
        yield (
            f"warning: {alike:,} unknown items of the events differ from listed ones only in "
            f"{_DIFFERENCES}, such as {example}; write ids in both tables in one way"
        )


def _alike(ids: pa.Array, known: pa.Array) -> tuple[int, str]:
    """Counts ids that are known by another spelling; also returns an example of both."""
    if not len(ids):
        return 0, ""
    plain, listed = _plain(ids), _plain(known)
    where = pc.index_in(plain, value_set=listed)
    alike = ids.filter(where.is_valid())
    if not len(alike):
        return 0, ""
    # The first of equal spellings is found.
    first = known[pc.index(listed, plain.filter(where.is_valid())[0]).as_py()]
    return len(alike), f'"{alike[0].as_py()}" and "{first.as_py()}"'


def _plain(ids: pa.Array) -> pa.Array:
    """Removes blanks at the ends, a fraction of zeros, and leading zeros."""
    trimmed = pc.utf8_trim_whitespace(ids)
    whole = pc.replace_substring_regex(trimmed, r"^(\d+)\.0+$", r"\1")
    return pc.replace_substring_regex(whole, r"^0+(\d)", r"\1")
