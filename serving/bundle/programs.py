"""Towers that were written by torch.export."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from feature_store.core.columns import Column, Dense, Floats, Jagged
from feature_store.core.errors import UserError
from feature_store.kinds import AnyFeature

# Values and offsets of each sparse feature, numbers and presence of the dense ones; for queries
# then the same of the context, and the history's items and offsets.
Inputs = tuple[list[Tensor] | Tensor, ...]

# torch.export fixes sizes of 0 and 1 in the program. Every call therefore has two more rows with
# one value in each of their bags, so that no size is ever less than 2; they are cut off afterwards.
_PADDING = 2
_AFTER = np.arange(1, _PADDING + 1)

# torch.export.load keeps the file that it reads in a global variable.
_LOADING = Lock()


class TowerProgram:
    """An exported tower.

    Args:
        path: Path of the `.pt2` file.
        features: Features of its side, in the schema's order.
        context: Context features; of the query tower alone.

    Raises:
        UserError: The file holds pickled Python objects, which could run any code.
    """

    def __init__(
        self, path: Path, features: tuple[AnyFeature, ...], context: tuple[AnyFeature, ...] = ()
    ) -> None:
        _refuse_pickles(path)
        self._features = features
        self._context = context
        # Its `__call__` would check the inputs' sizes with symbolic arithmetic, which takes time
        # on every request, and they are always those of `tower_inputs`.
        with _LOADING:
            self._run = torch.export.load(path).module().forward

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
            inputs += query_inputs(self._context, context or {}, rows, history)
        with torch.no_grad():
            return self._run(*inputs)[:rows].numpy()


def query_inputs(
    features: tuple[AnyFeature, ...], context: Mapping[str, Column], rows: int, history: Jagged
) -> Inputs:
    """Returns the query tower's inputs after the `tower_inputs` of query features.

    Returns:
        context: `tower_inputs` of the context.
        history: [total + 2] int64 items, and offsets, [rows + 3].
    """
    return (*tower_inputs(features, context, rows), *_padded_bags(history))


def tower_inputs(
    features: tuple[AnyFeature, ...], columns: Mapping[str, Column], rows: int
) -> Inputs:
    """Pads the inputs of a tower; see `TowerProgram`.

    Returns:
        values: Rows of each sparse feature's table, [total + 2] int64.
        offsets: Offsets of each sparse feature's bags, [rows + 3] int64.
        dense: [rows + 2, width] float32, the dense features side by side.
        dense_present: [rows + 2, dense features] bool.
    """
    bags: list[tuple[Tensor, Tensor]] = []
    dense: list[Dense] = []
    for feature in features:
        column = columns[feature.name]
        if isinstance(column, Dense):
            dense.append(column)
        else:
            bags.append(_padded_bags(column))
    width = sum(column.values.shape[1] for column in dense)
    numbers = np.zeros((rows + _PADDING, width), np.float32)
    present = np.zeros((rows + _PADDING, len(dense)), np.bool_)
    start = 0
    for position, column in enumerate(dense):
        end = start + column.values.shape[1]
        numbers[:rows, start:end] = column.values
        present[:rows, position] = column.present
        start = end
    return (
        [values for values, _ in bags],
        [offsets for _, offsets in bags],
        torch.from_numpy(numbers),
        torch.from_numpy(present),
    )


def _padded_bags(column: Jagged) -> tuple[Tensor, Tensor]:
    total, rows = len(column.values), len(column)
    values = np.zeros(total + _PADDING, np.int64)
    values[:total] = column.values
    offsets = np.empty(rows + 1 + _PADDING, np.int64)
    offsets[: rows + 1] = column.offsets
    offsets[rows + 1 :] = _AFTER + column.offsets[-1]
    return torch.from_numpy(values), torch.from_numpy(offsets)


def _refuse_pickles(path: Path) -> None:
    """Refuses pickles, which torch.export.load would run: tensor subclasses, objects, examples."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if info.file_size]
            configs = [
                json.loads(archive.read(name)) for name in names if name.endswith("_config.json")
            ]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is not a program of torch.export; export the model again."
        ) from error
    payloads = [payload for config in configs for payload in config["config"].values()]
    has_example = any("/sample_inputs/" in name for name in names)
    if has_example or any(payload["use_pickle"] for payload in payloads):
        raise UserError(
            f"{path} holds pickled Python objects, which a bundle must not; export the model again."
        )
