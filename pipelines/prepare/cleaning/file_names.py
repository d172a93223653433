"""Names of the log's files without forgotten ids: directories such as `user_id=42` hold them."""

from collections.abc import Iterable
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from feature_store.forgotten import FORGOTTEN, Forgotten
from feature_store.schema import SIDES


def without_forgotten(files: Iterable[str], forgotten: Forgotten) -> list[str]:
    """Puts a mark in place of each part of a path that is a forgotten id, whatever its side.

    Args:
        files: Paths or URLs.
        forgotten: Ids that are not to be written.
    """
    names = list(files)
    if not forgotten.fingerprint:
        return names
    parts = {part for name in names for part in name.split("/")}
    ids = pa.array(sorted({id_ for part in parts for id_ in _ids(part)}), pa.string())
    is_forgotten = np.logical_or.reduce([forgotten.contains(side, ids) for side in SIDES])
    hidden = set(ids.filter(pa.array(is_forgotten)).to_pylist())
    return ["/".join(_shown(part, hidden) for part in name.split("/")) for name in names]


def _ids(part: str) -> tuple[str, ...]:
    """Returns what may be an id: the value of `key=value`, a name, and a name without endings."""
    value = unquote(part.rpartition("=")[2])
    return value, part, value.partition(".")[0]


def _shown(part: str, hidden: set[str]) -> str:
    if hidden.isdisjoint(_ids(part)):
        return part
    key, equals, _ = part.rpartition("=")
    return f"{key}{equals}({FORGOTTEN})"
