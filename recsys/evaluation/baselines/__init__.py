"""Baselines, fitted to the training events and measured by the same code on the same queries."""

from collections.abc import Callable

from recsys.config.evaluation import Baseline, EvaluationConfig
from recsys.evaluation.baselines.als import Als
from recsys.evaluation.baselines.ease import Ease
from recsys.evaluation.baselines.fitted import Fitted, Training
from recsys.evaluation.baselines.item_knn import ItemKnn, item_similarity
from recsys.evaluation.baselines.non_personalised import Chance, Popularity
from recsys.evaluation.selection import Score

# Settings that are tried on the validation split.
_EASE_REGULARISATIONS = (30.0, 100.0, 300.0, 1000.0)
_ALS_CONFIDENCES = (1.0, 10.0)

_NEIGHBOURS = 100
# The time of EASE grows with the cube of the number of items.
_MOST_ITEMS_OF_EASE = 6_000


def _item_knn(training: Training) -> Fitted:
    return ItemKnn(item_similarity(training.items, len(training.frequency), _NEIGHBOURS))


def _ease(training: Training) -> Fitted:
    items = len(training.frequency)
    return _best(training, _EASE_REGULARISATIONS, lambda r: Ease.fit(training.items, items, r))


def _als(training: Training) -> Fitted:
    items = len(training.frequency)
    return _best(training, _ALS_CONFIDENCES, lambda c: Als(training.items, items, c))


def _best(
    training: Training, settings: tuple[float, ...], fit: Callable[[float], Fitted]
) -> Fitted:
    """Returns the baseline with the best validation score; the first among equals."""
    best: tuple[Score, Fitted] | None = None
    for setting in settings:
        fitted = fit(setting)
        score = training.validate(fitted)
        if best is None or score > best[0]:
            best = score, fitted
    assert best is not None
    return best[1]


BASELINES: dict[Baseline, Callable[[Training], Fitted]] = {
    "random": lambda _: Chance(),
    "popularity": lambda training: Popularity(training.frequency),
    "item_knn": _item_knn,
    "ease": _ease,
    "als": _als,
}


def chosen_baselines(
    settings: EvaluationConfig, num_items: int
) -> tuple[dict[Baseline, Callable[[Training], Fitted]], list[str]]:
    """Returns how to fit each configured baseline, and a sentence for each that is left out."""
    chosen = {name: fit for name, fit in BASELINES.items() if name in settings.baselines}
    left_out = []
    if "ease" in chosen and num_items > _MOST_ITEMS_OF_EASE:
        del chosen["ease"]
        left_out.append(
            f"EASE is left out: its time grows with the cube of the items, and {num_items:,} are "
            f"more than {_MOST_ITEMS_OF_EASE:,}"
        )
    return chosen, left_out
