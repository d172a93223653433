"""Slices of items and queries: by age, by history, by the values of a feature."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from feature_store.core.columns import Bools, Column, Ints, Jagged
from feature_store.core.times import DAY
from feature_store.encoding.encoder import OOV_ROW, SideEncoder
from feature_store.kinds import AnyFeature
from feature_store.schema import qualified
from pipelines.prepared.examples import SPLITS
from pipelines.prepared.reader import Prepared
from recsys.config.evaluation import HISTORY_LENGTH, ITEM_AGE

_HISTORY_LENGTHS = (1, 3, 6, 11, 21, 51)
_AGES = {"a day": 1, "a week": 7, "30 days": 30, "90 days": 90, "a year": 365}
_RARE, _NONE, _OTHERS = "(rare values)", "(no value)", "(others)"

Members = dict[str, Bools]


@dataclass(frozen=True)
class Slices:
    """Slices by the dividing attribute and then by name; an item or a query may be in several.

    Attributes:
        items: Members of slices of items, [items].
        queries: Members of slices of the evaluated queries, [queries].
    """

    items: dict[str, Members] = field(default_factory=dict)
    queries: dict[str, Members] = field(default_factory=dict)


def build_slices(
    names: Sequence[str],
    prepared: Prepared,
    *,
    queries: Ints,
    held_out: Jagged,
    history: Jagged,
    most_values: int,
) -> Slices:
    """Builds the slices that a configuration asks for, without empty ones.

    Args:
        names: Names in `evaluation.slices`.
        prepared: Prepared data, for the features.
        queries: Indices of the evaluated queries, [queries].
        held_out: Held-out items, [queries].
        history: Histories of the queries, [queries].
        most_values: Number of a feature's values that get a slice; the rest share one.
    """
    slices = Slices()
    for name in names:
        if name == HISTORY_LENGTH:
            slices.queries[name] = _by_bounds(history.lengths, _HISTORY_LENGTHS)
        elif name == ITEM_AGE:
            slices.items[name] = _by_age(prepared)
        elif name.startswith("item."):
            feature, encoder = _feature(name, prepared.item_encoder)
            times = np.bincount(held_out.values, minlength=prepared.num_items)
            column = prepared.item_columns[feature.name]
            slices.items[name] = _by_value(column, feature, encoder, times, most_values)
        else:
            feature, encoder = _feature(name, prepared.query_encoder)
            column = prepared.query_columns[feature.name].take(queries)
            slices.queries[name] = _by_value(
                column, feature, encoder, held_out.lengths, most_values
            )
    return slices


def _feature(name: str, encoder: SideEncoder) -> tuple[AnyFeature, SideEncoder]:
    return next(f for f in encoder.features if qualified(encoder.side, f) == name), encoder


def _by_bounds(numbers: Ints, bounds: Sequence[int]) -> Members:
    """Returns slices of the numbers below the first bound, up to the second, and so on."""
    position = np.searchsorted(bounds, numbers, side="right")
    ends = [*bounds, None]
    names = ["0" if bounds[0] == 1 else f"0-{bounds[0] - 1}"]
    for start, end in zip(bounds, ends[1:], strict=True):
        names.append(f"{start} or more" if end is None else f"{start}-{end - 1}")
    return {name: position == i for i, name in enumerate(names) if (position == i).any()}


def _by_age(prepared: Prepared) -> Members:
    """Slices items by the time from their first event of any split to the last training event."""
    first = np.full(prepared.num_items, np.iinfo(np.int64).max)
    latest = np.iinfo(np.int64).min
    for split in SPLITS:
        for path in prepared.examples(split):
            table = pq.read_table(path, columns=["item", "timestamp"])
            times = table["timestamp"].to_numpy().astype("datetime64[us]").astype(np.int64)
            np.minimum.at(first, table["item"].to_numpy(), times)
            if split == "train" and len(times):
                latest = max(latest, int(times.max()))
    is_known = first <= latest
    days = np.where(is_known, latest - np.minimum(first, latest), 0) / DAY
    members = {"later than training": ~is_known & (first < np.iinfo(np.int64).max)}
    lower = 0
    for name, upper in _AGES.items():
        members[f"up to {name}"] = is_known & (days >= lower) & (days < upper)
        lower = upper
    members["older"] = is_known & (days >= lower)
    return {name: is_in for name, is_in in members.items() if is_in.any()}


def _by_value(
    column: Column, feature: AnyFeature, encoder: SideEncoder, times: Ints, most: int
) -> Members:
    """Returns the rows that have a value, for each of the most frequent values.

    Args:
        column: Encoded column.
        feature: Feature of the column.
        encoder: Encoder, which names the values.
        times: Number of held-out pairs of each row, [rows].
        most: Number of values.
    """
    assert isinstance(column, Jagged)
    row = column.row_of_value()
    rows_of_table = encoder.num_embeddings(feature)
    weight = np.bincount(column.values, times[row], rows_of_table)
    order = np.lexsort((np.arange(rows_of_table), -weight))
    chosen = [int(value) for value in order[:most] if weight[value] > 0]
    members: Members = {}
    for value in chosen:
        members[value_name(value, feature, encoder)] = _have(row, column.values == value, column)
    members[_OTHERS] = _have(row, ~np.isin(column.values, chosen), column)
    members[_NONE] = column.lengths == 0
    return {name: is_in for name, is_in in members.items() if (times * is_in).any()}


def _have(row: Ints, is_value: npt.NDArray[np.bool_], column: Jagged) -> Bools:
    is_in = np.zeros(len(column), bool)
    is_in[row[is_value]] = True
    return is_in


def value_name(value: int, feature: AnyFeature, encoder: SideEncoder) -> str:
    """Returns the token of a row of the feature's table; rare values share one name."""
    shared = feature.shared_table
    if shared is not None and encoder.items is not None:
        feature, encoder = _feature(shared, encoder.items)
    is_id = feature.is_id
    if value == OOV_ROW and not is_id:
        return _RARE
    vocabulary = encoder.vocabulary(feature)
    assert vocabulary is not None
    return str(vocabulary.tokens[value - vocabulary.first_row].as_py())
