"""The query tower of a bundle, read at once or in the background."""

import gc
import logging
from collections.abc import Mapping
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from threading import Lock, Thread
from typing import Protocol

from feature_store.core.columns import Column, Floats, Jagged
from feature_store.schema import FeatureSchema
from pipelines.process import use_threads
from serving.bundle.manifest import BundleManifest, verify_deferred

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


class Reader(Protocol):
    """Reads the tower of a bundle."""

    def __call__(
        self, directory: Path, schema: FeatureSchema, manifest: BundleManifest
    ) -> QueryTower:
        """Reads the tower.

        Raises:
            UserError: The files are not those of such a tower.
        """


def read_tower_now(directory: Path, schema: FeatureSchema, manifest: BundleManifest) -> QueryTower:
    """Reads the tower of a verified bundle at once; a `Reader`."""
    # Torch takes longer to import than everything else, and not every answer needs it.
    from serving.bundle.tower_files import read_query_tower

    return read_query_tower(directory, schema)


class DeferredTower:
    """A tower that is verified and read in a thread of its own; earlier calls wait for it.

    For servers: torch is set to one thread, and the objects that it imports are taken out of the
    rounds of the garbage collector, each of which would stop all requests for half a second.
    """

    def __init__(self, directory: Path, schema: FeatureSchema, manifest: BundleManifest) -> None:
        self._tower: Future[QueryTower] = Future()
        arguments = (directory, schema, manifest)
        # No daemon: a process that ended amid an import of torch would crash.
        Thread(target=self._read, args=arguments, name="tower", daemon=False).start()

    @property
    def is_read(self) -> bool:
        """Whether a call does not wait."""
        return self._tower.done()

    @property
    def fault(self) -> str | None:
        """The reason why there is no tower; None where there is one, or may be yet."""
        error = self._tower.exception() if self._tower.done() else None
        return None if error is None else str(error)

    def __call__(
        self,
        columns: Mapping[str, Column],
        rows: int,
        history: Jagged,
        context: Mapping[str, Column],
    ) -> Floats:
        """Computes L2-normalised vectors, [rows, dim].

        Raises:
            RuntimeError: The tower could not be read.
        """
        return self._tower.result()(columns, rows, history, context)

    def _read(self, directory: Path, schema: FeatureSchema, manifest: BundleManifest) -> None:
        try:
            verify_deferred(directory, manifest)
            with _IMPORTING:
                _import_torch()
            self._tower.set_result(read_tower_now(directory, schema, manifest))
        except Exception as error:
            _logger.exception("the query tower of %s cannot be read", directory)
            # A RuntimeError, for a request is not at fault.
            self._tower.set_exception(RuntimeError(str(error)))


_IMPORTING = Lock()


@cache
def _import_torch() -> None:

    use_threads(1)
    # Before there is a tower: frozen objects that hold themselves in cycles are never freed.
    gc.collect()
    gc.freeze()
