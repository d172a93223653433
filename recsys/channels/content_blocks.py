"""Dimensions of the items' content, in blocks by kind: vectors, numbers and tokens.

This module needs NumPy and Arrow alone, because servers read it, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Bools, Column, Dense, Floats, Ints, Jagged
from feature_store.encoding.encoder import SideEncoder
from feature_store.kinds import AnyFeature, TextFeature

# A number is one of these quantiles, or lies between two of them.
_QUANTILES = 16
# Weight of a number, and of a vector.
_OF_DENSE = np.log(_QUANTILES)
_WORDS = "words"

Columns = Mapping[str, Column]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Entries:
    """Items' coordinates that are not 0; every field is [entries].

    Attributes:
        rows: Item.
        columns: Dimension; each once for an item.
        values: Coordinate, float32.
        features: Number of the feature that has the value; of several, the first one.
    """

    rows: Ints
    columns: Ints
    values: Floats
    features: Ints

    @classmethod
    def concatenate(cls, parts: Sequence["Entries"]) -> "Entries":
        """Joins entries, one part after the other."""
        rows = np.concatenate([part.rows for part in parts])
        columns = np.concatenate([part.columns for part in parts])
        values = np.concatenate([part.values for part in parts])
        return cls(rows, columns, values, np.concatenate([part.features for part in parts]))


@dataclass(frozen=True)
class Block(ABC):
    """Dimensions of one kind.

    Attributes:
        numbers: Numbers of the features that have these dimensions, among the items' features.
        names: Names of these features.
        width: Number of dimensions.
        weights: Numbers that are fitted to the items.
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    width: int
    weights: Floats

    @abstractmethod
    def fitted(self, columns: Columns, is_current: Bools) -> Self:
        """Returns the block with the weights of some items.

        Args:
            columns: Encoded features by name, [items].
            is_current: Whether an item is in the catalogue, [items].
        """

    @abstractmethod
    def entries(self, columns: Columns) -> Entries:
        """Returns the coordinates of items; dimensions are counted from the block's first."""

    def with_weights(self, weights: Floats) -> Self:
        """Returns the block with weights that were stored.

        Raises:
            ValueError: The block has another number of weights.
        """
        return replace(self, weights=weights)

    def value(self, column: int) -> str | None:
        """Returns the token of a dimension; None where it has none."""
        return None

    def shares(self, columns: Ints) -> Doubles:
        """Returns the share of items that have what each dimension stands for; 0: it is no value.

        Args:
            columns: Dimensions.
        """
        return np.zeros(len(columns))


@dataclass(frozen=True)
class VectorBlock(Block):
    """A vector of length 1, which weighs as much as a number."""

    def fitted(self, columns: Columns, is_current: Bools) -> Self:
        """Returns the block itself, which has no weights."""
        return self

    def entries(self, columns: Columns) -> Entries:
        """Returns the numbers of the vectors, divided by their lengths."""
        vectors = _dense(columns, self.names[0]).values
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        values = _OF_DENSE * vectors / np.maximum(length, 1e-12)
        rows, at = np.nonzero(values)
        features = np.full(len(rows), self.numbers[0])
        return Entries(rows, at, values[rows, at].astype(np.float32), features)


@dataclass(frozen=True)
class NumberBlock(Block):
    """A number, spread over the two nearest of its quantiles: near numbers are similar.

    The weights are the known numbers, ascending.
    """

    def fitted(self, columns: Columns, is_current: Bools) -> Self:
        """Returns the block with the numbers of the items."""
        column = _dense(columns, self.names[0])
        return replace(self, weights=np.sort(column.values[column.present & is_current, 0]))

    def entries(self, columns: Columns) -> Entries:
        """Returns two entries for each item that has a number."""
        column, known = _dense(columns, self.names[0]), self.weights
        rows: Ints = np.flatnonzero(column.present)
        values = column.values[rows, 0]
        below = np.searchsorted(known, values, side="left")
        above = np.searchsorted(known, values, side="right")
        rank = (below + above - 1) / 2 / max(1, len(known) - 1) * (_QUANTILES - 1)
        # A number that is not one of the known ones may lie beyond them.
        rank = np.clip(rank, 0, _QUANTILES - 1)
        low = np.clip(np.floor(rank), 0, _QUANTILES - 2).astype(np.int64)
        high = rank - low
        return Entries(
            np.concatenate([rows, rows]),
            np.concatenate([low, low + 1]),
            (_OF_DENSE * np.concatenate([1 - high, high])).astype(np.float32),
            np.full(2 * len(rows), self.numbers[0]),
        )


