"""What every model is measured against, by the same code on the same queries."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits
from torch import Tensor

from feature_store.core.columns import Ints, Jagged
from feature_store.core.hashing import hash64
from recsys.config.evaluation import Baseline, EvaluationConfig
from recsys.evaluation.item_knn import binary_matrix
from recsys.evaluation.ranking import ItemScores, Scorer, vector_scorer

# What is tried on the validation split.
_EASE_REGULARISATIONS = (30.0, 100.0, 300.0, 1000.0)
_ALS_CONFIDENCES = (1.0, 10.0)
_CHANCE = 0
_NEIGHBOURS = 100
# EASE takes time by the cube of the items.
_MOST_ITEMS_OF_EASE = 6_000


class Fitted(Protocol):
    """A baseline that was fitted to the training events."""

    def scorer(self, known: Jagged) -> Scorer:
        """Scores of all items for queries that have `known` ones, [queries]."""


@dataclass(frozen=True)
class Training:
    """What baselines learn from.

    Attributes:
        items: [queries] of the training events, of all queries.
        frequency: [items] training events.
        validate: Gives the validation metric of a fitted baseline, by which it is tuned.
    """

    items: Jagged
    frequency: Ints
    validate: Callable[[Fitted], float]


@dataclass(frozen=True)
class Popularity:
    """Scores an item by its training events, [items]; the same for every query."""

    frequency: Ints

    def scorer(self, known: Jagged) -> Scorer:
        """Of any queries."""
        # Ranks instead of counts: float32 cannot tell counts above 2^24 apart.
        _, rank = np.unique(self.frequency, return_inverse=True)
        scores = torch.from_numpy(rank.astype(np.float64))
        return lambda rows: lambda start, stop: scores[start:stop].expand(len(rows), -1)


@dataclass(frozen=True)
class Chance:
    """Scores without any reason, and the same ones every time."""

    def scorer(self, known: Jagged) -> Scorer:
        """Of any queries."""

        def choose(rows: Ints) -> ItemScores:
            def score(start: int, stop: int) -> torch.Tensor:
                drawn = hash64(_CHANCE, rows[:, None], np.arange(start, stop))
                return torch.from_numpy(drawn.astype(np.float64))

            return score

        return choose


@dataclass(frozen=True)
class _Knn:
    training: Training

    def scorer(self, known: Jagged) -> Scorer:
        from recsys.evaluation.item_knn import item_knn_scorer, item_similarity

        items = len(self.training.frequency)
        return item_knn_scorer(known, item_similarity(self.training.items, items, _NEIGHBOURS))


def _ease(training: Training) -> Fitted:

    items = len(training.frequency)
    return _best(training, _EASE_REGULARISATIONS, lambda r: Ease.fit(training.items, items, r))


def _als(training: Training) -> Fitted:

    items = len(training.frequency)
    return _best(training, _ALS_CONFIDENCES, lambda c: Als(training.items, items, c))


def _best(
    training: Training, settings: tuple[float, ...], fit: Callable[[float], Fitted]
) -> Fitted:
    """That of the settings which is best on the validation split; of equal ones the first."""
    best: tuple[float, Fitted] | None = None
    for setting in settings:
        fitted = fit(setting)
        value = training.validate(fitted)
        if best is None or value > best[0]:
            best = value, fitted
    assert best is not None
    return best[1]


def baselines(
    settings: EvaluationConfig, num_items: int
) -> tuple[dict[Baseline, Callable[[Training], Fitted]], list[str]]:
    """How to fit each of the configured baselines, and a sentence for each that is left out."""
    known: dict[Baseline, Callable[[Training], Fitted]] = {
        "random": lambda _: Chance(),
        "popularity": lambda training: Popularity(training.frequency),
        "item_knn": _Knn,
        "ease": _ease,
        "als": _als,
    }
    left_out = []
    chosen = {name: fit for name, fit in known.items() if name in settings.baselines}
    if "ease" in chosen and num_items > _MOST_ITEMS_OF_EASE:
        del chosen["ease"]
        left_out.append(
            f"EASE is left out: its time grows with the cube of the items, and {num_items:,} are "
            f"more than {_MOST_ITEMS_OF_EASE:,}"
        )
    return chosen, left_out


_FACTORS, _REGULARISATION, _ITERATIONS = 64, 0.05, 15


class Als:
    """A matrix factorisation, whose queries are fitted anew to the items that they have.

    Args:
        train: [queries] items.
        num_items: Of the corpus.
        confidence: How much more an event counts than its absence.
    """

    def __init__(self, train: Jagged, num_items: int, confidence: float) -> None:
        self._num_items = num_items
        with threadpool_limits(1, "blas"):  # It has threads of its own.
            self._model = AlternatingLeastSquares(
                factors=_FACTORS,
                regularization=_REGULARISATION,
                alpha=confidence,
                iterations=_ITERATIONS,
                random_state=0,
            )
            self._model.fit(self._matrix(train), show_progress=False)

    def scorer(self, known: Jagged) -> Scorer:
        """Scores by the products of the factors; `known` are the items of each query."""
        with threadpool_limits(1, "blas"):
            queries = self._model.recalculate_user(np.arange(len(known)), self._matrix(known))
        return vector_scorer(queries, self._model.item_factors)

    def _matrix(self, items: Jagged) -> sparse.csr_matrix:
        return binary_matrix(items, self._num_items).astype(np.float32)


@dataclass(frozen=True)
class Ease:
    """Fitted in closed form (Steck, Embarrassingly shallow autoencoders for sparse data, 2019).

    Attributes:
        weights: [items, items] float32, with a diagonal of zeros.
    """

    weights: Tensor

    @classmethod
    def fit(cls, train: Jagged, num_items: int, regularisation: float) -> "Ease":
        """The least squares of predicting each item from the others.

        Time grows with the cube of the items and memory with their square, 32 bytes for each pair.

        Args:
            train: [queries] items.
            num_items: Of the corpus.
            regularisation: Of the squares of the weights.
        """
        matrix = binary_matrix(train, num_items)
        together = torch.from_numpy((matrix.T @ matrix).toarray())
        together.diagonal().add_(regularisation)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(together))
        weights = -inverse / inverse.diagonal()
        weights.fill_diagonal_(0.0)
        return cls(weights.float())

    def scorer(self, known: Jagged) -> Scorer:
        """Scores by the sum of the weights from the items that a query has, [queries]."""
        weights = self.weights.numpy()

        def choose(rows: Ints) -> ItemScores:
            matrix = binary_matrix(known.take(rows), len(weights)).astype(np.float32)
            scores = torch.from_numpy(matrix @ weights)
            return lambda start, stop: scores[:, start:stop]

        return choose
