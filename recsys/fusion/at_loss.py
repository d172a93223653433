"""The tail at a price: where the popularity dial costs a share of the overall recall."""

from collections.abc import Sequence

import numpy as np

from recsys.evaluation.results import TradeOff

# Share of the overall recall at which tails are compared.
_TAIL_LOSS = 0.01


def tail_at_loss(points: Sequence[TradeOff], loss: float = _TAIL_LOSS) -> float | None:
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
