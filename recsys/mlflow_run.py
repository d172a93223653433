"""A run of the MLflow store, to which a training, its evaluation and its export add."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys.tracked import metric_name

# Limit of MLflow on one request.
_METRICS_AT_ONCE = 1000
# Tag that MLflow shows as the description of a run, and what stands between its parts.
_NOTE, _RULE = "mlflow.note.content", "\n\n---\n\n"
_logger = logging.getLogger(__name__)


class Run:
    """An MLflow run.

    Args:
        client: Client of the tracking store.
        run_id: Id of an existing run.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self._client = client
        self._logged_to: dict[str, int] = {}
        self.run_id = run_id

    def continued(self) -> "Run":
        """Leaves out of what is logged from now on what the run has: a killed process logged it."""
        for name in self._client.get_run(self.run_id).data.metrics:
            history = self._client.get_metric_history(self.run_id, name)
            self._logged_to[name] = max(metric.step for metric in history)
        return self

    def log(self, lines: Sequence[Mapping[str, float | None]], *, of_model: bool = False) -> None:
        """Logs lines of metrics, each with its `step`, in the order of the steps.

        Args:
            lines: Metrics by name, beside the step; those of None are left out.
            of_model: Whether they are the model's, too, which has one value of each: one that it
                has already is left out.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        of = self._model() if of_model else {}
        has = self._client.get_run(self.run_id).data.metrics if of_model else {}
        found = [
            (metric_name(name), value, int(line["step"] or 0))
            for line in lines
            for name, value in line.items()
            if name != "step" and value is not None
        ]
        metrics = [
            Metric(name, value, now, step, **of)
            for name, value, step in found
            if (has.get(name) != value if of_model else step > self._logged_to.get(name, -1))
        ]
        for start in range(0, len(metrics), _METRICS_AT_ONCE):
            part = metrics[start : start + _METRICS_AT_ONCE]
            self._client.log_batch(self.run_id, metrics=part)

    def add_data(self, dataset: Any) -> None:
        """Notes the data that the run reads."""
        from mlflow.entities import DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        try:
            self._client.log_inputs(self.run_id, inputs)
        except MlflowException:
            # MLflow looks for the data and then writes it, which a run that does so at the same
            # moment makes fail; by now the data is there.
            self._client.log_inputs(self.run_id, inputs)

    def add_model(self, name: str, params: Mapping[str, str], step: int) -> None:
        """Notes the model that the run made, once, for MLflow's view of models.

        Args:
            name: Name of the model.
            params: Settings that tell models apart.
            step: Step at which it was best.
        """
        from mlflow.entities import LoggedModelOutput
        from mlflow.exceptions import MlflowException

        run = self._client.get_run(self.run_id)
        if _models_of(run):
            return
        experiment = run.info.experiment_id
        try:
            made = self._client.search_logged_models(  # By a process that was killed.
                [experiment], f"source_run_id = '{self.run_id}'", max_results=1
            )
            model = (
                made[0]
                if made
                else self._client.create_logged_model(
                    experiment,
                    name=re.sub(r"[/:.%\"']", "-", name),
                    source_run_id=self.run_id,
                    params=dict(params),
                    model_type="two_tower",
                )
            )
            self._client.finalize_logged_model(model.model_id, "READY")
            self._client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step)])
        except MlflowException as error:  # A server of MLflow 2 knows no such models.
            _logger.warning("MLflow's view of models lacks this one: %s", error)

    def _model(self) -> dict[str, str]:
        """Returns the run's model and data, as a metric has them."""
        run = self._client.get_run(self.run_id)
        models = _models_of(run)
        inputs = run.inputs.dataset_inputs if run.inputs is not None else []
        if not models or not inputs:  # The run is of an earlier version.
            return {}
        dataset = inputs[0].dataset
        named = {"dataset_name": dataset.name, "dataset_digest": dataset.digest}
        return {"model_id": models[0].model_id, **named}

    def describe(self, text: str) -> None:
        """Sets the description, in Markdown; what `annotate` put below it stays."""
        self._note(text, self._notes()[1])

    def describe_first(self, text: str) -> None:
        """Sets the description of a run that has none."""
        if not self._notes()[0]:
            self.describe(text)

    def annotate(self, text: str) -> None:
        """Sets what stands below the description, such as what a job did with the run."""
        self._note(self._notes()[0], text)

    def _notes(self) -> tuple[str, str]:
        """Returns the description, and what stands below it."""
        note = self._client.get_run(self.run_id).data.tags.get(_NOTE, "")
        above, _, below = note.partition(_RULE)
        return above, below

    def _note(self, *parts: str) -> None:
        self.tag(**{_NOTE: _RULE.join(filter(None, parts))})

    def save(self, path: Path, directory: str | None = None) -> None:
        """Stores a copy of a file with the run."""
        self._client.log_artifact(self.run_id, str(path), directory)

    def tag(self, **tags: str) -> None:
        """Sets tags."""
        for name, value in tags.items():
            self._client.set_tag(self.run_id, name, value)

    def end(self, status: str) -> None:
        """Ends the run as `FINISHED`, `FAILED` or `KILLED`."""
        self._client.set_terminated(self.run_id, status)


def _models_of(run: Any) -> list[Any]:
    return list(run.outputs.model_outputs) if run.outputs is not None else []


def all_pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yields what a search of MLflow finds, of which an answer has one page.

    Args:
        search: Function of the token of a page, None for the first one, that returns the page.
    """
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def downloaded(client: Any, run_id: str, path: str, directory: Path) -> Path:
    """Downloads a file or directory of a run's artifacts, and returns where it is.

    The client's own method would keep threads for each run, for as long as the process lives.

    Args:
        client: Client of the tracking store.
        run_id: Id of the run.
        path: Path of the artifact.
        directory: Directory to download to.
    """
    from mlflow.artifacts import download_artifacts

    root = client.get_run(run_id).info.artifact_uri
    uri = f"{root}/{path}"
    return Path(
        download_artifacts(
            artifact_uri=uri, dst_path=str(directory), tracking_uri=client.tracking_uri
        )
    )
