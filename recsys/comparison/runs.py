"""Evaluated runs, read from a directory or from a run in MLflow."""

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from feature_store.core.documents import read_record
from feature_store.core.errors import UserError
from feature_store.core.tables import column_names, read_table
from pipelines.statistics.slices import SliceBounds
from recsys.evaluation.per_query import BOUNDS, PER_QUERY, QUERY, REPEATS
from recsys.evaluation.results import ITEMS, METRICS_JSON, MODEL, EvaluationResult
from recsys.mlflow_run import downloaded
from recsys.tracking import existing_store

_OF_QUERY = ("query_id", "history_length", "held_out", "held_out_slice")


@dataclass(frozen=True)
class EvaluatedRun:
    """A finished evaluation.

    Attributes:
        name: Name by which it was requested.
        per_query: Rows as `read_rows` returns them.
        titles: Columns `item_id` and `title`; None where the evaluation kept none.
        result: Metrics; None where the evaluation kept none.
    """

    name: str
    per_query: pa.Table
    titles: pa.Table | None = None
    result: EvaluationResult | None = None

    @property
    def repeats(self) -> str:
        """Setting `data.repeats` of its data; earlier versions excluded all that a query had."""
        return (self._metadata(REPEATS) or b"exclude").decode()

    @property
    def slice_bounds(self) -> SliceBounds | None:
        """Bounds of the slices of its items; None of an earlier version's evaluation."""
        bounds = self._metadata(BOUNDS)
        return None if bounds is None else SliceBounds.model_validate_json(bounds)

    @property
    def query(self) -> str:
        """Word of its log for a query."""
        return (self._metadata(QUERY) or b"query").decode()

    def _metadata(self, key: str) -> bytes | None:
        return (self.per_query.schema.metadata or {}).get(key.encode())


def read_rows(path: Path) -> pa.Table:
    """Reads the rows that `write_per_query` wrote, without the lists of other methods."""
    names = column_names(path)
    of_model = [name for name in names if name in _OF_QUERY or name.startswith(f"{MODEL}.")]
    return read_table(path, of_model)


def find_run(name: str, tracking_uri: str | None = None) -> EvaluatedRun:
    """Reads an evaluated run.

    Args:
        name: Output directory of a configuration or directory of its evaluation; else the id of
            a run in the tracking store.
        tracking_uri: URI of the tracking store; None: that of `MLFLOW_TRACKING_URI`.

    Raises:
        UserError: There is no such run, or it was not evaluated.
    """
    path = Path(name)
    if not path.exists():
        return _from_mlflow(name, tracking_uri)
    for directory in (path, path / "evaluation"):
        if (directory / PER_QUERY).is_file():
            return _read(name, directory)
    raise UserError(
        f"{name} holds no {PER_QUERY}; expected the output of a configuration that was evaluated. "
        "Run `recsys evaluate` first."
    )


def _read(name: str, directory: Path) -> EvaluatedRun:
    items = directory / ITEMS
    titles = read_table(items, ["item_id", "title"]) if items.is_file() else None
    metrics = directory / METRICS_JSON
    result = read_record(metrics, EvaluationResult) if metrics.is_file() else None
    return EvaluatedRun(name, read_rows(directory / PER_QUERY), titles, result)


def _from_mlflow(run_id: str, tracking_uri: str | None) -> EvaluatedRun:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = _download(run_id, Path(scratch), tracking_uri)
        except UserError as error:
            raise UserError(
                f"{run_id!r} is neither a directory nor an evaluated run of MLflow's; expected the "
                "output of a configuration, or a run's id (and MLFLOW_TRACKING_URI set to its "
                "store)."
            ) from error
        return _read(run_id, path.parent)


def _download(run_id: str, directory: Path, tracking_uri: str | None) -> Path:
    """Downloads an evaluation with all that a comparison reads, and returns the rows' path."""
    with existing_store(tracking_uri, f"cannot read run {run_id}") as client:
        from mlflow.exceptions import MlflowException

        path = downloaded(client, run_id, f"evaluation/{PER_QUERY}", directory)
        for other in (ITEMS, METRICS_JSON):
            with contextlib.suppress(MlflowException, OSError):  # An evaluation may have no titles.
                downloaded(client, run_id, f"evaluation/{other}", directory)
        return path
