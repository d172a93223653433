"""The one encoder: raw feature values to table rows and numbers, the same offline and online."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.columns import Column, Dense, Floats, Ints, Jagged
from feature_store.schema import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    FeatureSchema,
    IdFeature,
    NumericFeature,
    Side,
    SparseFeature,
    TextFeature,
    TokenFeature,
    VectorFeature,
    is_sparse,
    qualified,
)
from feature_store.storage import write_json
from feature_store.vocabulary import Vocabulary

OOV_ROW = 0
_WORD_BREAK = r"[^\p{L}\p{N}]+"


def plain_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array with dictionary encoding undone."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # Several chunks of a type that cannot be joined.
        array = pa.concat_arrays(array.chunks)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def id_strings(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Ids as strings: the integer 42 and the string "42" are the same id."""
    return plain_array(column).cast(pa.string())


def tokens_of(feature: TokenFeature, column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, Ints]:
    """Tokens of all rows, one row after the other, and how many each row has, [rows] int64."""
    array = plain_array(column)
    rows = len(array)
    if isinstance(feature, CategoricalFeature):
        return array.drop_null().cast(pa.string()), array.is_valid().to_numpy(
            zero_copy_only=False
        ).astype(np.int64)
    if isinstance(feature, TextFeature):
        array = pc.split_pattern_regex(pc.utf8_lower(array.cast(pa.string())), _WORD_BREAK)
    parents = pc.list_parent_indices(array)
    tokens = plain_array(pc.list_flatten(array)).cast(pa.string())
    kept = pc.and_(tokens.is_valid(), pc.not_equal(tokens, ""))
    kept = pc.fill_null(kept, False)
    tokens, parents = tokens.filter(kept), parents.filter(kept).to_numpy()
    if isinstance(feature, TextFeature):
        tokens, parents = _distinct_in_row(tokens, parents)
    return tokens, np.bincount(parents, minlength=rows).astype(np.int64)


def _distinct_in_row(tokens: pa.Array, parents: Ints) -> tuple[pa.Array, Ints]:
    encoded = tokens.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    width = max(1, len(encoded.dictionary))
    _, first = np.unique(parents.astype(np.int64) * width + codes, return_index=True)
    first.sort()
    return tokens.take(pa.array(first)), parents[first]


