"""The columns that a configuration names, and the files of a table that cannot give them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from feature_store.calendar.reading import is_time_type
from feature_store.core.arrow import common_type
from feature_store.core.errors import UserError
from feature_store.kinds import ColumnFeature, IdFeature, ListFeature, Raw
from feature_store.schema import FeatureSchema, Side
from pipelines.logs.columns import plain_type
from pipelines.logs.files import Layout
from pipelines.settings import DataConfig, GivenSplit
from pipelines.urls import shown

Fits = Callable[[pa.DataType], bool]
_ID = "string or integer"


@dataclass(frozen=True)
class Need:
    """A column that is read.

    Attributes:
        name: Name of the column.
        key: Key of the configuration that names it.
        fits: Test of its type.
        expected: Types that pass it.
        in_every_file: Whether a file without it is useless; otherwise it is null there.
    """

    name: str
    key: str
    fits: Fits
    expected: str
    in_every_file: bool = False


@dataclass(frozen=True)
class Findings:
    """Faults of the files of a table.

    Attributes:
        faults: Reasons why a file cannot be used, by file: the end of a sentence about it.
        notes: Sentences on columns that are null in some files.
    """

    faults: dict[str, str]
    notes: tuple[str, ...]


def needs_of_events(data: DataConfig, features: FeatureSchema) -> Iterator[Need]:
    """Yields the columns of the events."""
    columns, number = data.columns, "a number"
    yield Need(columns.query_id, "data.columns.query_id", is_id_type, _ID, in_every_file=True)
    yield Need(columns.item_id, "data.columns.item_id", is_id_type, _ID, in_every_file=True)
    if columns.timestamp is not None:
        expected = "whole numbers, Arrow timestamps, dates or text"
        key = "data.columns.timestamp"
        yield Need(columns.timestamp, key, is_time_type, expected, in_every_file=True)
    if columns.rating is not None:
        yield Need(columns.rating, "data.columns.rating", _is_number, number)
    if columns.weight is not None:
        yield Need(columns.weight, "data.columns.weight", _is_number, number)
    if columns.event_type is not None:
        expected = "string, integer or boolean"
        yield Need(columns.event_type, "data.columns.event_type", _is_token, expected)
    if isinstance(data.split, GivenSplit):
        yield Need(data.split.column, "data.split.column", pa.types.is_string, "string")
    for feature in features.context_columns:
        yield _need_of_feature(feature, "features.context")


def needs_of_side(side: Side, data: DataConfig, features: FeatureSchema) -> Iterator[Need]:
    """Yields the columns of the table of items or queries."""
    columns = data.columns
    own = columns.item_key if side == "item" else columns.query_key
    key = f"data.columns.{side}_{'id' if own is None else 'key'}"
    yield Need(columns.key_of(side), key, is_id_type, _ID, in_every_file=True)
    for feature in features.side(side):
        if not isinstance(feature, IdFeature):  # Its values are the catalogue's ids.
            yield _need_of_feature(feature, f"features.{side}")


def _need_of_feature(feature: ColumnFeature, key: str) -> Need:
    forms: dict[Raw, tuple[Fits, str]] = {
        "token": (_is_token, "string, integer or boolean"),
        "tokens": (lambda kind: _is_list_of(kind, _is_token), "a list of strings"),
        "text": (pa.types.is_string, "string"),
        "number": (lambda kind: _is_number(kind) or pa.types.is_string(kind), "a number"),
        "numbers": (lambda kind: _is_list_of(kind, _is_number), "a list of numbers"),
        "date": (is_time_type, "a date"),
    }
    fits, expected = forms[feature.raw]
    expected = f"{expected} for kind {feature.kind}"
    if isinstance(feature, ListFeature):
        expected += ", or strings and their delimiter"
        if feature.delimiter is not None:
            return Need(feature.name, key, _is_joined_or_list, expected)
    return Need(feature.name, key, fits, expected)


def _is_joined_or_list(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or _is_list_of(kind, _is_token)


def find_faults(table: str, layouts: Sequence[Layout], needs: Sequence[Need]) -> Findings:
    """Compares the files of a table with what is needed of them.

    Raises:
        UserError: No file has a column, or has it in a type that can be used.
    """
    faults: dict[str, str] = {}
    notes: list[str] = []
    for need in needs:
        _require_in_some(table, layouts, need)
        lacking: list[str] = []
        for layout in layouts:
            fault = _fault(layout, need) or _other_type(table, layouts, layout, need)
            if fault is not None:
                faults = dict.fromkeys(layout.files, fault) | faults  # The first one counts.
            if fault is None and need.name not in layout.columns.names:
                lacking += layout.files
        if lacking:
            total = sum(len(layout.files) for layout in layouts)
            notes.append(
                f"{table}: column {need.name!r} is null in {len(lacking):,} of {total:,} files, "
                f"which lack it, such as {shown(lacking[0])}"
            )
    return Findings(faults, tuple(notes))


def _fault(layout: Layout, need: Need) -> str | None:
    names = layout.columns.names
    if need.name in layout.repeated:
        return f"has two columns {need.name!r}, rename one"
    if need.name in names:
        kind = layout.columns.field(need.name).type
        if pa.types.is_null(kind) or need.fits(kind):
            return None
        return f"has {kind} in column {need.name!r}, expected {need.expected}"
    alike = next((name for name in names if name.lower() == need.name.lower()), None)
    if alike is not None:
        return f"has {alike!r} in place of {need.name!r}"
    return f"has no column {need.name!r}" if need.in_every_file else None


def _other_type(table: str, layouts: Sequence[Layout], layout: Layout, need: Need) -> str | None:
    """Compares a type with that of most files.

    Events are read in the types of their files, but times are recognised in all files at once.
    """
    having = [each for each in layouts if need.name in each.columns.names]
    if layout not in having or (table == "events" and not need.in_every_file):
        return None
    most = max(having, key=lambda each: len(each.files)).columns.field(need.name).type
    kind = layout.columns.field(need.name).type
    if common_type(most, kind) is not None:
        return None
    return f"has {kind} in column {need.name!r}, where most files have {most}"


def _require_in_some(table: str, layouts: Sequence[Layout], need: Need) -> None:
    having = [layout for layout in layouts if need.name in layout.columns.names]
    if not having:
        names = dict.fromkeys(name for layout in layouts for name in layout.columns.names)
        raise UserError(
            f"{table} column {need.name!r} not found; the log has: {', '.join(names)}. "
            f"Set {need.key}."
        )
    kinds = [layout.columns.field(need.name).type for layout in having if not layout.repeated]
    if kinds and not any(map(need.fits, kinds)):
        raise UserError(
            f"{table} column {need.name!r} is {kinds[0]}; expected {need.expected}. "
            f"Convert it, or set {need.key} to another column."
        )


def is_id_type(kind: pa.DataType) -> bool:
    """Checks whether values of a type may be ids; whether a double is whole, each value tells."""
    types = pa.types
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(types.is_string(kind) or is_number)


def _is_token(kind: pa.DataType) -> bool:
    return is_id_type(kind) or pa.types.is_boolean(kind)


def _is_number(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _is_list_of(kind: pa.DataType, fits: Fits) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and fits(plain_type(kind.value_type))