@dataclass(frozen=True)
class TokenBlock(Block):
    """Tokens, each a dimension, which several features may share.

    The weights are the inverse document frequencies, log(items / items that have the token).

    Attributes:
        at: Dimension of each row of each feature's table, -1 where the row is no token; None where
            it is the row itself.
        tokens: Tokens of the last dimensions; those before them have no name.
    """

    at: tuple[Ints | None, ...]
    tokens: pa.Array

    def fitted(self, columns: Columns, is_current: Bools) -> Self:
        """Returns the block with weights by the number of items that have a token."""
        rows, at, _ = self._distinct(columns)
        counts = np.bincount(at[is_current[rows]], minlength=self.width)
        having = counts.astype(np.float32)
        items = max(1, int(is_current.sum()))
        return replace(self, weights=np.log(items / np.maximum(having, 1)) * (having > 0))

    def entries(self, columns: Columns) -> Entries:
        """Returns an entry for each distinct token of an item."""
        # An item's last token comes first: what float32 sums to depends on the order.
        rows, at, features = (array[::-1] for array in self._distinct(columns))
        return Entries(rows, at, self.weights[at].astype(np.float32), features)

    def with_weights(self, weights: Floats) -> Self:
        """Returns the block with weights that were stored.

        Raises:
            ValueError: There is not one for each token.
        """
        if len(weights) != self.width:
            raise ValueError(f"{len(weights):,} weights for {self.width:,} tokens")
        return replace(self, weights=weights)

    def shares(self, columns: Ints) -> Doubles:
        """Returns the share of items that have each token."""
        shares: Doubles = np.exp(-self.weights.take(columns).astype(np.float64))
        return shares

    def value(self, column: int) -> str | None:
        """Returns the token of a dimension; None where it is not known."""
        place = column - (self.width - len(self.tokens))
        token: str | None = self.tokens[place].as_py() if place >= 0 else None
        return token

    def _distinct(self, columns: Columns) -> tuple[Ints, Ints, Ints]:
        """Returns item, dimension and first feature of each distinct token."""
        keys, features = [], []
        for number, name, at in zip(self.numbers, self.names, self.at, strict=True):
            column = columns[name]
            assert isinstance(column, Jagged)
            dimension = column.values if at is None else at[column.values]
            is_token = dimension >= 0
            keys.append((column.row_of_value() * np.int64(self.width) + dimension)[is_token])
            features.append(np.full(len(keys[-1]), number, np.int16))
        distinct, first = np.unique(np.concatenate(keys), return_index=True)
        rows, at = np.divmod(distinct, max(1, self.width))
        return rows, at, np.concatenate(features)[first]


def blocks_of(features: Sequence[AnyFeature], encoder: SideEncoder) -> list[Block]:
    """Returns the dimensions of items, without weights: numbers and vectors first, words last.

    Args:
        features: Features of items; the id takes no part.
        encoder: Encoder of items.
    """
    nothing = np.empty(0, np.float32)
    dense: list[Block] = []
    spaces: dict[str, list[int]] = {}
    for number, feature in enumerate(features):
        if feature.is_id:
            continue
        if feature.is_sparse:
            spaces.setdefault(_space_of(feature), []).append(number)
        elif feature.dense_width == 1:
            dense.append(NumberBlock((number,), (feature.name,), _QUANTILES, nothing))
        else:
            width = feature.dense_width
            dense.append(VectorBlock((number,), (feature.name,), width, nothing))
    ordered = sorted(spaces, key=lambda name: name == _WORDS)
    tokens = [_token_block(spaces[name], features, encoder, name == _WORDS) for name in ordered]
    return [*dense, *tokens]


def _token_block(
    numbers: list[int], features: Sequence[AnyFeature], encoder: SideEncoder, has_words: bool
) -> TokenBlock:
    members = [features[number] for number in numbers]
    names = tuple(feature.name for feature in members)
    at: Sequence[Ints | None] = [None] * len(members)
    if has_words:
        at, tokens = _in_one_space([encoder.vocabularies[name].tokens for name in names])
        width = len(tokens)
    else:  # Features of one table have equal rows for equal tokens.
        width = encoder.num_embeddings(members[0])
        tokens = pa.nulls(0, pa.string())
        if members[0].has_vocabulary:
            tokens = encoder.vocabularies[names[0]].tokens
    return TokenBlock(tuple(numbers), names, width, np.empty(0, np.float32), tuple(at), tokens)


def _in_one_space(words: list[pa.Array]) -> tuple[list[Ints], pa.Array]:
    """Returns the dimension of each row of each text's table, and the word of each dimension."""
    union = pc.unique(pa.chunked_array(words).drop_null())
    at = []
    for tokens in words:
        # A forgotten word is null, and the first row is of words that have none.
        positions = pc.index_in(tokens, value_set=union, skip_nulls=True).fill_null(-1)
        at.append(np.concatenate([[-1], positions.to_numpy(zero_copy_only=False)]))
    return at, union


def _space_of(feature: AnyFeature) -> str:
    """Returns a name that features share whose equal values are the same dimension."""
    if isinstance(feature, TextFeature) and feature.has_vocabulary and feature.tokens == "words":
        return _WORDS
    if feature.is_hashed:
        return f"hashed in {feature.hash_buckets}"  # type: ignore[union-attr]
    return f"feature {feature.name}"


def _dense(columns: Columns, name: str) -> Dense:
    column = columns[name]
    assert isinstance(column, Dense)
    return column
