"""Recent popularity: events weighted by their age."""

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Floats
from feature_store.core.times import DAY
from recsys.channels.log import TrainingLog

# Half-lives to choose from, in days.
HALF_LIVES = (1.0, 7.0, 30.0, 90.0, 365.0)


def recent_counts(log: TrainingLog, half_life: float | None) -> npt.NDArray[np.float64]:
    """Counts the training events of each item, [items], by their age at the latest of them.

    Args:
        log: Training events.
        half_life: Days after which an event counts half; None: never.
    """
    if half_life is None or log.times is None or not len(log.times):
        return np.bincount(log.items.values, minlength=log.num_items).astype(np.float64)
    age = (log.times.max() - log.times) / (half_life * DAY)
    return np.asarray(np.bincount(log.items.values, 0.5**age, log.num_items), np.float64)


def trend_of(counts: npt.NDArray[np.float64]) -> Floats:
    """Scales counts logarithmically to scores from 0 to 1, [items]."""
    scores = np.log1p(counts)
    return (scores / max(scores.max(initial=0.0), 1e-12)).astype(np.float32)


def popularity_dial(
    counts: npt.NDArray[np.float64], is_ranked: npt.NDArray[np.bool_], temperature: float
) -> Floats:
    """Returns what the dial takes off: temperature * (log Q - its mean), [items].

    Q is an item's share of the events. Half an event is added to each, because items without any
    would be infinitely far in front.

    Args:
        counts: Events of each item, [items].
        is_ranked: Whether an item is an answer, [items]; the mean is over these.
        temperature: Temperature of the softmax that the model was trained with.
    """
    log_q = np.log(counts + 0.5)
    return (temperature * (log_q - log_q[is_ranked].mean())).astype(np.float32)
