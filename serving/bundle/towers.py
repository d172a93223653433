"""Towers that compute vectors of encoded features."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from feature_store.core.columns import Column, Dense, Floats, Jagged
from feature_store.kinds import AnyFeature

# Values and offsets of each sparse feature, numbers and presence of the dense ones; for queries
# then the same of the context, and the history's items and offsets.
Inputs = tuple[list[Tensor] | Tensor, ...]


class ServedTower:
    """A tower of a bundle; several threads may call it at a time.

    Args:
        network: Module of the tower.
        features: Features of its side, in the schema's order.
        context: Context features; of the query tower alone.
    """

    def __init__(
        self,
        network: nn.Module,
        features: tuple[AnyFeature, ...],
        context: tuple[AnyFeature, ...] = (),
    ) -> None:
        self._network = network.eval()
        self._features = features
        self._context = context

    def __call__(
        self,
        columns: Mapping[str, Column],
        rows: int,
        history: Jagged | None = None,
        context: Mapping[str, Column] | None = None,
    ) -> Floats:
        """Computes L2-normalised vectors, [rows, dim].

        Args:
            columns: Encoded features by name, [rows]; absent ones become their default embedding.
            rows: Number of rows.
            history: Items, oldest first, [rows]; of queries alone.
            context: Encoded context features by name, [rows]; of queries alone.
        """
        inputs = tower_inputs(self._features, columns, rows)
        if history is not None:
            inputs += tower_inputs(self._context, context or {}, rows) + _bags(history)
        with torch.no_grad():
            return self._network(*inputs).numpy()


def tower_inputs(
    features: tuple[AnyFeature, ...], columns: Mapping[str, Column], rows: int
) -> Inputs:
    """Returns the inputs of `SideLookup`.

    Returns:
        values: Rows of each sparse feature's table, [total] int64.
        offsets: Offsets of each sparse feature's bags, [rows + 1] int64.
        dense: [rows, width] float32, the dense features side by side.
        dense_present: [rows, dense features] bool.
    """
    bags: list[tuple[Tensor, Tensor]] = []
    dense: list[Dense] = []
    for feature in features:
        column = columns[feature.name]
        if isinstance(column, Dense):
            dense.append(column)
        else:
            bags.append(_bags(column))
    numbers = np.zeros((rows, sum(column.values.shape[1] for column in dense)), np.float32)
    present = np.zeros((rows, len(dense)), np.bool_)
    start = 0
    for position, column in enumerate(dense):
        end = start + column.values.shape[1]
        numbers[:, start:end] = column.values
        present[:, position] = column.present
        start = end
    return (
        [values for values, _ in bags],
        [offsets for _, offsets in bags],
        torch.from_numpy(numbers),
        torch.from_numpy(present),
    )


def _bags(column: Jagged) -> tuple[Tensor, Tensor]:
    values = np.array(column.values, np.int64)  # Copies, for mapped files are read-only.
    return torch.from_numpy(values), torch.from_numpy(np.array(column.offsets, np.int64))
