"""The trade-off of a fused ranking along its popularity dial."""

from collections.abc import Mapping, Sequence

import numpy as np

from feature_store.core.columns import Bools
from recsys.evaluation.results import TradeOff
from recsys.fusion.sample import STRONGEST_DIAL, Sample
from recsys.fusion.weights import Weights

DIALS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.8, STRONGEST_DIAL)
# Share of the overall recall at which tails are compared.
TAIL_LOSS = 0.01


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


def tail_at_loss(points: Sequence[TradeOff], loss: float = TAIL_LOSS) -> float | None:
    """Returns Recall@50 of the tail where the dial costs a share of the overall Recall@50.

    Rankings of different strength in the head and the tail can so be compared by one figure: each
    is moved along its dial, from its highest overall recall on, to where as much of that is lost.
    Between two points the curve is a line.

    Args:
        points: Points of a curve, of ascending dials.
        loss: Share of the highest overall recall that is given up.

    Returns:
        The recall, that of the last point where the dial never costs as much; None without a point
        or without held-out pairs of the tail.
    """
    curve = [(each.recall["recall@50"], each.slices["tail"]) for each in points]
    if not curve or curve[0][1] is None:
        return None
    overall, tail = (np.array(column, float) for column in zip(*curve, strict=True))
    best = int(overall.argmax())
    least = overall[best] * (1 - loss)
    below = np.flatnonzero(overall[best:] < least)
    if not len(below):
        return float(tail[-1])
    after = best + int(below[0])
    part = (overall[after - 1] - least) / (overall[after - 1] - overall[after])
    return float(tail[after - 1] + part * (tail[after] - tail[after - 1]))
