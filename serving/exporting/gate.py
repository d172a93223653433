"""Checks of a bundle before it replaces another; see `serving.bundle.manifest.Gate`."""

from collections.abc import Mapping

import numpy as np

from feature_store.core.columns import Floats
from feature_store.core.errors import UserError
from serving.recommend.golden import MAX_DIFFERENCE

# Slices with fewer pairs are not compared.
_MIN_PAIRS = 30
_METRIC = "recall@50"


def require_finite(vectors: Floats, side: str) -> None:
    """Refuses vectors of a side that are not finite, with a `UserError`."""
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise UserError(
            f"{bad} of {len(vectors)} {side} vectors are not finite: nothing was exported; lower "
            "training.sparse_learning_rate or training.dense_learning_rate and train again."
        )


def difference(exported: Floats, trained: Floats, side: str) -> float:
    """Computes the largest difference between vectors of the exported and the trained tower.

    Raises:
        UserError: It is larger than `MAX_DIFFERENCE`.
    """
    largest = float(np.abs(exported - trained).max(initial=0.0))
    if not largest <= MAX_DIFFERENCE:
        raise UserError(
            f"the exported {side} tower's vectors differ by {largest:.2g} from the trained "
            f"one's, expected at most {MAX_DIFFERENCE}: nothing was exported; train again, and "
            "report it if it stays."
        )
    return largest


def require_recall(by_slice: Mapping[str, float], least: float) -> None:
    """Refuses an index that misses items of a slice, such as the tail's, with a `UserError`."""
    for name, recall in by_slice.items():
        if recall < least:
            raise UserError(
                f"the index finds {recall:.4f} of the {name} items among the exact 100 nearest, "
                f"expected at least {least}: nothing was exported; set export.index: flat, or "
                "lower export.min_slice_recall."
            )


def changes_against(
    champion: Mapping[str, Mapping[str, float]],
    slices: Mapping[str, Mapping[str, float]],
    tolerance: float,
) -> dict[str, float]:
    """Computes the relative change of each slice.

    Args:
        champion: Metrics of the champion by slice.
        slices: Metrics of the new model by slice, with intervals.
        tolerance: Part of the champion's value by which a slice may be worse, beyond its interval.

    Raises:
        UserError: A slice is worse than tolerated.
    """
    changes = {}
    for name, figures in slices.items():
        before = champion.get(name, {}).get(_METRIC)
        now = figures.get(_METRIC)
        if not before or now is None or figures["count"] < _MIN_PAIRS:
            continue
        changes[name] = now / before - 1
        best = figures.get(f"{_METRIC}_high", now)
        if best < before * (1 - tolerance):
            raise UserError(
                f"{_METRIC} of the slice {name} is {now:.4f}, the champion's {before:.4f}: worse "
                f"by more than {tolerance:.0%}: nothing was exported; keep the champion, or raise "
                "export.tolerance."
            )
    return changes
