"""The contents of a bundle beside towers, vectors and index: features, ids, filters, snapshot."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import id_strings
from feature_store.core.columns import Column, Ints, write_columns
from feature_store.core.files import write_array, write_text
from feature_store.encoding.numbers import numbers_of, times_of
from feature_store.encoding.tokens import tokens_of
from feature_store.kinds import DateFeature, Filterable, NumericFeature, ScaledFeature
from pipelines.logs.tables import open_source, read_piece
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.evaluation.task import known_to_channels
from recsys.evaluation.titles import item_titles
from serving.bundle.ids import write_ids, write_strings
from serving.bundle.manifest import (
    FILTERS,
    IDS,
    ITEM_FEATURES,
    ITEM_FREQUENCY,
    ITEM_TITLES,
    QUERY_FEATURES,
    QUERY_LATEST,
    QUERY_STATE,
    SCHEMA,
    VOCABULARY,
)
from serving.exporting.towers import visible_item_columns
from serving.recommend.filters.value_lists import NAMES, write_value_lists


def write_contents(directory: Path, config: Config, prepared: Prepared) -> None:
    """Writes features, ids, titles, filters and the snapshot of queries.

    Args:
        directory: Directory of the bundle.
        config: Configuration with the raw items and the filters.
        prepared: Data that the model was trained on.

    Raises:
        UserError: The raw items are no longer there.
    """
    write_text(directory / SCHEMA, prepared.features.model_dump_json(indent=2) + "\n")
    for encoder in (prepared.item_encoder, prepared.query_encoder, prepared.context_encoder):
        encoder.save(directory / VOCABULARY)
    write_ids(directory / IDS, "item", prepared.item_encoder.ids.tokens)
    write_ids(directory / IDS, "query", prepared.query_encoder.ids.tokens)
    write_columns(directory / ITEM_FEATURES, visible_item_columns(prepared))
    write_array(directory / ITEM_FREQUENCY, prepared.item_frequency)
    titles = item_titles(config, prepared)
    if titles is not None:
        write_strings(directory / ITEM_TITLES, "title", titles)
    _write_filters(directory / FILTERS, config, prepared)
    write_columns(directory / QUERY_FEATURES, prepared.query_columns)
    state = prepared.query_state
    items: dict[str, Column] = {
        "history": state.history("test"),
        "known": state.known("test"),
        "later": state.held_out("test"),
        "own": prepared.own_items,
        "read": known_to_channels(prepared, "test"),
    }
    write_columns(directory / QUERY_STATE, items)
    if prepared.latest_event is not None:
        write_array(directory / QUERY_LATEST, prepared.latest_event)


def _write_filters(directory: Path, config: Config, prepared: Prepared) -> None:
    """Writes the items of each raw value, for an encoded one may stand for several."""
    features = _filter_features(config)
    if not features or config.data.items is None:
        return
    ids = prepared.item_encoder.ids
    pairs: dict[str, list[tuple[pa.Array, Ints]]] = defaultdict(list)
    source = open_source(config.data.items, "items")
    id_column = config.data.columns.key_of("item")
    for piece in source.pieces:
        table = read_piece(piece, [id_column, *(feature.name for feature in features)])
        rows = ids.rows(id_strings(table[id_column]))
        for feature in features:
            pairs[feature.name].append(value_pairs(feature, table[feature.name], rows))
    for name, parts in pairs.items():
        values = pa.concat_arrays([values for values, _ in parts])
        write_value_lists(directory, name, values, np.concatenate([items for _, items in parts]))


def value_pairs(feature: Filterable, column: pa.ChunkedArray, rows: Ints) -> tuple[pa.Array, Ints]:
    """Lists each raw value with an item that has it, [pairs].

    Args:
        feature: Feature, by which a value is cut into tokens, or read as a number or a date.
        column: Raw values, [items].
        rows: Indices of the items, [items]; items with a negative one are left out.
    """
    if isinstance(feature, NumericFeature | DateFeature):
        values = _ordered_values(feature, column)
        kept = values.is_valid().to_numpy(zero_copy_only=False) & (rows >= 0)
        return values.filter(pa.array(kept)), rows[kept]
    tokens, lengths = tokens_of(feature, column)
    items = np.repeat(rows, lengths)
    kept = items >= 0
    return tokens.filter(pa.array(kept)).cast(NAMES), items[kept]


def _ordered_values(feature: ScaledFeature, column: pa.ChunkedArray) -> pa.Array:
    """Returns numbers or dates, null where a value is none."""
    if isinstance(feature, DateFeature):
        return times_of(column)
    numbers = numbers_of(column)
    return pc.if_else(pc.is_finite(numbers), numbers, None)


def _filter_features(config: Config) -> list[Filterable]:
    named = config.export.filters
    return [
        feature
        for feature in config.features.item
        if isinstance(feature, Filterable) and (named is None or feature.name in named)
    ]
