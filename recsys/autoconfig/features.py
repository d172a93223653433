"""Choice of the kind of feature that a column becomes, and the reason."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from feature_store.kinds import (
    CategoricalFeature,
    DateFeature,
    Feature,
    IdFeature,
    MultiValuedFeature,
    NumericFeature,
    TextFeature,
    VectorFeature,
)
from pipelines.logs.sampling import ParquetTable
from pipelines.profile.columns import ColumnProfile, NumberSummary, TokenCounts, profile_column
from pipelines.profile.dates import Dates
from recsys.autoconfig import rules
from recsys.autoconfig.figures import count, number, percent
from recsys.autoconfig.names import (
    CALENDAR_WORD,
    CODE_WORD,
    DATE_WORD,
    MEASURE_WORD,
    PLACE_WORD,
    has_word,
    words_of,
)

# Last words in names of columns that hold text, even where it repeats.
_TITLES = (["title"], ["headline"], ["description"], ["summary"])


@dataclass(frozen=True)
class Choice:
    """A column, and the feature that it becomes.

    Args:
        name: Name of the column.
        feature: Feature; None: the column is left out.
        why: Figures that led to the choice.
        is_news: Whether the reader of the terminal should not miss it.
    """

    name: str
    feature: Feature | None
    why: str
    is_news: bool = False


def choose_features(
    table: ParquetTable, id_column: str, bookkeeping: Mapping[str, str]
) -> list[Choice]:
    """Chooses for every column of items or queries but the id, in the order of the file.

    Args:
        table: Items or queries.
        id_column: Column of the ids.
        bookkeeping: Columns that are no features, and the reason for each.
    """
    names = [name for name in table.schema.names if name != id_column]
    return [
        Choice(name, None, f"{bookkeeping[name]}, not a property")
        if name in bookkeeping
        else choose_for(table, name)
        for name in names
    ]


def choose_for(table: ParquetTable, name: str) -> Choice:
    """Reads a column, and chooses the feature that it becomes."""
    are_places, are_dates = (has_word(name, words) for words in (PLACE_WORD, DATE_WORD))
    return choose(profile_column(table, name, are_places=are_places, are_dates=are_dates))


def id_choice(name: str, rows: int, why: str, smallest: int = rules.SMALLEST_DIM) -> Choice:
    """Returns the id as a feature."""
    return Choice(name, IdFeature(name=name, dim=rules.embedding_dim(rows, smallest)), why)


def choose(column: ColumnProfile) -> Choice:
    """Chooses the feature that a column becomes."""
    if not column.name:
        return Choice(column.name, None, "a column without a name")
    if not column.present or column.type == "null":
        return Choice(column.name, None, "no row has a value")
    if column.shape == "other":
        return Choice(column.name, None, f"{column.type} is not supported")
    if column.shape == "vector":
        return _choose_vector(column)
    if column.dates is not None:
        return _choose_dates(column, column.dates)
    if column.shape == "time":
        return Choice(column.name, None, "the same time in every row that has one")
    if column.shape == "float":
        return _choose_number(column)
    if column.values is None or column.values.seen < 2:
        return Choice(column.name, None, "the same value in every row that has one")
    if column.shape == "list":
        return _choose_list(column, column.values)
    if column.shape == "integer":
        if column.is_from_double and not _is_named_like_code(column.name):
            return _choose_number(column)
        return _choose_integer(column, column.values)
    if column.shape == "string":
        return _choose_string(column, column.values)
    return _categorical(column, column.values)


def _choose_vector(column: ColumnProfile) -> Choice:
    length = column.length
    if length is None:
        return Choice(column.name, None, "lists of numbers of several lengths")
    if not 2 <= length <= rules.LONGEST_VECTOR:
        return Choice(column.name, None, f"vectors of length {length:,} are not supported")
    dim = rules.vector_dim(length)
    feature = VectorFeature(name=column.name, dim=dim, length=length)
    return Choice(column.name, feature, f"vectors of {length:,} numbers{_filled(column)}")


def _choose_number(column: ColumnProfile) -> Choice:
    numbers = column.numbers
    if numbers is None or numbers.smallest == numbers.largest:
        return Choice(column.name, None, "the same number in every row that has one")
    keys, shape = _scaling(numbers)
    feature = NumericFeature(name=column.name, dim=rules.NUMBER_DIM, **keys)
    why = f"{number(numbers.smallest)} to {number(numbers.largest)}"
    odd = _odd(column.odd, column.example, "numbers")
    return Choice(
        column.name, feature, f"{why}{shape}{_filled(column)}{odd}", is_news=column.odd > 0
    )


def _choose_dates(column: ColumnProfile, dates: Dates) -> Choice:
    if dates.form == "unclear":
        why = f"dates such as {dates.example}, whose year is not first; write them as 2024-01-31"
        return Choice(column.name, None, why)
    if dates.form == "number":
        choice = _choose_number(column)
        return replace(choice, why=f"{dates.unit}, {dates.span}{_filled(column)}")
    scaling = {"scaling": "quantile"} if abs(dates.skewness) >= rules.SKEWNESS_FROM else {}
    feature = DateFeature.model_validate({"name": column.name, "dim": rules.NUMBER_DIM, **scaling})
    return Choice(
        column.name,
        feature,
        f"{dates.span}{_filled(column)}{_odd(dates.odd, dates.example, 'dates')}",
        is_news=dates.odd > 0,
    )


def _odd(share: float, example: str, what: str) -> str:
    return f", {percent(share)} no {what}, such as {example!r}" if share else ""


def _scaling(numbers: NumberSummary) -> tuple[dict[str, Any], str]:
    """Returns the scaling, where it is not the default, and the reason.

    Ranks bound numbers of any skewness, but lose the distances between them. A logarithm keeps
    them, where it removes the skewness: not for fractions far below 1, for numbers that are mostly
    0, nor for long tails on the lower side.
    """
    smallest = max(numbers.smallest, 1.0)
    magnitudes = math.log10(max(numbers.largest, smallest) / smallest)
    is_wide = numbers.smallest >= 0 and magnitudes >= rules.ORDERS_OF_MAGNITUDE_FROM
    if abs(numbers.skewness) < rules.SKEWNESS_FROM and not is_wide:
        if numbers.farthest >= rules.OUTLIER_FROM:
            return {"scaling": "quantile"}, ", with outliers"
        return {}, ""
    if numbers.smallest >= 0 and abs(numbers.log_skewness) < rules.SKEWNESS_FROM:
        return {"scaling": "log"}, ", skewed"
    return {"scaling": "quantile"}, ", skewed in log too"


def _choose_list(
    column: ColumnProfile, values: TokenCounts, delimiter: str | None = None
) -> Choice:
    if values.once > rules.SINGLES_UP_TO * values.occurrences:
        return Choice(
            column.name,
            None,
            f"{percent(values.once / values.occurrences)} of its values occur once",
        )
    keys, rare = _encoding(values)
    if delimiter is not None:
        keys["delimiter"] = delimiter
    feature = MultiValuedFeature(name=column.name, **keys)
    average = values.occurrences / column.present
    why = f"{count(values, 'value')}{rare}{_filled(column)}, {average:.1f} a row"
    return Choice(column.name, feature, why)


def _choose_integer(column: ColumnProfile, values: TokenCounts) -> Choice:
    if _is_named_like_code(column.name):
        key = _key(column, values)
        if key is not None and has_word(column.name, CALENDAR_WORD):
            return _choose_number(column)
        return key or _categorical(column, values)
    each = column.present / values.seen
    if values.distinct <= rules.CATEGORIES_UP_TO and each >= rules.CATEGORY_ROWS_FROM:
        return _categorical(column, values)
    return _choose_number(column)


def _choose_string(column: ColumnProfile, values: TokenCounts) -> Choice:
    numbers = column.numbers
    if numbers is not None:
        return _choose_digits(column, values, numbers)
    unique = values.seen / column.present
    has_words = column.words_per_value >= rules.WORDS_FROM and unique >= rules.UNIQUE_FROM
    is_long = (
        column.words_per_value >= rules.LONG_TEXT_WORDS and unique >= rules.LONG_TEXT_UNIQUE_FROM
    )
    # Titles that repeat, of editions or of sellers of the same thing, are titles all the same.
    is_title = (
        words_of(column.name)[-1:] in _TITLES
        and column.words_per_value >= rules.WORDS_FROM
        and values.distinct > rules.CATEGORIES_UP_TO
    )
    if column.delimiter is not None and column.parts is not None and not is_title:
        return _choose_list(column, column.parts, column.delimiter)
    if column.words is not None and (has_words or is_long or is_title):
        return _text(column, column.words)
    return _key(column, values) or _categorical(column, values)


def _choose_digits(column: ColumnProfile, values: TokenCounts, numbers: NumberSummary) -> Choice:
    """Chooses for strings of digits, which are codes more often than measures."""
    if column.leading_zero or _is_named_like_code(column.name):
        return _key(column, values) or _categorical(column, values)
    if not numbers.are_whole:
        return _choose_number(column)
    if has_word(column.name, MEASURE_WORD):
        return _choose_integer(column, values)
    few = values.distinct <= rules.DIGIT_CATEGORIES_UP_TO
    repeats = values.seen <= rules.LONG_TEXT_UNIQUE_FROM * column.present
    if few and repeats:
        return _categorical(column, values)
    return _key(column, values) or _choose_number(column)


def _text(column: ColumnProfile, words: TokenCounts) -> Choice:
    if words.seen < 2:
        return Choice(column.name, None, "no row has a word")
    keys, rare = _encoding(words)
    average = f"{column.words_per_value:.1f} a row"
    why = f"{count(words, 'word')}{rare}{_filled(column)}, {average}"
    return Choice(column.name, TextFeature(name=column.name, **keys), why)


def _key(column: ColumnProfile, values: TokenCounts) -> Choice | None:
    """Leaves out a column that tells rows apart and nothing more; None: it is no such key."""
    if values.seen < rules.KEY_FROM * column.present or values.seen < rules.SMALLEST_DIM:
        return None
    return Choice(
        column.name,
        None,
        f"{values.seen:,} values in {column.present:,} rows: a key, not a property",
    )


def _categorical(column: ColumnProfile, values: TokenCounts) -> Choice:
    keys, rare = _encoding(values)
    feature = CategoricalFeature(name=column.name, **keys)
    return Choice(column.name, feature, f"{count(values, 'value')}{rare}{_filled(column)}")


def _is_named_like_code(name: str) -> bool:
    return has_word(name, CODE_WORD)


def _encoding(values: TokenCounts) -> tuple[dict[str, Any], str]:
    """Returns the settings of tokens (dim, and those that are not defaults), and the reason."""
    if values.distinct > rules.HASHED_FROM:
        return {"dim": rules.LARGEST_DIM, "hash_buckets": rules.HASH_BUCKETS}, ", hashed"
    kept, keys, why = values.distinct, {}, ""
    if values.distinct >= rules.RARE_FROM and values.once >= rules.RARE_SHARE_FROM * values.seen:
        keys["min_count"] = rules.RARE_MIN_COUNT
        once = values.once / values.seen
        kept = max(1, round(values.distinct * (1 - once)))
        why = f", {percent(once)} once"
    if kept > rules.MAX_VOCABULARY:
        kept = keys["max_vocabulary"] = rules.MAX_VOCABULARY
    return {"dim": rules.embedding_dim(kept), **keys}, why


def _filled(column: ColumnProfile) -> str:
    if column.present == column.rows:
        return ""
    return f", {percent(column.present / column.rows)} filled"


def features_of(choices: Iterable[Choice]) -> tuple[Feature, ...]:
    """Returns the chosen features, without the columns that are left out."""
    return tuple(choice.feature for choice in choices if choice.feature is not None)
