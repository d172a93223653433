"""The trade-off of a fused ranking along its popularity dial."""

from collections.abc import Mapping

import numpy as np

from feature_store.core.columns import Bools
from recsys.evaluation.results import TradeOff
from recsys.fusion.sample import STRONGEST_DIAL, Sample
from recsys.fusion.weights import Weights

DIALS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.8, STRONGEST_DIAL)


def trade_off(
    sample: Sample, slices: Mapping[str, Bools], weights: Weights
) -> tuple[TradeOff, ...]:
    """Measures a ranking at several weights of the dial, its own among them.

    Args:
        sample: Candidates of sampled queries.
        slices: Members of each slice of items, [items].
        weights: Weights of the other parts.
    """
    query = sample.query.numpy()
    pairs = np.maximum(np.bincount(query, minlength=len(sample.candidates)), 1)
    points = []
    for dial in sorted({*DIALS, weights.dial}):
        hits = sample.found(weights.model_copy(update={"dial": dial}), (10, 50))
        recall = [np.mean(np.bincount(query, row, len(pairs)) / pairs) for row in hits]
        of_slices = {name: hits[1][members[sample.item]] for name, members in slices.items()}
        points.append(
            TradeOff(
                dial=dial,
                recall={"recall@10": float(recall[0]), "recall@50": float(recall[1])},
                slices={n: float(h.mean()) if len(h) else None for n, h in of_slices.items()},
            )
        )
    return tuple(points)
