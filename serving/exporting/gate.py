"""Checks of a bundle before it replaces another; see `serving.bundle.manifest.Gate`."""

from collections.abc import Mapping

import numpy as np

from feature_store.core.columns import Floats
from feature_store.core.errors import UserError
from serving.recommend.golden import MAX_DIFFERENCE


class GateError(UserError):
    """A model that may not take the place of another: its numbers say so, not its surroundings."""


def require_finite(vectors: Floats, side: str) -> None:
    """Refuses vectors of a side that are not finite, with a `GateError`."""
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise GateError(
            f"{bad} of {len(vectors)} {side} vectors are not finite: nothing was exported; lower "
            "training.sparse_learning_rate or training.dense_learning_rate and train again."
        )


def difference(exported: Floats, trained: Floats, side: str) -> float:
    """Computes the largest difference between vectors of the exported and the trained tower.

    Raises:
        GateError: It is larger than `MAX_DIFFERENCE`.
    """
    largest = float(np.abs(exported - trained).max(initial=0.0))
    if not largest <= MAX_DIFFERENCE:
        raise GateError(
            f"the exported {side} tower's vectors differ by {largest:.2g} from the trained "
            f"one's, expected at most {MAX_DIFFERENCE}: nothing was exported; train again, and "
            "report it if it stays."
        )
    return largest


def require_recall(by_slice: Mapping[str, float], least: float) -> None:
    """Refuses an index that misses items of a slice, such as the tail's, with a `GateError`."""
    for name, recall in by_slice.items():
        if recall < least:
            raise GateError(
                f"the index finds {recall:.4f} of the {name} items among the exact 100 nearest, "
                f"expected at least {least}: nothing was exported; set export.index: flat, or "
                "lower export.min_slice_recall."
            )
