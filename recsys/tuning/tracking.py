"""Every trial of a search as an MLflow run."""

from typing import Any

from feature_store.core.errors import UserError
from recsys.config.config import Config
from recsys.mlflow_run import Run
from recsys.tracking import open_run, start_run, tracking_uri
from recsys.tuning.journal import Journal, Trial


class MlflowTracker:
    """A run for each trial, beneath the search's; see `recsys.tuning.search.Tracker`.

    Args:
        config: Configuration that the trials vary.
        parent: Id of the search's run; None where nothing is going to be tracked.
        journal: Journal of the search.
    """

    def __init__(self, config: Config, parent: str | None, journal: Journal) -> None:
        self._config = config
        self._parent = parent
        self._runs: dict[int, Run] = {}
        self._journal = journal

    def start(self, number: int, values: dict[str, Any], seed: int, confirms: int | None) -> str:
        """Starts a run and returns its id."""
        tags = {
            "mlflow.source.name": "recsys tune",
            "mlflow.parentRunId": str(self._parent),
            "recsys.tuning.trial": str(number),
        }
        if confirms is not None:
            tags["recsys.tuning.confirms"] = str(confirms)
        name = f"trial-{number}" if confirms is None else f"trial-{confirms}-seed{seed}"
        params = {**values, "training.seed": seed}
        run = start_run(self._config, name, params=params, tags=tags)
        self._runs[number] = run
        return run.run_id

    def validated(self, trial: Trial) -> None:
        """Logs the latest validation."""
        latest = trial.validations[-1]
        metrics = {f"validation.{name}": value for name, value in latest.metrics.items()}
        line = {k: v for k, v in metrics.items() if v is not None}
        self._run(trial).log([{"step": latest.step, **line}])

    def ended(self, trial: Trial) -> None:
        """Logs the end of a trial."""
        run = self._run(trial)
        run.tag(**{"recsys.tuning.status": trial.status})
        if trial.ended is not None and trial.ended.error is not None:
            run.tag(**{"recsys.tuning.error": trial.ended.error})
        value = trial.value(self._config.evaluation.select_by)
        if value is not None:
            name = f"best.{self._config.evaluation.select_by}"
            run.log([{"step": trial.validations[-1].step, name: value}])
        run.end("FAILED" if trial.status == "failed" else "FINISHED")

    def interrupted(self) -> None:
        """Marks the runs of trials that will be resumed as killed."""
        for trial in self._journal.trials.values():
            if trial.ended is None:
                self._run(trial).end("KILLED")

    def _run(self, trial: Trial) -> Run:
        if trial.number not in self._runs:  # The trial began in an earlier process.
            run = open_run(self._config, trial.started.mlflow_run_id)
            if run is None:
                raise UserError(
                    f"{tracking_uri(self._config)} has lost the run of trial {trial.number}; "
                    f"remove {self._config.tuning_dir}.partial to search anew."
                )
            self._runs[trial.number] = run
        return self._runs[trial.number]
