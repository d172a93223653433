"""Runs of an MLflow store, and the files of each."""

import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from feature_store.core.errors import UserError
from recsys.mlflow_run import all_pages
from recsys.reports.run.run_data import RunData
from recsys.tracked import metric_name
from recsys.tracking import existing_store

# Age that the list of runs may have, and number of runs kept in memory.
_FRESH_SECONDS, _KEPT_RUNS = 30.0, 8
# MLflow takes some 20 ms for a run, with all its metrics and parameters.
_RUNS_AT_ONCE = 50
# Tags of runs of the nightly job.
_DAY = ("recsys.outcome", "recsys.day")


@dataclass(frozen=True)
class RunRow:
    """A run as the list shows it.

    Attributes:
        run_id: Id in MLflow.
        name: Name that it was given.
        output: Directory that it was trained in; runs of a schedule share it.
        experiment: Name of its experiment in MLflow.
        started: Start in seconds since 1970.
        status: Status in MLflow, such as FINISHED.
        ssl: Method of self-supervision.
        day: Day of the nightly job that trained it, and its outcome; empty of other runs.
        metrics: Metrics of the test split, such as `test/tail/recall_at_50`.
    """

    run_id: str
    name: str
    output: str
    experiment: str
    started: float
    status: str
    ssl: str
    day: str
    metrics: Mapping[str, float]

    @property
    def title(self) -> str:
        """Title that no other run has: time, name and the start of the id."""
        day, minute = time.strftime("%Y-%m-%d %H:%M", time.gmtime(self.started)).split()
        name = self.name.replace(f" {day}", "")  # Most names have the day.
        return f"{day} {minute} {name} {self.run_id[:8]}"

    def metric(self, metric: str, group: str = "overall") -> float | None:
        """Returns a metric of the test split, such as `recall@50` of `tail`."""
        groups = ["test"] if group == "overall" else ["test", group]
        return self.metrics.get(metric_name(".".join([*groups, metric])))


class RunStore:
    """Reader of a store; safe for threads.

    Args:
        uri: URI of the store.

    Raises:
        UserError: There is no such store, or it cannot be opened.
    """

    def __init__(self, uri: str) -> None:
        with existing_store(uri, "cannot show runs") as client:
            self._client: Any = client
        self._uri = uri
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._read_at: float | None = None
        self._has_some = threading.Event()
        self._fault: UserError | None = None
        self._rows: dict[str, RunRow] = {}
        self._data: OrderedDict[str, tuple[RunRow, RunData]] = OrderedDict()
        self._downloads = tempfile.TemporaryDirectory(prefix="recsys-dashboard-")

    def rows(self) -> list[RunRow]:
        """Returns trainings, the latest first; the first call returns only the latest ones.

        They are read anew in the background, and only the first caller waits for it.
        """
        with self._lock:
            is_reading = self._reader is not None and self._reader.is_alive()
            is_old = self._read_at is None or time.monotonic() - self._read_at > _FRESH_SECONDS
            if is_old and not is_reading:
                self._reader = threading.Thread(target=self._read, daemon=True)
                self._reader.start()
        self._has_some.wait()
        if self._fault is not None:
            raise self._fault
        return list(self._rows.values())

    @property
    def is_complete(self) -> bool:
        """Whether all trainings have been read once."""
        return self._read_at is not None

    def wait(self) -> None:
        """Waits until all trainings have been read."""
        self.rows()
        assert self._reader is not None
        self._reader.join()

    def row(self, run_id: str) -> RunRow:
        """Returns a run.

        Raises:
            UserError: The store has no such training.
        """
        self.rows()
        if run_id not in self._rows and not self.is_complete:
            self.wait()
        if run_id not in self._rows:
            raise UserError(f"the store has no training with the id {run_id!r}.")
        return self._rows[run_id]

    def data(self, run_id: str) -> RunData:
        """Returns the files of a run, read anew where it was evaluated since the last call."""
        row = self.row(run_id)
        with self._lock:
            if run_id not in self._data or self._data[run_id][0] != row:
                shutil.rmtree(Path(self._downloads.name) / run_id, ignore_errors=True)
                name = f"{row.name} {run_id[:8]}"
                data = RunData(name, run_id, lambda path: self._find(run_id, path))
                self._data[run_id] = row, data
            self._data.move_to_end(run_id)
            while len(self._data) > _KEPT_RUNS:
                self._data.popitem(last=False)
            return self._data[run_id][1]

    def champion(self, experiment: str) -> str | None:
        """Returns the run behind the alias `champion` in an experiment; None where there is none.

        Several projects share a store, each with experiments and a champion of its own.
        """
        return next((r for r in self.champions() if self._rows[r].experiment == experiment), None)

    def champions(self) -> list[str]:
        """Returns the runs behind the alias `champion` of all registered models."""
        found, search = [], self._client.search_registered_models
        for model in all_pages(lambda token: search(page_token=token)):
            version = dict(model.aliases).get("champion")
            if version is not None:
                found.append(self._client.get_model_version(model.name, version).run_id)
        return [run_id for run_id in found if run_id in self._rows]

    def _read(self) -> None:
        """Reads page by page; earlier rows stay until all have been read anew."""
        rows: dict[str, RunRow] = {}
        try:
            for page in self._pages():
                rows |= {row.run_id: row for row in page}
                if self._read_at is None:
                    self._rows = dict(rows)
                    self._has_some.set()
            self._rows, self._read_at, self._fault = rows, time.monotonic(), None
        except Exception as error:  # Callers raise it: nobody sees what a thread raises.
            self._fault = UserError(f"cannot read the runs of {self._uri}: {error}")
        self._has_some.set()

    def _pages(self) -> Iterator[list[RunRow]]:
        found = all_pages(lambda token: self._client.search_experiments(page_token=token))
        experiments = {experiment.experiment_id: experiment.name for experiment in found}
        token = None
        while True:
            page = self._client.search_runs(
                list(experiments),
                filter_string="tags.`mlflow.source.name` = 'recsys train'",
                order_by=["attributes.start_time DESC"],
                max_results=_RUNS_AT_ONCE,
                page_token=token,
            )
            yield [_row(run, experiments[run.info.experiment_id]) for run in page]
            token = page.token
            if not token:
                return

    def _find(self, run_id: str, path: str) -> Path | None:
        """Returns the path of a file of a run; a remote file is fetched once."""
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
            kept = self._client.list_artifacts(run_id, path.rpartition("/")[0] or None)
            if path not in {artifact.path for artifact in kept}:
                return None
            return Path(self._client.download_artifacts(run_id, path, str(target)))
        except (MlflowException, OSError) as error:
            raise UserError(f"cannot fetch {path} of run {run_id}: {error}") from error


def _row(run: Any, experiment: str) -> RunRow:
    return RunRow(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        output=run.data.tags.get("recsys.output", ""),
        experiment=experiment,
        started=(run.info.start_time or 0) / 1000,
        status=run.info.status,
        ssl=run.data.params.get("ssl.method", ""),
        day=" on ".join(run.data.tags[name] for name in _DAY if name in run.data.tags),
        # Runs of earlier versions have other names of the same metrics.
        metrics={
            metric_name(name): value
            for name, value in run.data.metrics.items()
            if name.startswith(("test/", "test."))
        },
    )
