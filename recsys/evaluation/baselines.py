"""Baselines, fitted to the training events and measured by the same code on the same queries."""

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
from recsys.evaluation.item_knn import binary_matrix, item_knn_scorer, item_similarity
from recsys.evaluation.ranking import ItemScores, Scorer, vector_scorer
from recsys.evaluation.selection import Score

# Settings that are tried on the validation split.
_EASE_REGULARISATIONS = (30.0, 100.0, 300.0, 1000.0)
_ALS_CONFIDENCES = (1.0, 10.0)

_NEIGHBOURS = 100
_FACTORS, _REGULARISATION, _ITERATIONS = 64, 0.05, 15
_CHANCE_SEED = 0
# The time of EASE grows with the cube of the number of items.
_MOST_ITEMS_OF_EASE = 6_000


class Fitted(Protocol):
    """A baseline that was fitted to the training events."""

    def scorer(self, known: Jagged) -> Scorer:
        """Returns the scores of all items for queries with the given known items, [queries]."""


@dataclass(frozen=True)
class Training:
    """Data that baselines are fitted to.

    Attributes:
        items: Items of the training events of all queries, [queries].
        frequency: Number of training events of each item, [items].
        validate: Function that scores a fitted baseline on the validation split.
    """

    items: Jagged
    frequency: Ints
    validate: Callable[[Fitted], Score]


@dataclass(frozen=True)
class Popularity:
    """Popularity: the number of training events, the same for every query.

    Attributes:
        frequency: Number of training events of each item, [items].
    """

    frequency: Ints

    def scorer(self, known: Jagged) -> Scorer:
        """Returns scores that do not depend on the known items."""
        # Ranks instead of counts: float32 cannot tell counts above 2^24 apart.
        _, rank = np.unique(self.frequency, return_inverse=True)
        scores = torch.from_numpy(rank.astype(np.float64))
        return lambda rows: lambda start, stop: scores[start:stop].expand(len(rows), -1)


@dataclass(frozen=True)
class Chance:
    """Pseudo-random scores, the same in every run."""

    def scorer(self, known: Jagged) -> Scorer:
        """Returns scores that do not depend on the known items."""

        def choose(rows: Ints) -> ItemScores:
            def score(start: int, stop: int) -> Tensor:
                drawn = hash64(_CHANCE_SEED, rows[:, None], np.arange(start, stop))
                return torch.from_numpy(drawn.astype(np.float64))

            return score

        return choose


@dataclass(frozen=True)
class ItemKnn:
    """Item-kNN: the summed similarities of an item to the known ones; see `item_similarity`.

    Attributes:
        similarity: Similarities of the nearest items, sparse [items, items].
    """

    similarity: sparse.csr_matrix

    def scorer(self, known: Jagged) -> Scorer:
        """Returns the sums over the known items of each query, [queries]."""
        return item_knn_scorer(known, self.similarity)


class Als:
    """Matrix factorisation by alternating least squares (Hu et al. 2008), from `implicit`.

    The factors of a query are fitted to its known items when it is scored.

    Args:
        train: Items of the training events, [queries].
        num_items: Number of items of the corpus.
        confidence: Weight of an event relative to its absence.
    """

    def __init__(self, train: Jagged, num_items: int, confidence: float) -> None:
        self._num_items = num_items
        with threadpool_limits(1, "blas"):  # The library has threads of its own.
            self._model = AlternatingLeastSquares(
                factors=_FACTORS,
                regularization=_REGULARISATION,
                alpha=confidence,
                iterations=_ITERATIONS,
                random_state=0,
            )
            self._model.fit(self._matrix(train), show_progress=False)

    def scorer(self, known: Jagged) -> Scorer:
        """Returns the products of the factors of queries, from their known items, and of items."""
        with threadpool_limits(1, "blas"):
            queries = self._model.recalculate_user(np.arange(len(known)), self._matrix(known))
        return vector_scorer(queries, self._model.item_factors)

    def _matrix(self, items: Jagged) -> sparse.csr_matrix:
        return binary_matrix(items, self._num_items).astype(np.float32)


@dataclass(frozen=True)
class Ease:
    """EASE: item-item weights in closed form (Steck 2019).

    Source: Embarrassingly shallow autoencoders for sparse data, WWW 2019.

    Attributes:
        weights: Weight of a known item for another, [items, items] float32, 0 on the diagonal.
    """

    weights: Tensor

    @classmethod
    def fit(cls, train: Jagged, num_items: int, regularisation: float) -> "Ease":
        """Solves the least squares of predicting each item from the others.

        Time grows with the cube of the number of items, and memory its square: 32 bytes a pair.

        Args:
            train: Items of the training events, [queries].
            num_items: Number of items of the corpus.
            regularisation: Weight of the squared weights.
        """
        matrix = binary_matrix(train, num_items)
        together = torch.from_numpy((matrix.T @ matrix).toarray())
        together.diagonal().add_(regularisation)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(together))
        weights = -inverse / inverse.diagonal()
        weights.fill_diagonal_(0.0)
        return cls(weights.float())

    def scorer(self, known: Jagged) -> Scorer:
        """Returns the sums of the weights of the known items of each query, [queries]."""
        weights = self.weights.numpy()

        def choose(rows: Ints) -> ItemScores:
            matrix = binary_matrix(known.take(rows), len(weights)).astype(np.float32)
            scores = torch.from_numpy(matrix @ weights)
            return lambda start, stop: scores[:, start:stop]

        return choose


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
