"""Matrix factorisation by alternating least squares."""

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from feature_store.core.columns import Jagged
from recsys.evaluation.baselines.item_knn import binary_matrix
from recsys.evaluation.ranking import Scorer, vector_scorer

_FACTORS, _REGULARISATION, _ITERATIONS = 64, 0.05, 15


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
