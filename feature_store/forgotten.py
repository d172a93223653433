"""The list of ids to forget, kept as keyed hashes: the list itself reveals no id."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.core.documents import read_json
from feature_store.core.errors import UserError
from feature_store.core.files import write_json
from feature_store.core.manifests import fingerprint
from feature_store.schema import Side

# Reason under which their rows are counted.
FORGOTTEN = "forgotten"


@dataclass(frozen=True)
class Forgotten:
    """Ids whose rows are dropped wherever they occur.

    Attributes:
        key: Key of the hash, in hex; drawn when the first id is added.
        item: HMAC-SHA-256 of the items' ids, in hex.
        query: HMAC-SHA-256 of the queries' ids, in hex.
    """

    key: str = ""
    item: frozenset[str] = frozenset()
    query: frozenset[str] = frozenset()

    def of(self, side: Side) -> frozenset[str]:
        """Returns the hashes of one side."""
        return self.item if side == "item" else self.query

    def adding(self, side: Side, ids: Iterable[str]) -> "Forgotten":
        """Returns the list with more ids."""
        key = self.key or secrets.token_hex(32)
        hashes = self.of(side) | {_hash(key, text) for text in ids}
        return replace(self, key=key, **{side: hashes})

    def matches(self, side: Side, ids: pa.Array) -> list[str | None]:
        """Returns for each of some distinct ids its hash where it is in the list, else None."""
        hashes = self.of(side)
        if not hashes:
            return [None] * len(ids)
        hashed = (_hash(self.key, text) if text is not None else "" for text in ids.to_pylist())
        return [value if value in hashes else None for value in hashed]

    def contains(self, side: Side, ids: pa.Array) -> npt.NDArray[np.bool_]:
        """Checks which of some distinct ids are to be forgotten, [ids]."""
        return np.array([hashed is not None for hashed in self.matches(side, ids)], bool)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the list; empty for an empty one."""
        if not self.item and not self.query:
            return ""
        return fingerprint([self.key, sorted(self.item), sorted(self.query)])

    def save(self, path: Path) -> None:
        """Writes JSON, atomically."""
        written = {"key": self.key, "item": sorted(self.item), "query": sorted(self.query)}
        write_json(path, written)

    @classmethod
    def load(cls, path: Path) -> "Forgotten":
        """Reads a file of `save`; without a file the list is empty.

        Raises:
            UserError: The file is not one that `save` writes.
        """
        if not path.exists():
            return cls()
        try:
            raw = read_json(path)
            return cls(str(raw["key"]), frozenset(raw["item"]), frozenset(raw["query"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is not a list of forgotten ids, expected what `recsys forget` writes; "
                "restore it from a backup, for without it these ids come back."
            ) from error


def _hash(key: str, text: str) -> str:
    return hmac.new(bytes.fromhex(key), text.encode(), hashlib.sha256).hexdigest()
