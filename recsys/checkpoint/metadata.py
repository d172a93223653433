"""The metadata of a checkpoint, which torch unpickles: what it may hold is tested before.

The tensors themselves are read by `torch.load` with `weights_only`. Entries that are not tensors
are refused here, because torch would unpickle them as they are.
"""

import pickle
from enum import Enum, EnumType
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata

from feature_store.core.errors import UserError

_METADATA = ".metadata"
_OF_METADATA = "torch.distributed.checkpoint.metadata"
# All that `torch.distributed.checkpoint.save` writes of tensors, beside their types of numbers.
_ALLOWED = frozenset(
    {
        (_OF_METADATA, "ChunkStorageMetadata"),
        (_OF_METADATA, "Metadata"),
        (_OF_METADATA, "MetadataIndex"),
        (_OF_METADATA, "StorageMeta"),
        (_OF_METADATA, "TensorProperties"),
        (_OF_METADATA, "TensorStorageMetadata"),
        (_OF_METADATA, "_MEM_FORMAT_ENCODING"),
        ("pathlib", "PosixPath"),
        ("torch", "Size"),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch.serialization", "_get_layout"),
    }
)


def require_plain_metadata(checkpoint: Path) -> None:
    """Tests that the metadata of a checkpoint is about tensors alone.

    Raises:
        UserError: Unpickling it would call something else, or it is damaged.
    """
    try:
        with (checkpoint / _METADATA).open("rb") as file:
            metadata = _Unpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise TypeError(f"it holds {type(metadata).__name__}")
    except Exception as error:  # A damaged pickle raises anything.
        raise UserError(
            f"{checkpoint} is corrupt, or no checkpoint of recsys: its metadata cannot be read "
            f"({error or type(error).__name__}); remove it to resume from the checkpoint before "
            "it, or to train from scratch."
        ) from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Returns an object of a closed list."""
        if (module, name) == ("builtins", "getattr"):
            return _member
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _member(enumeration: Any, name: Any) -> Enum:
    """Returns a member of an enumeration: some versions of Python 3.11 pickle one by `getattr`."""
    if isinstance(enumeration, EnumType) and name in enumeration.__members__:
        member: Enum = enumeration.__members__[name]
        return member
    raise pickle.UnpicklingError("it names builtins.getattr")
