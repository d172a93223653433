"""EASE: a linear map from the items that a query has to the scores of all items."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from feature_store.core.columns import Ints, Jagged
from recsys.item_knn import binary_matrix
from recsys.ranking import ItemScores, Scorer


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
