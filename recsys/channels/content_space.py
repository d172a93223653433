"""The space in which items are compared by their features' values.

This module needs NumPy and Arrow alone, because servers read it, too.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from feature_store.core.columns import Bools, Ints
from feature_store.core.files import FLOATS, INTEGERS, mapped_numbers, write_array
from feature_store.encoding.encoder import SideEncoder
from feature_store.kinds import AnyFeature
from recsys.channels.content_blocks import Block, Columns, Doubles, Entries, blocks_of

_FILES = {"weights": FLOATS, "offsets": INTEGERS}


class ContentSpace:
    """Dimensions of the items' content, with what each of them weighs.

    Words are the same dimension in every text. The id takes no part.

    Args:
        blocks: Blocks of dimensions, with their weights.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self._starts = np.cumsum([0, *(block.width for block in blocks)])
        self._names = {
            number: name
            for block in blocks
            for number, name in zip(block.numbers, block.names, strict=True)
        }

    @property
    def width(self) -> int:
        """Number of dimensions."""
        return int(self._starts[-1])

    @classmethod
    def fit(
        cls,
        features: Sequence[AnyFeature],
        encoder: SideEncoder,
        columns: Columns,
        is_current: Bools,
    ) -> "ContentSpace":
        """Weighs the dimensions by the items that there are.

        Args:
            features: Features of items.
            encoder: Encoder of items.
            columns: Encoded features by name, [items].
            is_current: Whether an item is in the catalogue, [items].
        """
        blocks = blocks_of(features, encoder)
        return cls([block.fitted(columns, is_current) for block in blocks])

    def entries(self, columns: Columns) -> Entries:
        """Returns the coordinates of items, before they are divided by the item's length.

        Args:
            columns: Encoded features by name, [items].
        """
        parts = []
        for block, start in zip(self._blocks, self._starts[:-1], strict=True):
            part = block.entries(columns)
            parts.append(replace(part, columns=part.columns + start))
        nothing = np.empty(0, np.int64)
        parts.append(Entries(nothing, nothing, np.empty(0, np.float32), nothing))
        return Entries.concatenate(parts)

    def label(self, column: int, feature: int) -> tuple[str, str | None]:
        """Returns the name of a feature, and the value that a dimension stands for, if it has one.

        Args:
            column: Dimension.
            feature: Number of the feature, as in `Entries.features`.
        """
        number = int(np.searchsorted(self._starts, column, side="right")) - 1
        value = self._blocks[number].value(column - int(self._starts[number]))
        return self._names[feature], value

    def shares(self, columns: Ints) -> Doubles:
        """Returns the share of items that have the value of each dimension; 0: it is no value.

        Args:
            columns: Dimensions, [columns].
        """
        number = np.searchsorted(self._starts, columns, side="right") - 1
        shares = np.zeros(len(columns))
        for each in np.unique(number).tolist():
            at = np.flatnonzero(number == each)
            shares[at] = self._blocks[each].shares(columns[at] - self._starts[each])
        return shares

    def save(self, directory: Path) -> None:
        """Writes two files of NumPy: the weights of all blocks, and where those of each begin."""
        weights = [block.weights for block in self._blocks]
        offsets = np.cumsum([0, *map(len, weights)])
        joined = np.concatenate([*weights, np.empty(0, np.float32)])
        for name, array in zip(_FILES, (joined, offsets), strict=True):
            write_array(directory / f"{name}.npy", array)

    @classmethod
    def read(
        cls, directory: Path, features: Sequence[AnyFeature], encoder: SideEncoder
    ) -> "ContentSpace":
        """Reads what `save` wrote.

        Args:
            directory: Directory that it wrote.
            features: Features of items.
            encoder: Encoder of items.

        Raises:
            ValueError: The weights are not those of these features.
        """
        weights, offsets = (
            mapped_numbers(directory / f"{name}.npy", kinds) for name, kinds in _FILES.items()
        )
        blocks = blocks_of(features, encoder)
        ends = offsets.tolist()
        is_ascending = ends == sorted(ends) and ends[:1] == [0] and ends[-1:] == [len(weights)]
        if len(ends) != len(blocks) + 1 or not is_ascending:
            raise ValueError(f"{directory.name} holds no weights of these features")
        if not np.isfinite(weights).all():
            raise ValueError(f"{directory.name} holds a weight that is not finite")
        parts = [weights[start:stop] for start, stop in pairwise(ends)]
        return cls([b.with_weights(part) for b, part in zip(blocks, parts, strict=True)])
