"""The feature values that items of an answer share with those of the query."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.core.columns import Floats, Ints, from_arrow
from feature_store.encoding.encoder import SideEncoder
from feature_store.kinds import TextFeature
from feature_store.schema import FeatureSchema
from recsys.channels.content_blocks import Entries
from recsys.channels.content_space import ContentSpace
from serving.bundle.files import mapped_table
from serving.bundle.manifest import CONTENT, ITEM_FEATURES, VOCABULARY
from serving.recommend.answers import SharedValue
from serving.recommend.consistency import require_contents

Doubles = npt.NDArray[np.float64]

# Values that are named for each item of an answer.
_VALUES = 3
# Share of the highest part from which on a value is named.
_LEAST = 1 / 4
# Shares of items beyond which a value says little, such as "the" of titles: of words in texts, and
# of other values, which are fewer and mean more. What so few items have is not common.
_COMMON_WORD, _COMMON_VALUE, _FEW_ITEMS = 1 / 20, 1 / 2, 5
# Share of the highest part from which on something else is named instead of common values.
_INSTEAD = 1 / 10
_SHORTEST = 1e-12


class SharedContent:
    """Contents of a bundle's items.

    Args:
        features: Encoded features of the items, memory-mapped.
        space: Dimensions of content.
        is_text: Whether each of the items' features is a text.
    """

    def __init__(self, features: pa.Table, space: ContentSpace, is_text: Sequence[bool]) -> None:
        self._features = features
        self._space = space
        few = _FEW_ITEMS / max(1, len(features))
        self._most = np.maximum(np.where(is_text, _COMMON_WORD, _COMMON_VALUE), few)

    @classmethod
    def read(cls, bundle: Path, schema: FeatureSchema, items: int) -> "SharedContent":
        """Reads the contents of a bundle's items.

        Args:
            bundle: Directory of the bundle.
            schema: Features.
            items: Number of ids of items.

        Raises:
            ValueError: Files of the bundle contradict each other.
        """
        features = mapped_table(bundle / ITEM_FEATURES)
        encoder = SideEncoder.load(bundle / VOCABULARY, schema, "item")
        require_contents(from_arrow(features), encoder, items)
        space = ContentSpace.read(bundle / CONTENT, schema.item, encoder)
        return cls(features, space, [isinstance(f, TextFeature) for f in schema.item])

    def values(self, items: Ints, sources: Ints, factors: Doubles) -> list[tuple[SharedValue, ...]]:
        """Returns the values that add most to each item's score, [items].

        Args:
            items: Items of an answer.
            sources: Items of the query.
            factors: Weight of the cosine of an item and a source in the item's score,
                [items, sources].
        """
        of_items, of_sources = self._content(items), self._content(sources)
        columns = np.intersect1d(of_items.columns, of_sources.columns)
        of_items, of_sources = (_among(columns, each) for each in (of_items, of_sources))
        starts = np.searchsorted(of_items.rows, np.arange(len(items) + 1))
        found = []
        for row, (start, stop) in enumerate(pairwise(starts.tolist())):
            weights = factors[row, of_sources.rows] * of_sources.values
            by_column = np.bincount(of_sources.columns, weights, len(columns))
            at, features = of_items.columns[start:stop], of_items.features[start:stop]
            added = of_items.values[start:stop] * by_column[at]
            found.append(self._named(columns[at], features, added))
        return found

    def _named(self, columns: Ints, features: Ints, added: Floats) -> tuple[SharedValue, ...]:
        """Names the highest parts but small ones, and common values only where there is no other.

        A number's or vector's dimensions are one value.
        """
        is_common = self._space.shares(columns) > self._most[features]
        telling = self._highest(columns, features, np.where(is_common, 0, added))
        everything = self._highest(columns, features, added)
        if telling and telling[0].score >= _INSTEAD * everything[0].score:
            return telling
        return everything

    def _highest(self, columns: Ints, features: Ints, added: Floats) -> tuple[SharedValue, ...]:
        parts: defaultdict[tuple[str, str | None], float] = defaultdict(float)
        some = np.flatnonzero(added)
        for column, feature, part in zip(
            columns[some].tolist(), features[some].tolist(), added[some].tolist(), strict=True
        ):
            parts[self._space.label(column, feature)] += part
        highest = sorted(parts.items(), key=lambda each: -each[1])[:_VALUES]
        least = _LEAST * highest[0][1] if highest else 0.0
        return tuple(SharedValue(*label, part) for label, part in highest if part > max(0, least))

    def _content(self, items: Ints) -> Entries:
        """Returns coordinates of items, ascending by item, whose vectors have length 1."""
        entries = self._space.entries(from_arrow(self._features.take(pa.array(items))))
        order = np.argsort(entries.rows, kind="stable")
        rows, values = entries.rows[order], entries.values[order]
        length = np.sqrt(np.bincount(rows, values**2, len(items)))
        # An item's only values may be those of all items, which weigh nothing.
        values = (values / np.maximum(length[rows], _SHORTEST)).astype(np.float32)
        return Entries(rows, entries.columns[order], values, entries.features[order])


def _among(columns: Ints, entries: Entries) -> Entries:
    """Returns the entries of some dimensions, which are numbered by their place among these."""
    at = np.searchsorted(columns, entries.columns)
    kept = columns.take(at, mode="clip") == entries.columns if len(columns) else at < 0
    return Entries(entries.rows[kept], at[kept], entries.values[kept], entries.features[kept])
