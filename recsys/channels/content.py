"""Items as vectors of their features' values, for the similarity of content."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from feature_store.core.columns import Bools, Dense, Floats, Ints, Jagged
from feature_store.encoding.encoder import SideEncoder
from feature_store.kinds import AnyFeature, TextFeature
from pipelines.prepared.reader import Prepared
from recsys.channels.channel import Channel, ChannelData
from recsys.channels.product import Product

# A number is one of these quantiles, or lies between two of them.
_QUANTILES = 16


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
        matrix = content_matrix(data.prepared)
        return Product(matrix, matrix.T.tocsr())


class OwnContent(Content):
    """Content of the query's own item, where queries are items."""

    name = "own_content"
    title = "own content"
    reads = "own"

    @classmethod
    def why_not(cls, data: ChannelData) -> str | None:
        """Returns why the data has no such channel, as the end of a sentence; None: it has."""
        return super().why_not(data) or (None if data.queries_are_items else "queries are no items")


def content_matrix(prepared: Prepared) -> sparse.csr_matrix:
    """Returns the items' content, [items, values] float32 with rows of length 1 or 0.

    Each value of a sparse feature is a dimension, weighted by its inverse document frequency,
    log(items / items that have it). Words are the same dimension in every text. A number is spread
    over the two nearest of its feature's quantiles, so that near numbers are similar; a vector is
    a block of its own, which weighs as much as a number. The id takes no part.
    """
    is_current = prepared.is_current_item
    spaces: dict[str, list[sparse.csr_matrix]] = {}
    words: list[tuple[pa.Array, sparse.csr_matrix]] = []
    blocks: list[sparse.csr_matrix] = []
    for feature in prepared.features.item:
        column = prepared.item_columns[feature.name]
        if feature.is_id:
            continue
        if isinstance(column, Dense):
            blocks.append(_dense_block(column, is_current))
            continue
        block = _binary(column, prepared.item_encoder.num_embeddings(feature))
        tokens = _words_of(feature, prepared.item_encoder)
        if tokens is not None:
            words.append((tokens, block[:, 1:].tocsr()))
        else:
            spaces.setdefault(_space_of(feature), []).append(block)
    if words:
        spaces["words"] = _in_one_space(words)
    for parts in spaces.values():
        blocks.append(_weighted(_union(parts), is_current))
    if not blocks:
        return sparse.csr_matrix((prepared.num_items, 1), dtype=np.float32)
    matrix = sparse.hstack(blocks, format="csr", dtype=np.float32)
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).reshape(-1))
    scale = np.where(is_current & (length > 0), 1 / np.maximum(length, 1e-12), 0.0)
    return (sparse.diags(scale) @ matrix).tocsr().astype(np.float32)


def _binary(column: Jagged, width: int) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix(
        (np.ones(len(column.values), np.float32), column.values.copy(), column.offsets.copy()),
        (len(column), width),
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def _words_of(feature: AnyFeature, encoder: SideEncoder) -> pa.Array | None:
    """Returns the words of a text's vocabulary; None where its tokens are not words."""
    if isinstance(feature, TextFeature) and feature.has_vocabulary and feature.tokens == "words":
        return encoder.vocabularies[feature.name].tokens
    return None


def _space_of(feature: AnyFeature) -> str:
    """Returns a name that features share whose equal rows are equal tokens."""
    if feature.is_hashed:
        return f"hashed in {feature.hash_buckets}"  # type: ignore[union-attr]
    return f"feature {feature.name}"


def _in_one_space(words: list[tuple[pa.Array, sparse.csr_matrix]]) -> list[sparse.csr_matrix]:
    """Moves the columns of each text to those of its words among all texts' words."""
    union = pc.unique(pa.chunked_array([tokens for tokens, _ in words]).drop_null())
    moved = []
    for tokens, block in words:
        # A forgotten word is null, and has no column.
        positions = pc.index_in(tokens, value_set=union, skip_nulls=True).fill_null(-1)
        entries = block.tocoo()
        column = positions.to_numpy(zero_copy_only=False)[entries.col]
        known = column >= 0
        at = (entries.data[known], (entries.row[known], column[known]))
        moved.append(sparse.csr_matrix(at, (block.shape[0], len(union)), dtype=np.float32))
    return moved


def _union(parts: list[sparse.csr_matrix]) -> sparse.csr_matrix:
    union = sum(parts[1:], start=parts[0]).tocsr()
    union.data[:] = 1.0
    return union


def _weighted(block: sparse.csr_matrix, is_current: Bools) -> sparse.csr_matrix:
    """Multiplies values by their inverse document frequency, [items, values]."""
    having = np.asarray(block[is_current].sum(axis=0)).reshape(-1)
    weight = np.log(max(1, int(is_current.sum())) / np.maximum(having, 1)) * (having > 0)
    return (block @ sparse.diags(weight)).tocsr()


def _dense_block(column: Dense, is_current: Bools) -> sparse.csr_matrix:
    weight = np.log(_QUANTILES)
    if column.values.shape[1] > 1:
        length = np.linalg.norm(column.values, axis=1, keepdims=True)
        return sparse.csr_matrix(weight * column.values / np.maximum(length, 1e-12))
    known = column.present & is_current
    return weight * _soft_quantiles(column.values[:, 0], known)


def _soft_quantiles(values: Floats, known: Bools) -> sparse.csr_matrix:
    """Spreads each known number over its two nearest quantiles, [items, quantiles]."""
    rows: Ints = np.flatnonzero(known)
    of_known = np.sort(values[known])
    below = np.searchsorted(of_known, values[known], side="left")
    above = np.searchsorted(of_known, values[known], side="right")
    rank = (below + above - 1) / 2 / max(1, len(of_known) - 1) * (_QUANTILES - 1)
    low = np.clip(np.floor(rank), 0, _QUANTILES - 2).astype(np.int64)
    high = rank - low
    at = (np.concatenate([rows, rows]), np.concatenate([low, low + 1]))
    return sparse.csr_matrix((np.concatenate([1 - high, high]), at), (len(values), _QUANTILES))
