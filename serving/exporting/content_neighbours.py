"""Content of items in a bundle: the weights of feature values, and the neighbours of new items."""

from pathlib import Path

import numpy as np
from scipy import sparse

from feature_store.core.columns import Floats, Ints, Jagged, from_arrow
from feature_store.core.documents import read_record
from feature_store.encoding.encoder import SideEncoder
from feature_store.schema import FeatureSchema
from pipelines.prepared.reader import Prepared
from recsys.channels.content import content_matrix, content_space
from recsys.channels.content_space import ContentSpace
from recsys.channels.product import Product
from recsys.fusion.fused import CONTENT_LISTS, Fused
from serving.bundle.files import mapped_table
from serving.bundle.manifest import CONTENT, ITEM_FEATURES, SCHEMA, VOCABULARY


def write_content(directory: Path, prepared: Prepared, fused: Fused) -> None:
    """Writes the weights of feature values, where a channel compares items by them.

    Args:
        directory: Directory of the bundle.
        prepared: Data that the channels are fitted to.
        fused: Channels of the bundle.
    """
    if CONTENT_LISTS in fused.lists:
        content_space(prepared).save(directory / CONTENT)


def near_new_items(
    directory: Path, fused: Fused, indexed: Ints, trained_items: int
) -> dict[str, tuple[Jagged, Floats]]:
    """Finds the items of the training that are nearest to new ones by content.

    Weights are those of the training, so that scores can be compared with those of other items.

    Args:
        directory: Directory of the bundle, with the features of all items.
        fused: Channels, without the new items.
        indexed: Items of the index.
        trained_items: Number of items at the training: only these are in histories.

    Returns:
        Items near each new one, ascending, [new items], and their scores, under the name of the
        lists; nothing where no channel compares items by content.
    """
    first = len(fused.dial)
    features = mapped_table(directory / ITEM_FEATURES)
    count = features.num_rows
    if CONTENT_LISTS not in fused.lists or first == count:
        return {}
    schema = read_record(directory / SCHEMA, FeatureSchema)
    encoder = SideEncoder.load(directory / VOCABULARY, schema, "item")
    space = ContentSpace.read(directory / CONTENT, schema.item, encoder)
    is_indexed = np.zeros(count, np.bool_)
    is_indexed[indexed] = True
    matrix = content_matrix(space, from_arrow(features), is_indexed)
    is_source = is_indexed & (np.arange(count) < trained_items)
    sources = sparse.diags(is_source.astype(np.float32)) @ matrix
    near = Product(matrix, sources.T.tocsr()).highest(first, count, fused.info.neighbours)
    near.sort_indices()
    return {CONTENT_LISTS: (Jagged(near.indices, near.indptr.astype(np.int64)), near.data)}
