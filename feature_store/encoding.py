"""The one encoder: raw feature values to table rows and numbers, the same offline and online."""

import json
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from feature_store.columns import Column, Dense, Ints, Jagged
from feature_store.context import encode_time, time_rows
from feature_store.hashing import bucket_rows, token_digests
from feature_store.raw import id_strings
from feature_store.scaling import (
    Scaling,
    dense_values,
    dense_width,
    scaling_from_json,
    scaling_to_json,
)
from feature_store.schema import (
    AnyFeature,
    DenseFeature,
    FeatureGroup,
    FeatureSchema,
    IdFeature,
    NumericFeature,
    TimeFeature,
    TokenFeature,
    VectorFeature,
    is_sparse,
    qualified,
)
from feature_store.storage import write_json
from feature_store.tokens import tokens_of
from feature_store.vocabulary import Vocabulary

OOV_ROW = 0
# Of the context: it has no catalogue.
NO_IDS = Vocabulary(pa.array([], pa.string()), pa.array([], pa.int64()), 0)


class SideEncoder:
    """Encodes the features of items, of queries, or of the context.

    Args:
        side: Whose.
        features: Its features.
        ids: The catalogue: id to index; `NO_IDS` of the context.
        vocabularies: By feature name, for features encoded with one.
        scalings: By feature name, for dense features.
    """

    def __init__(
        self,
        side: FeatureGroup,
        features: tuple[AnyFeature, ...],
        ids: Vocabulary,
        vocabularies: dict[str, Vocabulary],
        scalings: dict[str, Scaling],
    ) -> None:
        self.side = side
        self.features = features
        self.ids = ids
        self.vocabularies = vocabularies
        self.scalings = scalings

    def num_embeddings(self, feature: AnyFeature) -> int:
        """Rows of a sparse feature's embedding table."""
        if isinstance(feature, IdFeature):
            return max(1, len(self.ids))
        if isinstance(feature, TimeFeature):
            return time_rows(feature)
        assert not isinstance(feature, DenseFeature)
        if feature.hash_buckets is not None:
            return feature.hash_buckets + 1
        return self.vocabularies[feature.name].num_embeddings

    def encode(self, table: pa.Table) -> dict[str, Column]:
        """Encodes every feature that `table` has a column for; the others are absent.

        Args:
            table: Raw values, one row an item, query or event; the id feature's column holds ids,
                and that of a feature of time what `time_values` gives.
        """
        return {feature.name: self._encode_feature(feature, table) for feature in self.features}

    def _encode_feature(self, feature: AnyFeature, table: pa.Table) -> Column:
        rows = table.num_rows
        if isinstance(feature, TimeFeature):
            is_known = feature.name in table.column_names
            return encode_time(
                feature, table[feature.name] if is_known else pa.nulls(rows, pa.int64())
            )
        if isinstance(feature, NumericFeature | VectorFeature):
            if feature.name not in table.column_names:
                width = dense_width(feature)
                return Dense(np.zeros((rows, width), np.float32), np.zeros(rows, bool))
            numbers, present = dense_values(feature, table[feature.name])
            scaled = self.scalings[feature.name].scale(numbers)
            return Dense(np.where(present[:, None], scaled, 0.0).astype(np.float32), present)
        if feature.name not in table.column_names:
            return Jagged(np.empty(0, np.int32), np.zeros(rows + 1, np.int64))
        if isinstance(feature, IdFeature):
            found = self.ids.rows(id_strings(table[feature.name]))
            return Jagged.from_lengths(found[found >= 0], (found >= 0).astype(np.int64))
        tokens, lengths = tokens_of(feature, table[feature.name])
        encoded = tokens.dictionary_encode()
        distinct = self._rows_of_tokens(feature, encoded.dictionary)
        return Jagged.from_lengths(distinct[encoded.indices.to_numpy()], lengths)

    def _rows_of_tokens(self, feature: TokenFeature, tokens: pa.Array) -> Ints:
        """[tokens] int32."""
        if feature.hash_buckets is not None:
            return bucket_rows(token_digests(tokens), feature.hash_buckets)
        found = self.vocabularies[feature.name].rows(tokens)
        return np.where(found < 0, OOV_ROW, found).astype(np.int32)

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
            if has_vocabulary(feature)
        }
        raw = json.loads((directory / f"{side}.scaling.json").read_text(encoding="utf-8"))
        scalings = {name: scaling_from_json(value) for name, value in raw.items()}
        has_ids = side != "context"
        ids = Vocabulary.load(directory / f"{side}_id.parquet") if has_ids else NO_IDS
        return cls(side, features, ids, vocabularies, scalings)


def file_name(name: str) -> str:
    """A vocabulary's file: a column's name may hold a slash or anything else."""
    return quote(name, safe=" ") + ".parquet"


def has_vocabulary(feature: AnyFeature) -> bool:
    """Whether a feature's tokens are kept in a vocabulary (and not hashed, nor the catalogue's)."""
    return (
        is_sparse(feature)
        and not isinstance(feature, IdFeature | TimeFeature)
        and getattr(feature, "hash_buckets", None) is None
    )
