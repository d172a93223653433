"""The query tower of a bundle, at once or a little later than the rest."""

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Protocol

from feature_store.columns import Column, Floats, Jagged
from feature_store.schema import FeatureSchema
from serving.seal import QUERY_TOWER

_logger = logging.getLogger(__name__)


class QueryTower(Protocol):
    """See `serving.programs.TowerProgram`."""

    def __call__(
        self,
        columns: Mapping[str, Column],
        rows: int,
        history: Jagged,
        context: Mapping[str, Column],
    ) -> Floats:
        """L2-normalised vectors, [rows, dim]."""


class Reader(Protocol):
    """Reads the tower of a bundle."""

    def __call__(self, directory: Path, schema: FeatureSchema) -> QueryTower:
        """The tower.

        Raises:
            UserError: It is no program that may be run.
        """


def read_now(directory: Path, schema: FeatureSchema) -> QueryTower:
    """A `Reader`."""
    # Torch takes longer to import than everything else, and not everybody here needs it.
    from serving.programs import TowerProgram

    return TowerProgram(directory / QUERY_TOWER, schema.query, schema.context)


def read_alone(directory: Path, schema: FeatureSchema) -> QueryTower:
    """A `Reader` for servers, where one thread does the work of a request."""
    import torch

    torch.set_num_threads(1)
    return read_now(directory, schema)


def read_later(directory: Path, schema: FeatureSchema) -> QueryTower:
    """A `Reader` that does not wait: known queries are answered meanwhile from their vectors."""
    return LaterTower(directory, schema)


class LaterTower:
    """A tower that is read in a thread of its own; who calls it before then waits."""

    def __init__(self, directory: Path, schema: FeatureSchema) -> None:
        self._tower: Future[QueryTower] = Future()
        # No daemon: a process that ended amid an import of torch would crash.
        Thread(target=self._read, args=(directory, schema), name="tower", daemon=False).start()

    @property
    def is_read(self) -> bool:
        """Whether a call does not wait."""
        return self._tower.done()

    @property
    def fault(self) -> str | None:
        """Why there is no tower; None where there is one, or may be yet."""
        error = self._tower.exception() if self._tower.done() else None
        return None if error is None else str(error)

    def __call__(
        self,
        columns: Mapping[str, Column],
        rows: int,
        history: Jagged,
        context: Mapping[str, Column],
    ) -> Floats:
        """L2-normalised vectors, [rows, dim].

        Raises:
            RuntimeError: The tower could not be read.
        """
        return self._tower.result()(columns, rows, history, context)

    def _read(self, directory: Path, schema: FeatureSchema) -> None:
        try:
            self._tower.set_result(read_alone(directory, schema))
        except Exception as error:
            _logger.exception("the query tower of %s cannot be read", directory)
            # Whatever a request was, this is not its fault.
            self._tower.set_exception(RuntimeError(str(error)))
