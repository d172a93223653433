"""The test that the parts of a bundle fit each other, whoever wrote and sealed it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.bounds import LARGE
from feature_store.core.columns import Column, Dense, Floats, Ints
from feature_store.core.errors import UserError
from feature_store.core.files import FLOATS, INTEGERS
from feature_store.encoding.encoder import SideEncoder
from feature_store.kinds import AnyFeature
from recsys.fusion.fused import Fused
from serving.bundle.manifest import BundleManifest
from serving.index.index import ItemIndex
from serving.recommend.catalogue import Catalogue
from serving.recommend.queries import QuerySnapshot

# Errors of readers of files that are not as the layout says.
_FAULTS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OSError,
    pa.ArrowException,
)


@contextmanager
def refusing(directory: Path) -> Iterator[None]:
    """Turns the faults of a bundle's files into a refusal of the bundle.

    Raises:
        UserError: A file is not what the layout says, or contradicts another one.
    """
    try:
        yield
    except _FAULTS as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(
            f"the bundle {directory} cannot be read: {lines[0].rstrip('.')}; copy it whole "
            "or export the model again."
        ) from error


def require_items(manifest: BundleManifest, catalogue: Catalogue, index: ItemIndex) -> None:
    """Compares the counts and indices of items.

    Raises:
        ValueError: Two of them contradict each other.
    """
    items, indexed, frequency = len(catalogue.ids), catalogue.indexed, catalogue.frequency
    counts = {"the manifest": manifest.items, "items/indexed.npy": len(indexed)}
    _require_equal("indexed items", {**counts, "the index": len(index)})
    _require_equal("numbers of a vector", {"the manifest": manifest.dim, "the index": index.dim})
    _require_equal("items", {"ids/item.arrow": items, "items/frequency.npy": len(frequency)})
    if manifest.trained_items > items:
        raise ValueError(f"{manifest.trained_items:,} of {items:,} items were trained")
    _require_below("items/indexed.npy", indexed, items)
    if (np.diff(indexed) <= 0).any():
        raise ValueError("items/indexed.npy is not ascending")
    for name, lists in catalogue.filters.items():
        _require_below(f"the filter {name!r}", lists.listed, items)


def require_channels(fused: Fused, items: int) -> None:
    """Compares the counts and indices of channels, and looks for numbers that are none.

    Args:
        fused: Channels.
        items: Number of ids of items.

    Raises:
        ValueError: Two of them contradict each other, or scores are not finite or too large.
    """
    of_items = {"rarity": fused.rarity, "dial": fused.dial, "trend": fused.trend}
    counts = {f"fusion/{name}.npy": len(values) for name, values in of_items.items()}
    _require_equal("items", {"ids/item.arrow": items, **counts})
    for name, values in of_items.items():
        _require_moderate(f"fusion/{name}.npy", values)
    for name, neighbours in fused.lists.items():
        title, lists, scores = f"fusion/lists/{name}", neighbours.lists, neighbours.scores
        _require_equal("items", {"ids/item.arrow": items, title: len(lists)})
        _require_equal("neighbours", {f"{title}/scores": len(scores), title: len(lists.values)})
        ends = {"the first": int(lists.offsets[0]), "the last": int(lists.offsets[-1])}
        if ends != {"the first": 0, "the last": len(scores)} or (lists.lengths < 0).any():
            raise ValueError(f"{title}/offsets.npy does not lead from 0 to {len(scores):,}")
        _require_below(title, lists.values, items)
        _require_moderate(f"{title}/scores.npy", scores)
    missing = [name for name in fused.info.weights.used() if name not in fused.info.channels]
    if missing:
        raise ValueError(f"fusion/fusion.json weighs {missing[0]!r}, which is no channel of it")


def require_queries(
    manifest: BundleManifest,
    features: Sequence[AnyFeature],
    ids: int,
    items: int,
    snapshot: QuerySnapshot,
) -> None:
    """Compares the counts and indices of queries.

    Args:
        manifest: Manifest of the bundle.
        features: Query features.
        ids: Number of ids of queries.
        items: Number of ids of items.
        snapshot: State of the queries.

    Raises:
        ValueError: Two of them contradict each other.
    """
    columns = snapshot.columns
    _require_features("queries/features.arrow", features, columns)
    states = {
        "history": snapshot.history,
        "known": snapshot.known,
        "later": snapshot.later,
        "own": snapshot.own,
        "read": snapshot.read,
    }
    counts = {f"the feature {name!r}": len(column) for name, column in columns.items()}
    if snapshot.latest is not None:
        counts["queries/latest.npy"] = len(snapshot.latest)
    if snapshot.vectors is not None:
        counts["queries/vectors.npy"] = len(snapshot.vectors)
        dims = {"the manifest": manifest.dim, "queries/vectors.npy": snapshot.vectors.shape[1]}
        _require_equal("numbers of a vector", dims)
    _require_equal(
        "queries",
        {
            "the manifest": manifest.queries,
            "ids/query.arrow": ids,
            **{f"queries/state.arrow: {name}": len(bags) for name, bags in states.items()},
            **counts,
        },
    )
    _require_below("a history", snapshot.history.values, manifest.trained_items)
    for name, bags in states.items():
        _require_below(f"queries/state.arrow: {name}", bags.values, items)


def require_contents(columns: Mapping[str, Column], encoder: SideEncoder, items: int) -> None:
    """Compares the features of items with the tables that they are rows of.

    Args:
        columns: Encoded features of items.
        encoder: Encoder of items.
        items: Number of ids of items.

    Raises:
        ValueError: Two of them contradict each other, or a number is not finite.
    """
    _require_features("items/features.arrow", encoder.features, columns)
    counts = {f"the feature {name!r}": len(column) for name, column in columns.items()}
    _require_equal("items", {"ids/item.arrow": items, **counts})
    for feature in encoder.features:
        column, title = columns[feature.name], f"items/features.arrow: {feature.name}"
        if isinstance(column, Dense):
            _require_finite(title, column.values)
        elif not feature.is_id:  # A new item's id may have a row that the table has not.
            _require_below(title, column.values, encoder.num_embeddings(feature), "a row")


def _require_features(
    path: str, features: Sequence[AnyFeature], columns: Mapping[str, Column]
) -> None:
    if list(columns) != [feature.name for feature in features]:
        raise ValueError(f"{path} has the features {', '.join(columns)}")
    for feature in features:
        column = columns[feature.name]
        if isinstance(column, Dense):
            is_right = not feature.is_sparse and _width(column) == feature.dense_width
            kinds = FLOATS
        else:
            is_right, kinds = feature.is_sparse, INTEGERS
        if not is_right or column.values.dtype.kind not in kinds:
            raise ValueError(f"{path} has {feature.name!r} of another kind")


def _width(column: Dense) -> int:
    return column.values.shape[1]


def _require_equal(what: str, counts: dict[str, int]) -> None:
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{count:,} by {where}" for where, count in counts.items())
        raise ValueError(f"it has {shown} {what}")


def _require_below(what: str, indices: Ints, count: int, one: str = "an item") -> None:
    if len(indices) and not (int(indices.min()) >= 0 and int(indices.max()) < count):
        raise ValueError(f"{what} has {one} that is not one of {count:,}")


def _require_finite(what: str, values: Floats) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{what} has a number that is not finite")


def _require_moderate(what: str, values: Floats) -> None:
    # NaN is neither above nor below anything.
    if len(values) and not (values.min() >= -LARGE and values.max() <= LARGE):
        raise ValueError(f"{what} has a number that is not finite, or beyond {LARGE:,.0f}")
