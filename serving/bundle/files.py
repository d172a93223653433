"""Arrow and NumPy files of a bundle, mapped into memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.files import mapped_array

# NumPy's letters of kinds of numbers.
INTEGERS, UNSIGNED, FLOATS = "iu", "u", "f"


def mapped_table(path: Path) -> pa.Table:
    """Maps an Arrow file, each column in one chunk.

    Offsets that lead out of the file would be read as addresses, so all of them are tested.

    Raises:
        pa.ArrowInvalid: It is no such file, or its offsets or its text are not valid.
    """
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    table.validate(full=True)
    return table.combine_chunks()


def mapped_numbers(path: Path, kinds: str, dimensions: int = 1) -> np.ndarray:
    """Maps a NumPy file.

    Args:
        path: The file.
        kinds: Kinds of numbers that it may hold, by NumPy's letters.
        dimensions: Number of dimensions.

    Raises:
        ValueError: It is no such file, is shorter than it says, or holds others than these numbers.
    """
    array = mapped_array(path)
    if array.ndim != dimensions or array.dtype.kind not in kinds:
        raise ValueError(f"{path.name} holds {array.dtype} of {array.ndim} dimensions")
    return array
