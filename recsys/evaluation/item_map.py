"""What the dashboard shows of items: names, a map of their vectors, and which are alike."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Floats, Ints, Jagged
from feature_store.core.files import write_parquet
from feature_store.schema import CategoricalFeature, IdFeature, MultiValuedFeature
from pipelines.prepared.reader import Prepared
from pipelines.statistics.popularity import item_slices
from recsys.config.config import Config
from recsys.evaluation.ranking import top_items, vector_scorer
from recsys.evaluation.slices import value_name
from recsys.evaluation.titles import item_titles

ITEMS = "items.parquet"
FEATURE = "feature."

_SIMILAR = 10
# Of a larger catalogue only the items on the map have neighbours, for all pairs take too long.
_MOST_WITH_NEIGHBOURS = 40_000
_SEED = 0
# With two more for the rest, as many as there are styles of points.
_SHOWN_VALUES = 6


def write_items(path: Path, config: Config, prepared: Prepared, vectors: Floats) -> None:
    """One row an item, in the order of item indices.

    Columns: `item_id`, `title`, `slice`, `frequency` (training events); of a sample `x` and `y`, a
    t-SNE of the vectors, `similar`, rows of the nearest items, with their `cosine`; and for each
    feature with few values `feature.<name>`. They are null beyond the sample.

    Args:
        path: Of the Parquet file.
        config: Says where the titles are, and how many items the map has.
        prepared: Of the items.
        vectors: [items, dim] L2-normalised.
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
    places = _projection(vectors[on_map])
    columns["x"] = _scattered(pa.array(places[:, 0]), on_map, prepared.num_items)
    columns["y"] = _scattered(pa.array(places[:, 1]), on_map, prepared.num_items)
    asked = current if len(current) <= _MOST_WITH_NEIGHBOURS else on_map
    similar, cosine = _neighbours(vectors, asked, prepared)
    columns["similar"] = _scattered(similar, asked, prepared.num_items)
    columns["cosine"] = _scattered(cosine, asked, prepared.num_items)
    for name, values in _features(prepared, on_map).items():
        columns[FEATURE + name] = _scattered(values, on_map, prepared.num_items)
    write_parquet(path, pa.table(columns))


def _sample(rows: Ints, most: int) -> Ints:
    """Without replacement, in order; the same at every call."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(_SEED).choice(rows, most, replace=False))


def _projection(vectors: Floats) -> Floats:
    """[rows, 2]; a t-SNE that starts from the principal components, so that it is reproducible."""
    if len(vectors) < 5:  # Too few for neighbourhoods.
        return vectors[:, :2]
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    model = TSNE(perplexity=perplexity, init="pca", random_state=_SEED, metric="cosine")
    found: Floats = model.fit_transform(vectors)
    return found


def _neighbours(vectors: Floats, asked: Ints, prepared: Prepared) -> tuple[pa.Array, pa.Array]:
    """The nearest rows of each row that is asked for, itself excluded, and their cosines."""
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
    """By feature, an item's first value where it is one of the most frequent ones of the sample."""
    found = {}
    for feature in prepared.features.item:
        if isinstance(feature, IdFeature) or not isinstance(
            feature, CategoricalFeature | MultiValuedFeature
        ):
            continue
        if feature.hash_buckets is not None:  # Its rows have no names.
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
        found[feature.name] = pa.array(texts, pa.string())
    return found


def _scattered(values: pa.Array, rows: Ints, total: int) -> pa.Array:
    """[total], null but for `rows`."""
    place = np.full(total, -1, np.int64)
    place[rows] = np.arange(len(rows))
    return values.take(pa.array(place, mask=place < 0))
