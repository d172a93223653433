"""Bundles that somebody else wrote, and sealed so that their files seem to be of one export."""

import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serving.bundle.manifest import BundleManifest, seal


def sealed(directory: Path, **changed: Any) -> Path:
    """Seals a bundle again as it is now, with a manifest that says what it is told to."""
    document = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    seal(directory, BundleManifest.model_validate({**document, **changed}))
    return directory


class Marker:
    """An object that makes a directory when it is unpickled.

    Args:
        path: Path of the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def pickles(marker: Path) -> dict[str, bytes]:
    """Returns files that run code in whoever unpickles them, by the way in which they are made."""
    array = np.empty(2, object)
    array[:] = [Marker(marker), 1.0]
    made = {}
    for name, write in {
        "pickle": lambda file: pickle.dump(Marker(marker), file),
        "object array": lambda file: np.save(file, array, allow_pickle=True),
        "archive of arrays": lambda file: np.savez(file, array, allow_pickle=True),
        "torch.save": lambda file: torch.save(Marker(marker), file),
        "torch.save of old": lambda file: torch.save(
            Marker(marker), file, _use_new_zipfile_serialization=False
        ),
    }.items():
        stream = io.BytesIO()
        write(stream)
        made[name] = stream.getvalue()
    return made
