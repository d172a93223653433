"""The one encoder of raw feature values as table rows and numbers, for offline and online use."""

from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from feature_store.core.arrow import id_strings
from feature_store.core.columns import Column, Dense, Ints, Jagged
from feature_store.core.documents import read_object
from feature_store.core.files import write_json
from feature_store.core.hashing import bucket_rows, token_digests
from feature_store.encoding.context import encode_time
from feature_store.encoding.scaling import (
    Scaling,
    dense_values,
    scaling_from_json,
    scaling_to_json,
)
from feature_store.encoding.tokens import tokens_of
from feature_store.encoding.vocabulary import Vocabulary
from feature_store.kinds import AnyFeature, DenseFeature, IdFeature, TimeFeature, TokenFeature
from feature_store.schema import FeatureGroup, FeatureSchema, qualified

OOV_ROW = 0
# The context has no catalogue. `pa.array` would import pandas, which takes a tenth of a second.
NO_IDS = Vocabulary(pa.nulls(0, pa.string()), pa.nulls(0, pa.int64()), 0)


class SideEncoder:
    """Encodes the features of items, of queries, or of the context.

    Args:
        side: Side of the features, or the context.
        features: Features to encode.
        ids: Catalogue: id to index; `NO_IDS` for the context.
        vocabularies: Vocabularies by feature name, of the features that have one.
        scalings: Scalings by feature name, of the dense features.
        items: Encoder of the items, where features share its tables.
    """

    def __init__(
        self,
        side: FeatureGroup,
        features: tuple[AnyFeature, ...],
        ids: Vocabulary,
        vocabularies: dict[str, Vocabulary],
        scalings: dict[str, Scaling],
        items: "SideEncoder | None" = None,
    ) -> None:
        self.side = side
        self.features = features
        self.ids = ids
        self.vocabularies = vocabularies
        self.scalings = scalings
        self.items = items

    def num_embeddings(self, feature: AnyFeature) -> int:
        """Returns the number of rows of a sparse feature's embedding table."""
        owner, feature = self._owner(feature)
        if owner is not self:
            return owner.num_embeddings(feature)
        if feature.is_id:
            return max(1, self._rows_of(feature).num_embeddings)
        if isinstance(feature, TimeFeature):
            return feature.num_embeddings
        assert isinstance(feature, TokenFeature)
        if feature.hash_buckets is not None:
            return feature.hash_buckets + 1
        return self.vocabularies[feature.name].num_embeddings

    def encode(self, table: pa.Table) -> dict[str, Column]:
        """Encodes every feature that `table` has a column for; the others are absent.

        Args:
            table: Raw values, a row for each item, query or event. The id feature's column holds
                ids, and that of a feature of time holds the values of `time_values`.
        """
        return {feature.name: self._encode_feature(feature, table) for feature in self.features}

    def _encode_feature(self, feature: AnyFeature, table: pa.Table) -> Column:
        if feature.name not in table.column_names:
            return _absent(feature, table.num_rows)
        column = table[feature.name]
        if isinstance(feature, TimeFeature):
            return encode_time(feature, column)
        if isinstance(feature, DenseFeature):
            numbers, present = dense_values(feature, column)
            scaled = self.scalings[feature.name].scale(numbers)
            return Dense(np.where(present[:, None], scaled, 0.0).astype(np.float32), present)
        if isinstance(feature, IdFeature):
            return present_rows(self.rows_of_ids(id_strings(column)))
        return self._encode_tokens(feature, column)

    def _encode_tokens(self, feature: TokenFeature, column: pa.ChunkedArray) -> Jagged:
        tokens, lengths = tokens_of(feature, column)
        encoded = tokens.dictionary_encode()
        owner, owning = self._owner(feature)
        distinct = owner._rows_of_tokens(owning, encoded.dictionary)
        rows = Jagged.from_lengths(distinct[encoded.indices.to_numpy()], lengths)
        return rows.keep(rows.values >= 0) if owning.is_id else rows

    def rows_of_ids(self, ids: pa.Array) -> Ints:
        """Looks ids up in the id feature's table: rows, [ids] int32, -1 where an id has none."""
        owner, owning = self._owner(next(f for f in self.features if f.is_id))
        return owner._rows_of(owning).rows(ids)

    def _rows_of(self, feature: AnyFeature) -> Vocabulary:
        """Returns the vocabulary of the feature's table."""
        vocabulary = self.vocabulary(feature)
        assert vocabulary is not None
        return vocabulary

    def vocabulary(self, feature: AnyFeature) -> Vocabulary | None:
        """Returns the vocabulary of a feature's own table; None where rows are none's tokens."""
        return self.vocabularies.get(feature.name, self.ids if feature.is_id else None)

    def _owner(self, feature: AnyFeature) -> tuple["SideEncoder", AnyFeature]:
        """Returns the encoder and feature whose table a feature reads: its own or a shared one."""
        shared = feature.shared_table
        if shared is None:
            return self, feature
        assert self.items is not None
        return self.items, next(f for f in self.items.features if qualified("item", f) == shared)

    def _rows_of_tokens(self, feature: AnyFeature, tokens: pa.Array) -> Ints:
        """Looks tokens up: rows, [tokens] int32, -1 for unknown ids."""
        if feature.is_id:
            return self._rows_of(feature).rows(tokens)
        assert isinstance(feature, TokenFeature)
        if feature.hash_buckets is not None:
            return bucket_rows(token_digests(tokens), feature.hash_buckets)
        rows = self.vocabularies[feature.name].rows(tokens)
        return np.where(rows < 0, OOV_ROW, rows).astype(np.int32)

    def save(self, directory: Path) -> None:
        """Writes `<side>_id.parquet`, `<side>.<feature>.parquet` and `<side>.scaling.json`."""
        if self.side != "context":
            self.ids.save(directory / f"{self.side}_id.parquet")
        for name, vocabulary in self.vocabularies.items():
            vocabulary.save(directory / file_name(f"{self.side}.{name}"))
        scalings = {name: scaling_to_json(scaling) for name, scaling in self.scalings.items()}
        write_json(directory / f"{self.side}.scaling.json", scalings)

    @classmethod
    def load(cls, directory: Path, schema: FeatureSchema, side: FeatureGroup) -> "SideEncoder":
        """Reads what `save` wrote."""
        features = schema.of(side)
        vocabularies = {
            feature.name: Vocabulary.load(directory / file_name(qualified(side, feature)))
            for feature in features
            if feature.has_vocabulary
        }
        raw = read_object(directory / f"{side}.scaling.json")
        scalings = {name: scaling_from_json(value) for name, value in raw.items()}
        has_ids = side != "context"
        ids = Vocabulary.load(directory / f"{side}_id.parquet") if has_ids else NO_IDS
        is_shared = any(feature.shared_table is not None for feature in features)
        items = cls.load(directory, schema, "item") if is_shared else None
        return cls(side, features, ids, vocabularies, scalings, items)


def _absent(feature: AnyFeature, rows: int) -> Column:
    if feature.is_sparse:
        return Jagged(np.empty(0, np.int32), np.zeros(rows + 1, np.int64))
    return Dense(np.zeros((rows, feature.dense_width), np.float32), np.zeros(rows, bool))


def present_rows(rows: Ints) -> Jagged:
    """Returns a column of one value a row, and of none where it is negative."""
    return Jagged.from_lengths(rows[rows >= 0], (rows >= 0).astype(np.int64))


def file_name(name: str) -> str:
    """Returns the name of a vocabulary's file; a column's name may hold any character."""
    return quote(name, safe=" ") + ".parquet"
