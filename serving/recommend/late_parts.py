"""The parts of a bundle that most answers do not need, read at once or in the background."""

import gc
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock, Thread
from typing import Protocol

from feature_store.core.columns import Column, Floats, Jagged
from feature_store.schema import FeatureSchema
from pipelines.process import use_threads
from serving.bundle.manifest import BundleManifest, verify_deferred
from serving.recommend.fused.shared import SharedContent

_logger = logging.getLogger(__name__)


class QueryTower(Protocol):
    """Computes query vectors; see `serving.bundle.towers.ServedTower`."""

    def __call__(
        self,
        columns: Mapping[str, Column],
        rows: int,
        history: Jagged,
        context: Mapping[str, Column],
    ) -> Floats:
        """Computes L2-normalised vectors, [rows, dim]."""


@dataclass(frozen=True)
class LateParts:
    """Parts of a bundle that known queries are answered without.

    Attributes:
        tower: Tower for queries without a stored vector.
        content: Contents of items, for explanations; None: no channel compares items by them.
    """

    tower: QueryTower
    content: SharedContent | None


def read_tower(directory: Path, schema: FeatureSchema) -> QueryTower:
    """Reads the query tower of a verified bundle.

    Raises:
        UserError: The files are not those of such a tower.
    """
    # Torch takes longer to import than everything else, and not every answer needs it.
    from serving.bundle.tower_files import read_query_tower

    return read_query_tower(directory, schema)


class DeferredParts:
    """Parts that are verified and read in a thread of its own; earlier calls wait for it.

    For servers: torch is set to one thread, and the objects that it imports are taken out of the
    rounds of the garbage collector, each of which would stop all requests for half a second.

    Args:
        directory: Directory of the bundle.
        manifest: Manifest of the bundle.
        read: Function that reads the parts.
    """

    def __init__(
        self, directory: Path, manifest: BundleManifest, read: Callable[[], LateParts]
    ) -> None:
        self._parts: Future[LateParts] = Future()
        arguments = (directory, manifest, read)
        # No daemon: a process that ended amid an import of torch would crash.
        Thread(target=self._read, args=arguments, name="late parts", daemon=False).start()

    @property
    def is_read(self) -> bool:
        """Whether a call does not wait."""
        return self._parts.done()

    @property
    def fault(self) -> str | None:
        """The reason why there are no parts; None where there are, or may be yet."""
        error = self._parts.exception() if self._parts.done() else None
        return None if error is None else str(error)

    def __call__(self) -> LateParts:
        """Returns the parts.

        Raises:
            RuntimeError: They could not be read.
        """
        return self._parts.result()

    def _read(
        self, directory: Path, manifest: BundleManifest, read: Callable[[], LateParts]
    ) -> None:
        try:
            verify_deferred(directory, manifest)
            with _IMPORTING:
                _import_torch()
            self._parts.set_result(read())
        except Exception as error:
            _logger.exception("the bundle %s cannot be read to its end", directory)
            # A RuntimeError, for a request is not at fault. Clients are not told where files are.
            sentence = str(error).replace(f"the bundle {directory}", "the bundle")
            self._parts.set_exception(RuntimeError(sentence.replace(f"{directory}/", "")))


_IMPORTING = Lock()


@cache
def _import_torch() -> None:
    use_threads(1)
    # Before there is a tower: frozen objects that hold themselves in cycles are never freed.
    gc.collect()
    gc.freeze()