def hash_rows(tokens: pa.Array, buckets: int) -> Ints:
    """Rows 1 to `buckets` by BLAKE2b, the same on every machine and in every run."""
    encoded = tokens.dictionary_encode()
    digests = [
        int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), "little")
        for token in encoded.dictionary.to_pylist()
    ]
    rows = np.array([1 + digest % buckets for digest in digests], np.int32)
    return rows[encoded.indices.to_numpy(zero_copy_only=False)] if len(rows) else rows


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation of each number of a dense feature."""

    mean: Floats
    deviation: Floats

    @classmethod
    def from_moments(cls, moments: Floats) -> "Scaling":
        """From the sums of `dense_moments`; a constant number gets deviation 1."""
        count = max(1.0, float(moments[0, 0]))
        mean = moments[1] / count
        variance = np.maximum(moments[2] / count - mean**2, 0.0)
        deviation = np.where(variance > 1e-12, np.sqrt(variance), 1.0)
        return cls(mean.astype(np.float32), deviation.astype(np.float32))


def dense_values(feature: DenseFeature, column: pa.ChunkedArray | pa.Array) -> Dense:
    """Unscaled numbers, [rows, width]; null, NaN, infinity and wrong lengths count as absent."""
    array = plain_array(column)
    if isinstance(feature, NumericFeature):
        numbers = pc.cast(array, pa.float64(), safe=False)
        matrix = pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False)[:, None]
        if feature.scaling == "log":
            matrix = np.sign(matrix) * np.log1p(np.abs(matrix))
        width = 1
    else:
        width = feature.length
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        fits = lengths == width
        flat = plain_array(pc.list_flatten(array.filter(pa.array(fits))))
        matrix = np.full((len(array), width), np.nan)
        numbers = pc.fill_null(pc.cast(flat, pa.float64(), safe=False), np.nan)
        matrix[fits] = numbers.to_numpy(zero_copy_only=False).reshape(-1, width)
    present = np.isfinite(matrix).all(axis=1)
    return Dense(np.where(present[:, None], matrix, 0.0), present)


def dense_moments(feature: DenseFeature, column: pa.ChunkedArray | pa.Array) -> Floats:
    """[3, width] float64: count, sum and sum of squares; partial results add up."""
    dense = dense_values(feature, column)
    values = np.asarray(dense.values, np.float64)
    count = np.full(values.shape[1], dense.present.sum(), np.float64)
    return np.stack([count, values.sum(axis=0), (values**2).sum(axis=0)])


class SideEncoder:
    """Encodes the features of items or of queries.

    Args:
        side: Which side.
        features: Its features.
        ids: The catalogue: id to index.
        vocabularies: By feature name, for features encoded with one.
        scalings: By feature name, for dense features.
    """

    def __init__(
        self,
        side: Side,
        features: tuple[Feature, ...],
        ids: Vocabulary,
        vocabularies: dict[str, Vocabulary],
        scalings: dict[str, Scaling],
    ) -> None:
        self.side = side
        self.features = features
        self.ids = ids
        self.vocabularies = vocabularies
        self.scalings = scalings

    def num_embeddings(self, feature: SparseFeature) -> int:
        """Rows of the feature's embedding table."""
        if isinstance(feature, IdFeature):
            return max(1, len(self.ids))
        if feature.hash_buckets is not None:
            return feature.hash_buckets + 1
        return self.vocabularies[feature.name].num_embeddings

    def encode(self, table: pa.Table) -> dict[str, Column]:
        """Encodes every feature that `table` has a column for; the others are absent.

        Args:
            table: Raw values, one row an item or query; the id feature's column holds ids.
        """
        return {feature.name: self._encode_feature(feature, table) for feature in self.features}

    def _encode_feature(self, feature: Feature, table: pa.Table) -> Column:
        rows = table.num_rows
        if isinstance(feature, NumericFeature | VectorFeature):
            scaling = self.scalings[feature.name]
            if feature.name not in table.column_names:
                width = len(scaling.mean)
                return Dense(np.zeros((rows, width), np.float32), np.zeros(rows, bool))
            dense = dense_values(feature, table[feature.name])
            scaled = (dense.values - scaling.mean) / scaling.deviation
            scaled = np.where(dense.present[:, None], scaled, 0.0).astype(np.float32)
            return Dense(scaled, dense.present)
        if feature.name not in table.column_names:
            return Jagged(np.empty(0, np.int32), np.zeros(rows + 1, np.int64))
        if isinstance(feature, IdFeature):
            found = self.ids.rows(id_strings(table[feature.name]))
            return Jagged.from_lengths(found[found >= 0], (found >= 0).astype(np.int64))
        tokens, lengths = tokens_of(feature, table[feature.name])
        if feature.hash_buckets is not None:
            return Jagged.from_lengths(hash_rows(tokens, feature.hash_buckets), lengths)
        found = self.vocabularies[feature.name].rows(tokens)
        return Jagged.from_lengths(np.where(found < 0, OOV_ROW, found).astype(np.int32), lengths)

    def save(self, directory: Path) -> None:
        """Writes `<side>_id.parquet`, `<side>.<feature>.parquet` and `<side>.scaling.json`."""
        self.ids.save(directory / f"{self.side}_id.parquet")
        for name, vocabulary in self.vocabularies.items():
            vocabulary.save(directory / file_name(f"{self.side}.{name}"))
        scalings: dict[str, Any] = {
            name: {"mean": scaling.mean.tolist(), "deviation": scaling.deviation.tolist()}
            for name, scaling in self.scalings.items()
        }
        write_json(directory / f"{self.side}.scaling.json", scalings)

    @classmethod
    def load(cls, directory: Path, schema: FeatureSchema, side: Side) -> "SideEncoder":
        """Reads what `save` wrote."""
        features = schema.side(side)
        vocabularies = {
            feature.name: Vocabulary.load(directory / file_name(qualified(side, feature)))
            for feature in features
            if has_vocabulary(feature)
        }
        raw = json.loads((directory / f"{side}.scaling.json").read_text(encoding="utf-8"))
        scalings = {
            name: Scaling(
                np.array(value["mean"], np.float32), np.array(value["deviation"], np.float32)
            )
            for name, value in raw.items()
        }
        ids = Vocabulary.load(directory / f"{side}_id.parquet")
        return cls(side, features, ids, vocabularies, scalings)


def file_name(name: str) -> str:
    """A vocabulary's file: a column's name may hold a slash or anything else."""
    return quote(name, safe=" ") + ".parquet"


def has_vocabulary(feature: Feature) -> bool:
    """Whether a feature's tokens are kept in a vocabulary (and not hashed, nor the catalogue's)."""
    return (
        is_sparse(feature)
        and not isinstance(feature, IdFeature)
        and getattr(feature, "hash_buckets", None) is None
    )
