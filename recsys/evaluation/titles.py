"""Titles of items."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import id_strings, token_strings
from feature_store.kinds import TextFeature
from pipelines.logs.tables import open_source, read_piece
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config

_TITLE_COLUMNS = ("title", "name")


def item_titles(config: Config, prepared: Prepared) -> pa.Array | None:
    """Reads the display names of the items from the raw items file.

    The column is the one called title or name, else the first text feature's.

    Args:
        config: Configuration, which names the items file.
        prepared: Prepared data of the same items.

    Returns:
        [items] strings in the order of item indices, the id where an item has no title; None where
        no column holds titles.

    Raises:
        UserError: The items file is no longer there, or is not Parquet.
    """
    if config.data.items is None:
        return None
    source = open_source(config.data.items, "items")
    column = _title_column(config, source.schema)
    if column is None:
        return None
    id_column = config.data.columns.key_of("item")
    ids = prepared.item_encoder.ids.tokens
    titles = np.array(ids.to_pylist(), object)
    for piece in source.pieces:
        table = read_piece(piece, [id_column, column])
        texts = token_strings(table[column])
        rows = prepared.item_encoder.ids.rows(id_strings(table[id_column]))
        has_title = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(texts), ""), False)
        kept = has_title.to_numpy(zero_copy_only=False) & (rows >= 0)
        titles[rows[kept]] = texts.filter(pa.array(kept)).to_pylist()
    return pa.array(titles, pa.string())


def _title_column(config: Config, schema: pa.Schema) -> str | None:
    strings = [field.name for field in schema if pa.types.is_string(field.type)]
    named = [name for title in _TITLE_COLUMNS for name in strings if name.lower() == title]
    texts = [
        feature.name
        for feature in config.features.item
        if isinstance(feature, TextFeature) and feature.name in strings
    ]
    return next(iter(named + texts), None)
