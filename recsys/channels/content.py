"""Items as vectors of their features' values, for the similarity of content."""

import numpy as np
from scipy import sparse

from feature_store.core.columns import Bools
from pipelines.prepared.reader import Prepared
from recsys.channels.channel import Channel, ChannelData
from recsys.channels.content_blocks import Columns
from recsys.channels.content_search import similar
from recsys.channels.content_space import ContentSpace
from recsys.channels.product import Product


class Content(Channel):
    """Cosine of the items' feature values, weighted by how rare they are."""

    name = "content"
    lists = "content"
    title = "content"

    @classmethod
    def why_not(cls, data: ChannelData) -> str | None:
        """Returns why the data has no such channel, as the end of a sentence; None: it has."""
        features = data.prepared.features.item
        return None if any(not f.is_id for f in features) else "items have no features"

    @classmethod
    def product(cls, data: ChannelData) -> Product:
        """Returns the cosines."""
        prepared = data.prepared
        matrix = content_matrix(
            content_space(prepared), prepared.item_columns, prepared.is_current_item
        )
        return similar(matrix, prepared.item_frequency)


class OwnContent(Content):
    """Content of the query's own item, where queries are items."""

    name = "own_content"
    title = "own content"
    reads = "own"

    @classmethod
    def why_not(cls, data: ChannelData) -> str | None:
        """Returns why the data has no such channel, as the end of a sentence; None: it has."""
        return super().why_not(data) or (None if data.queries_are_items else "queries are no items")


def content_space(prepared: Prepared) -> ContentSpace:
    """Returns the dimensions of the items' content, weighted by the current items."""
    return ContentSpace.fit(
        prepared.features.item,
        prepared.item_encoder,
        prepared.item_columns,
        prepared.is_current_item,
    )


def content_matrix(space: ContentSpace, columns: Columns, is_current: Bools) -> sparse.csr_matrix:
    """Returns the items' content, [items, dimensions] float32 with rows of length 1 or 0.

    Args:
        space: Dimensions and their weights.
        columns: Encoded features by name, [items].
        is_current: Whether an item takes part, [items].
    """
    entries, items = space.entries(columns), len(is_current)
    order = np.argsort(entries.rows, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(entries.rows, minlength=items))])
    matrix = sparse.csr_matrix(
        (entries.values[order], entries.columns[order], offsets), (items, max(1, space.width))
    )
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).reshape(-1))
    scale = np.where(is_current & (length > 0), 1 / np.maximum(length, 1e-12), 0.0)
    return (sparse.diags(scale) @ matrix).tocsr().astype(np.float32)
