"""Alternating least squares on implicit feedback (Hu, Koren and Volinsky 2008), by `implicit`."""

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from feature_store.core.columns import Jagged
from recsys.item_knn import binary_matrix
from recsys.ranking import Scorer, vector_scorer

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
