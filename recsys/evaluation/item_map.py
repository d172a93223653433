"""Item data of the dashboard: names, a map of the vectors, and nearest items."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Floats, Ints, Jagged
from feature_store.core.files import write_parquet
from feature_store.kinds import NamedFeature
from pipelines.prepared.reader import Prepared
from pipelines.statistics.slices import item_slices
from recsys.config.config import Config
from recsys.evaluation.ranking import top_items, vector_scorer
from recsys.evaluation.slices import value_name
from recsys.evaluation.titles import item_titles

FEATURE = "feature."

_SIMILAR = 10
# In a larger catalogue only the items on the map get neighbours: all pairs would take too long.
_MOST_WITH_NEIGHBOURS = 40_000
_SEED = 0
# There are two more styles of points, for all other values and for none.
_SHOWN_VALUES = 6


def write_items(path: Path, config: Config, prepared: Prepared, vectors: Floats) -> None:
    """Writes one row an item, in the order of item indices.

    Columns: `item_id`, `title`, `slice`, `frequency` (training events); of a sample `x` and `y`, a
    t-SNE of the vectors, `similar`, rows of the nearest items, with their `cosine`; and for each
    feature with few values `feature.<name>`. They are null beyond the sample.

    Args:
        path: Parquet file to write.
        config: Configuration, which names the titles and the size of the map.
        prepared: Prepared data, for the items.
        vectors: L2-normalised item vectors, [items, dim].
    """
    current = np.flatnonzero(prepared.is_current_item)
    ids = prepared.item_encoder.ids.tokens
    titles = item_titles(config, prepared)
    slices = item_slices(prepared.item_frequency)
    slice_of_item = np.stack(list(slices.values())).argmax(axis=0).astype(np.int32)
    on_map = _sample(current, config.evaluation.map_items)
    columns = {
        "item_id": ids,
        "title": ids if titles is None else titles,
        "slice": pa.DictionaryArray.from_arrays(pa.array(slice_of_item), pa.array(list(slices))),
        "frequency": pa.array(prepared.item_frequency),
    }
    points = _projection(vectors[on_map])
    columns["x"] = _scattered(pa.array(points[:, 0]), on_map, prepared.num_items)
    columns["y"] = _scattered(pa.array(points[:, 1]), on_map, prepared.num_items)
    asked = current if len(current) <= _MOST_WITH_NEIGHBOURS else on_map
    similar, cosine = _neighbours(vectors, asked, prepared)
    columns["similar"] = _scattered(similar, asked, prepared.num_items)
    columns["cosine"] = _scattered(cosine, asked, prepared.num_items)
    for name, values in _features(prepared, on_map).items():
        columns[FEATURE + name] = _scattered(values, on_map, prepared.num_items)
    write_parquet(path, pa.table(columns))


def _sample(rows: Ints, most: int) -> Ints:
    """Draws rows without replacement, in order; the same at every call."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(_SEED).choice(rows, most, replace=False))


def _projection(vectors: Floats) -> Floats:
    """Computes a t-SNE, [rows, 2], from the principal components, so that it is reproducible."""
    if len(vectors) < 5:  # Too few for neighbourhoods.
        return vectors[:, :2]
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    model = TSNE(perplexity=perplexity, init="pca", random_state=_SEED, metric="cosine")
    points: Floats = model.fit_transform(vectors)
    return points


def _neighbours(vectors: Floats, asked: Ints, prepared: Prepared) -> tuple[pa.Array, pa.Array]:
    """Returns the nearest rows of each asked row, itself excluded, and their cosines."""
    top = top_items(
        vector_scorer(vectors[asked], vectors),
        num_items=len(vectors),
        excluded=Jagged(asked, np.arange(len(asked) + 1)),
        k=min(_SIMILAR, len(vectors)),
        is_candidate=prepared.is_current_item,
    )
    is_item = top >= 0
    cosine = np.einsum("rd,rkd->rk", vectors[asked], vectors[top])
    offsets = pa.array(np.concatenate([[0], np.cumsum(is_item.sum(axis=1))]).astype(np.int32))
    rows = pa.ListArray.from_arrays(offsets, pa.array(top[is_item].astype(np.int32)))
    return rows, pa.ListArray.from_arrays(offsets, pa.array(cosine[is_item]))


def _features(prepared: Prepared, rows: Ints) -> dict[str, pa.Array]:
    """Returns by feature each item's first value, where it is a frequent one of the sample."""
    columns = {}
    for feature in prepared.features.item:
        if not isinstance(feature, NamedFeature) or feature.is_hashed:  # Its rows have no names.
            continue
        column = prepared.item_columns[feature.name]
        assert isinstance(column, Jagged)
        bags = column.take(rows)
        first = bags.values[bags.offsets[:-1][bags.lengths > 0]]
        values, times = np.unique(first, return_counts=True)
        shown = values[np.argsort(-times, kind="stable")][:_SHOWN_VALUES]
        names = {int(v): value_name(int(v), feature, prepared.item_encoder) for v in shown}
        texts = np.full(len(rows), "(no value)", object)
        texts[bags.lengths > 0] = [names.get(int(value), "(others)") for value in first]
        columns[feature.name] = pa.array(texts, pa.string())
    return columns


def _scattered(values: pa.Array, rows: Ints, total: int) -> pa.Array:
    """Spreads values over `total` rows, null but for `rows`."""
    position = np.full(total, -1, np.int64)
    position[rows] = np.arange(len(rows))
    return values.take(pa.array(position, mask=position < 0))
