"""The runs of an MLflow store, and the files of each."""

import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from feature_store.errors import UserError
from recsys.dashboard.run_data import RunData

# How old the list of runs may be, and how many runs are kept in memory.
_FRESH_SECONDS, _KEPT_RUNS = 30.0, 8
_RUNS_AT_ONCE = 1000


@dataclass(frozen=True)
class RunRow:
    """A run as the list shows it.

    Attributes:
        run_id: Of MLflow.
        name: That it was given.
        output: Directory that it was trained in; runs of a schedule share it.
        experiment: Of MLflow.
        started: Seconds since 1970.
        status: Of MLflow, such as FINISHED.
        ssl: Method of self-supervision.
        metrics: The test's, such as `test.tail.recall_at_50`.
    """

    run_id: str
    name: str
    output: str
    experiment: str
    started: float
    status: str
    ssl: str
    metrics: Mapping[str, float]

    @property
    def title(self) -> str:
        """Short, and unlike all others."""
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(self.started))
        return f"{when} {self.name} {self.run_id[:8]}"

    def metric(self, metric: str, group: str = "overall") -> float | None:
        """Of the test, such as `recall@50` of `tail`."""
        name = metric.replace("@", "_at_")
        return self.metrics.get(f"test.{name}" if group == "overall" else f"test.{group}.{name}")


class RunStore:
    """Reads a store; safe for threads.

    Args:
        uri: Of the store.

    Raises:
        UserError: There is no such store.
    """

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
            raise UserError(
                f"there is no MLflow store {uri}; train first, or name another with "
                "--tracking-uri or MLFLOW_TRACKING_URI."
            )
        try:
            self._client: Any = MlflowClient(tracking_uri=uri)
        except MlflowException as error:
            raise UserError(f"cannot open the MLflow store {uri}: {error.message}") from error
        self.uri = uri
        self._lock = threading.Lock()
        self._read_at = 0.0
        self._rows: dict[str, RunRow] = {}
        self._data: OrderedDict[str, RunData] = OrderedDict()
        self._downloads = tempfile.TemporaryDirectory(prefix="recsys-dashboard-")

    def rows(self) -> list[RunRow]:
        """Trainings, the latest first."""
        with self._lock:
            if time.monotonic() - self._read_at > _FRESH_SECONDS or not self._read_at:
                self._rows = {row.run_id: row for row in self._search()}
                self._read_at = time.monotonic()
            return list(self._rows.values())

    def row(self, run_id: str) -> RunRow:
        """Of a run.

        Raises:
            UserError: The store has no such training.
        """
        self.rows()
        if run_id not in self._rows:
            raise UserError(f"the store has no training with the id {run_id!r}.")
        return self._rows[run_id]

    def data(self, run_id: str) -> RunData:
        """The files of a run."""
        row = self.row(run_id)
        with self._lock:
            if run_id not in self._data:
                name = f"{row.name} {run_id[:8]}"
                self._data[run_id] = RunData(name, run_id, lambda path: self._find(run_id, path))
            self._data.move_to_end(run_id)
            while len(self._data) > _KEPT_RUNS:
                self._data.popitem(last=False)
            return self._data[run_id]

    def champion(self) -> str | None:
        """Id of the run behind the alias `champion` of a registered model, where there is one."""
        for model in self._client.search_registered_models():
            version = dict(model.aliases).get("champion")
            if version is not None:
                found: str = self._client.get_model_version(model.name, version).run_id
                if found in self._rows:
                    return found
        return None

    def _search(self) -> list[RunRow]:
        experiments = {e.experiment_id: e.name for e in self._client.search_experiments()}
        rows: list[RunRow] = []
        token = None
        while True:
            page = self._client.search_runs(
                list(experiments),
                filter_string="tags.`mlflow.source.name` = 'recsys train'",
                order_by=["attributes.start_time DESC"],
                max_results=_RUNS_AT_ONCE,
                page_token=token,
            )
            rows += [_row(run, experiments[run.info.experiment_id]) for run in page]
            token = page.token
            if not token:
                return rows

    def _find(self, run_id: str, path: str) -> Path | None:
        """Where a file of a run is; a remote one is fetched once."""
        from mlflow.exceptions import MlflowException

        uri = self._client.get_run(run_id).info.artifact_uri
        if uri.startswith(("file://", "/")):
            local = Path(unquote(urlsplit(uri).path)) / path
            return local if local.is_file() else None
        target = Path(self._downloads.name) / run_id
        if (target / path).is_file():
            return target / path
        target.mkdir(exist_ok=True)
        try:
            return Path(self._client.download_artifacts(run_id, path, str(target)))
        except (MlflowException, OSError):
            return None


def _row(run: Any, experiment: str) -> RunRow:
    return RunRow(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        output=run.data.tags.get("recsys.output", ""),
        experiment=experiment,
        started=(run.info.start_time or 0) / 1000,
        status=run.info.status,
        ssl=run.data.params.get("ssl.method", ""),
        metrics={k: v for k, v in run.data.metrics.items() if k.startswith("test.")},
    )
