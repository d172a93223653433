"""EASE: item-item weights in closed form."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from feature_store.core.columns import Ints, Jagged
from recsys.evaluation.baselines.item_knn import binary_matrix
from recsys.evaluation.ranking import ItemScores, Scorer


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
