"""Tensors of a module as NumPy files: data alone, of which no reader runs anything.

tensors.json    names, in the order of the files
000.npy, ...    one tensor each, float32
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from feature_store.core.documents import read_json
from feature_store.core.errors import UserError
from feature_store.core.files import mapped_array, write_array, write_json

_NAMES = "tensors.json"


def write_tensors(directory: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors of float32 on the CPU."""
    for number, tensor in enumerate(tensors.values()):
        write_array(_file(directory, number), tensor.detach().numpy())
    write_json(directory / _NAMES, list(tensors))


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """Maps the files of `write_tensors` into memory; pages that are written to are copies.

    Raises:
        UserError: A file is missing, is no array of float32, or is shorter than it says.
    """
    try:
        names = read_json(directory / _NAMES)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{_NAMES} is no list of names")
        return {name: _mapped(_file(directory, n)) for n, name in enumerate(names)}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{directory} holds no tensors: {error}; export the model again."
        ) from error


def _file(directory: Path, number: int) -> Path:
    return directory / f"{number:03d}.npy"


def _mapped(path: Path) -> Tensor:
    # Objects, which would be unpickled, cannot be mapped; NumPy refuses them.
    array = mapped_array(path, "c")
    if array.dtype != np.float32:
        raise ValueError(f"{path.name} is no array of float32")
    return torch.from_numpy(array)
