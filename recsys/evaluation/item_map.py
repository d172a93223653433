"""Item data of the dashboard: names, a map of the vectors, and nearest items."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Dense, Floats, Ints, Jagged
from feature_store.core.files import write_parquet
from feature_store.core.times import DAY
from feature_store.encoding.encoder import OOV_ROW
from feature_store.encoding.scaling import raw_numbers
from feature_store.kinds import DateFeature, MultiValuedFeature, NamedFeature, ScaledFeature
from pipelines.prepared.reader import Prepared
from pipelines.statistics.slices import item_slices
from recsys.config.config import Config
from recsys.evaluation.metrics import Doubles
from recsys.evaluation.ranking import top_items, vector_scorer
from recsys.evaluation.slices import value_name
from recsys.evaluation.titles import item_titles

FEATURE, INFORMATION = "feature.", "map_information"

_SIMILAR = 10
# In a larger catalogue only the items on the map get neighbours: all pairs would take too long.
_MOST_WITH_NEIGHBOURS = 40_000
_SEED = 0
# There are two more styles of points, for all other values and for none.
_SHOWN_VALUES = 6
_YEAR = re.compile(r"1[0-9]{3}|20[0-9]{2}")
# Most clusters of the vectors, and fewest items that one has on average; ranges of a number.
_MOST_CLUSTERS, _LEAST_OF_CLUSTER, _RANGES = 20, 10, 10


def write_items(path: Path, config: Config, prepared: Prepared, vectors: Floats) -> None:
    """Writes one row an item, in the order of item indices.

    Columns: `item_id`, `title`, `slice`, `frequency` (training events); of a sample `x` and `y`, a
    t-SNE of the vectors, `similar`, rows of the nearest items, with their `cosine`; and for each
    feature with few values, number or date `feature.<name>`. They are null beyond the sample. The
    features that tell most of the vectors' clusters come first, and the file's metadata says how
    much each tells (`map_information`).

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
    features = _features(prepared, on_map)
    tells = _information(features, vectors[on_map])
    for name in sorted(features, key=lambda name: -tells[name]):
        shown = features[name].shown
        columns[FEATURE + name] = _scattered(shown, on_map, prepared.num_items)
    write_parquet(path, pa.table(columns, metadata={INFORMATION: json.dumps(tells)}))


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


@dataclass(frozen=True)
class _Values:
    """The values of a feature.

    Attributes:
        shown: Names, numbers, or times of dates, for the map, [rows].
        groups: Number of each row's value, or of its range of values, [rows].
    """

    shown: pa.Array
    groups: Ints


def _features(prepared: Prepared, rows: Ints) -> dict[str, _Values]:
    """Returns the values of each feature that can colour a map, by its name."""
    encoder, found = prepared.item_encoder, {}
    for feature in prepared.features.item:
        column = prepared.item_columns[feature.name].take(rows)
        if isinstance(feature, NamedFeature) and not feature.is_hashed:  # Else rows have no names.
            assert isinstance(column, Jagged)
            years = _years(feature, column, prepared)
            found[feature.name] = (
                _named(feature, column, prepared)
                if years is None
                else _numbered(years, is_date=False)
            )
        elif isinstance(feature, ScaledFeature):
            assert isinstance(column, Dense)
            numbers = raw_numbers(feature, encoder.scalings[feature.name], column)
            found[feature.name] = _numbered(numbers, is_date=isinstance(feature, DateFeature))
    return found


def _years(feature: NamedFeature, bags: Jagged, prepared: Prepared) -> Doubles | None:
    """Returns the values of a feature whose values are years, which have an order, [rows].

    NaN where an item has none, or a rare one. None: they are not years, as with the numbers of
    brands, in which nothing lies between two values.
    """
    if isinstance(feature, MultiValuedFeature):
        return None
    years = np.full(len(bags), np.nan)
    has_one = np.flatnonzero(bags.lengths)
    values, rows = np.unique(bags.values[bags.offsets[:-1][has_one]], return_inverse=True)
    names = [value_name(int(v), feature, prepared.item_encoder) for v in values if v != OOV_ROW]
    if len(names) <= _SHOWN_VALUES or not all(_YEAR.fullmatch(name) for name in names):
        return None
    by_value = np.full(len(values), np.nan)
    by_value[values != OOV_ROW] = [float(name) for name in names]
    years[has_one] = by_value[rows]
    return years


def _named(feature: NamedFeature, bags: Jagged, prepared: Prepared) -> _Values:
    """Returns each item's first value, by its name where it is a frequent one of the sample."""
    has_one = bags.lengths > 0
    first = bags.values[bags.offsets[:-1][has_one]]
    values, times = np.unique(first, return_counts=True)
    shown = values[np.argsort(-times, kind="stable")][:_SHOWN_VALUES]
    names = {int(v): value_name(int(v), feature, prepared.item_encoder) for v in shown}
    texts = np.full(len(bags), "(no value)", object)
    texts[has_one] = [names.get(int(value), "(others)") for value in first]
    groups = np.full(len(bags), -1)
    groups[has_one] = first
    return _Values(pa.array(texts, pa.string()), groups)


def _numbered(numbers: Doubles, *, is_date: bool) -> _Values:
    """Returns numbers or dates, and ranges that have as many items each."""
    is_known = np.isfinite(numbers)
    known = numbers[is_known] if is_known.any() else np.zeros(1)
    bounds = np.unique(np.quantile(known, np.linspace(0, 1, _RANGES + 1)[1:-1]))
    groups = np.where(is_known, np.searchsorted(bounds, numbers, side="right"), -1)
    if not is_date:
        return _Values(pa.array(numbers, pa.float64(), mask=~is_known), groups)
    micros = (np.where(is_known, numbers, 0.0) * DAY).astype(np.int64)
    return _Values(pa.array(micros, pa.timestamp("us"), mask=~is_known), groups)


def _information(features: Mapping[str, _Values], vectors: Floats) -> dict[str, float]:
    """Returns how much each feature tells of the clusters of the vectors, from 0 to 1.

    It is their mutual information, less that of chance (Vinh et al. 2010), which features of many
    values have with anything, over the most that there could be.
    """
    count = min(_MOST_CLUSTERS, len(vectors) // _LEAST_OF_CLUSTER)
    if count < 2 or not features:
        return dict.fromkeys(features, 0.0)
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    clusters = KMeans(count, n_init=1, random_state=_SEED).fit_predict(vectors)
    return {
        name: round(adjusted_mutual_info_score(of.groups, clusters, average_method="max"), 4)
        for name, of in features.items()
    }


def _scattered(values: pa.Array, rows: Ints, total: int) -> pa.Array:
    """Spreads values over `total` rows, null but for `rows`."""
    position = np.full(total, -1, np.int64)
    position[rows] = np.arange(len(rows))
    return values.take(pa.array(position, mask=position < 0))
