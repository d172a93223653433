"""Profiles of the columns of a Parquet table."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import id_strings, missing_ids
from feature_store.encoding.numbers import numbers_of
from feature_store.encoding.tokens import tokens_of
from feature_store.kinds import MultiValuedFeature, TextFeature
from pipelines.logs.sampling import ParquetTable
from pipelines.profile.dates import Dates, find_dates, skewness
from pipelines.profile.delimiters import find_delimiter

# Bounds of the text that is split into words, and of the vectors that are measured.
_MAX_TEXT_BYTES = 1 << 25
_MAX_VECTORS = 10_000
# Part of strings that are numbers, where the others are one text such as Unknown, or several.
_BESIDE_ONE_TEXT, _BESIDE_TEXTS = 0.5, 0.95

Shape = Literal["string", "integer", "float", "boolean", "time", "list", "vector", "other"]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TokenCounts:
    """Counts of a column's values.

    Attributes:
        occurrences: Number of values read, repeats included.
        seen: Number of distinct values among them.
        once: Number of values that occur once among them.
        distinct: Distinct values of the whole column; an estimate where only a sample was read.
    """

    occurrences: int
    seen: int
    once: int
    distinct: int


@dataclass(frozen=True)
class NumberSummary:
    """The finite numbers of a column.

    Attributes:
        smallest: Smallest number.
        largest: Largest number.
        are_whole: Whether all are integers.
        farthest: Distance of the farthest number from the mean, in standard deviations.
        skewness: Skewness of the numbers.
        log_skewness: Skewness of sign(x) log(1 + |x|).
    """

    smallest: float
    largest: float
    are_whole: bool
    farthest: float
    skewness: float
    log_skewness: float


@dataclass(frozen=True)
class ColumnProfile:
    """The profile of a column.

    Attributes:
        name: Name of the column.
        type: Arrow type, in words.
        shape: Form of the values; `list` is a list of strings or whole numbers.
        rows: Number of rows read.
        exact: Whether these are all rows.
        present: Number of rows read that hold a value; an empty list is none.
        values: Counts of strings, whole numbers, booleans and elements of lists.
        words: Counts of the words of strings, split as for a text feature.
        words_per_value: Mean number of blank-separated words of a string.
        delimiter: Delimiter of strings that hold several values, such as `Drama|Comedy`.
        parts: Counts of these values.
        leading_zero: Whether a string of digits begins with 0, as codes do.
        numbers: Summary of numbers, and of strings that are numbers but for a few.
        odd: Part of the strings that are no numbers, where the others are.
        example: One of them.
        dates: Dates of any column.
        length: Length of vectors, where all have the same.
        is_from_double: Whether integers are stored as doubles, as pandas does beside nulls.
    """

    name: str
    type: str
    shape: Shape
    rows: int
    exact: bool
    present: int
    values: TokenCounts | None = None
    words: TokenCounts | None = None
    words_per_value: float = 0.0
    delimiter: str | None = None
    parts: TokenCounts | None = None
    leading_zero: bool = False
    numbers: NumberSummary | None = None
    odd: float = 0.0
    example: str = ""
    dates: Dates | None = None
    length: int | None = None
    is_from_double: bool = False


def profile_column(
    table: ParquetTable, name: str, *, are_places: bool = False, are_dates: bool = False
) -> ColumnProfile:
    """Reads one column, or a sample of it, and sums it up.

    Args:
        table: Table of the column.
        name: Name of the column.
        are_places: Whether the name says that strings are places; see `find_delimiter`.
        are_dates: Whether the name says that numbers are dates; see `find_dates`.
    """
    kind = table.schema.field(name).type
    shape = _shape(kind)
    if shape == "other":
        return ColumnProfile(name, str(kind), shape, table.rows, True, table.rows)
    array, exact = table.read(name, _MAX_VECTORS) if shape == "vector" else table.read(name)
    share = 1.0 if exact else len(array) / table.rows
    basis = ColumnProfile(name, str(kind), shape, len(array), exact, len(array) - array.null_count)
    fields = dict(vars(basis))
    if shape in ("string", "integer", "float", "time"):
        fields["dates"] = find_dates(array, named_so=are_dates)
    if pa.types.is_floating(kind):
        whole = _as_integers(array)
        if whole is not None:
            fields["shape"], shape, array = "integer", "integer", whole
            fields["is_from_double"] = True
    if shape == "vector":
        return ColumnProfile(**{**fields, "length": _constant_length(array)})
    if shape == "list":
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        fields["present"] = int(pc.sum(pc.greater(lengths, 0)).as_py() or 0)
        return ColumnProfile(**{**fields, "values": count_values(pc.list_flatten(array), share)})
    if shape not in ("float", "time"):
        fields["values"] = count_values(array, share)
    if shape in ("integer", "float"):
        numbers = pc.cast(array.drop_null(), pa.float64(), safe=False).to_numpy()
        return ColumnProfile(**{**fields, "numbers": _summary(numbers)})
    if shape == "string":
        fields.update(_of_strings(array.drop_null(), share, are_places))
    return ColumnProfile(**fields)


def _as_integers(array: pa.Array) -> pa.Array | None:
    """Returns the integers that pandas wrote as doubles for the sake of nulls; None for others."""
    missing = missing_ids(array).true_count
    if not 0 < missing < len(array):
        return None
    texts = id_strings(array)
    return texts.cast(pa.int64()) if texts.null_count == missing else None


def _shape(kind: pa.DataType) -> Shape:
    types = pa.types
    if types.is_string(kind):
        return "string"
    if types.is_integer(kind):
        return "integer"
    if types.is_floating(kind) or types.is_decimal(kind):
        return "float"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_timestamp(kind) or types.is_date(kind):
        return "time"
    if types.is_list(kind) or types.is_fixed_size_list(kind):
        element = _shape(kind.value_type)
        if element in ("string", "integer"):
            return "list"
        if element == "float":
            return "vector"
    return "other"


def count_values(array: pa.Array, share: float) -> TokenCounts:
    """Counts the values that are not null; `share` is the part of the column that was read."""
    counts = pc.value_counts(array.drop_null()).field("counts").to_numpy()
    seen, once, twice = len(counts), int((counts == 1).sum()), int((counts == 2).sum())
    distinct = seen
    if share < 1:
        # Chao's estimate of the unseen values; there cannot be more than in proportion.
        distinct = round(min(seen / share, seen + once * (once - 1) / (2 * (twice + 1))))
    return TokenCounts(int(counts.sum()), seen, once, distinct)


def _summary(numbers: Numbers) -> NumberSummary | None:
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return None
    return NumberSummary(
        smallest=float(finite.min()),
        largest=float(finite.max()),
        are_whole=bool((finite == np.floor(finite)).all()),
        farthest=float(abs(finite - finite.mean()).max() / (finite.std() or 1.0)),
        skewness=skewness(finite),
        log_skewness=skewness(np.sign(finite) * np.log1p(np.abs(finite))),
    )


def _constant_length(array: pa.Array) -> int | None:
    lengths = pc.unique(pc.list_value_length(array).drop_null()).to_pylist()
    return int(lengths[0]) if len(lengths) == 1 else None


def _of_strings(strings: pa.Array, share: float, are_places: bool) -> dict[str, object]:
    """Computes the fields of a profile that only strings have."""
    if not len(strings):
        return {}
    numbers, leading_zero, odd = None, False, _odd_texts(strings)
    if odd is not None:
        numbers = _summary(numbers_of(strings).drop_null().to_numpy())
        leading_zero = pc.any(pc.match_substring_regex(strings, "^0[0-9]")).as_py()
    words = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(strings)))
    words_per_value = float(pc.mean(words).as_py())
    step = max(1, strings.nbytes // _MAX_TEXT_BYTES)
    some = strings.take(pa.array(np.arange(0, len(strings), step)))
    tokens, _ = tokens_of(TextFeature(name="words", dim=4), some)
    delimiter, parts = find_delimiter(some, are_places=are_places), None
    if delimiter is not None:
        split = MultiValuedFeature(name="parts", dim=4, delimiter=delimiter)
        parts = count_values(tokens_of(split, some)[0], share / step)
    return {
        "numbers": numbers,
        "odd": len(odd) / len(strings) if odd is not None else 0.0,
        "example": odd[0].as_py() if odd is not None and len(odd) else "",
        "leading_zero": leading_zero,
        "words": count_values(tokens, share / step),
        "words_per_value": words_per_value,
        "delimiter": delimiter,
        "parts": parts,
    }


def _odd_texts(strings: pa.Array) -> pa.Array | None:
    """Returns the strings that are no numbers, where the others are; None where few are numbers."""
    odd = strings.filter(numbers_of(strings).is_nan())
    share = 1 - len(odd) / len(strings)
    least = _BESIDE_ONE_TEXT if len(pc.unique(odd)) <= 1 else _BESIDE_TEXTS
    return odd if share >= least else None
