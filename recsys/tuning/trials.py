"""Trials of a search on Ray Tune, which stops hopeless ones early.

Ray's own searcher for Optuna is not used: it stores its state as a pickle, and reports the latest
validation of a trial to Optuna, where training keeps the best one.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from pipelines.executor.session import ensure_ray
from pipelines.process import quiet_tune
from recsys.config.config import Config
from recsys.config.tuning import Range
from recsys.stages.item_neighbours import NEIGHBOURS
from recsys.tuning.journal import Trial
from recsys.tuning.search import Search
from recsys.tuning.space import Axis
from recsys.tuning.worker import ERROR, LINE, PREFIX, VALIDATION, VALUE, train_trial

# One in this many of the trials that reach a rung continues to the next.
_REDUCTION = 3
# Times that a lost worker is replaced; the new one resumes from the trial's checkpoint.
_RESTARTS = 1
_CORES_OF_TRIAL = 4


def run_search(search: Search, work_dir: Path, say: Callable[[Trial], None]) -> None:
    """Runs what is left of the search's trials, then of its confirmations.

    Args:
        search: Search to run.
        work_dir: Directory of the trials' checkpoints, which all machines must see.
        say: Function to call with each trial that is over.

    Raises:
        KeyboardInterrupt: The user pressed Ctrl-C; the trials are closed.
    """
    quiet_tune()
    ensure_ray()
    minutes = search.config.tuning.minutes
    deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
    halving = Halving(search, deadline)

    def next_trial() -> Trial | None:
        return search.next_trial() if time.monotonic() < deadline else None

    _run(search, work_dir, say, next_trial, halving)
    _run(search, work_dir, say, search.next_confirmation, None)


def _run(
    search: Search,
    work_dir: Path,
    say: Callable[[Trial], None],
    take: Callable[[], Trial | None],
    halving: "Halving | None",
) -> None:
    first = take()
    if first is None:
        return
    resources, concurrent = _resources(search.config)
    searcher = _Searcher(search, work_dir, say, take, first, resources, halving)
    tuner = tune.Tuner(
        tune.with_resources(train_trial, resources),
        tune_config=tune.TuneConfig(
            metric=VALUE,
            mode="max",
            search_alg=searcher,
            scheduler=halving or FIFOScheduler(),
            num_samples=-1,
            max_concurrent_trials=concurrent,
            reuse_actors=True,  # Importing the engines takes longer than a small trial.
            trial_dirname_creator=_directory_name,
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(work_dir.resolve()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=_RESTARTS),
        ),
    )
    tuner.fit()
    if not searcher.is_done:
        raise KeyboardInterrupt


class Halving(ASHAScheduler):
    """Asynchronous successive halving (Li et al. 2020) that also counts earlier processes' trials.

    Attributes:
        verdicts: Status of each trial that it stopped, by Ray's id.

    Args:
        search: Search with its journal.
        deadline: Monotonic time in seconds at which trials are stopped.
    """

    def __init__(self, search: Search, deadline: float) -> None:
        self._deadline = deadline
        self.verdicts: dict[str, str] = {}
        most = _most_validations(search.config, search.axes)
        super().__init__(
            time_attr=VALIDATION,
            max_t=most,
            grace_period=min(search.config.tuning.grace_validations, most),
            reduction_factor=_REDUCTION,
        )
        self._metric, self._metric_op = VALUE, 1.0
        for trial in search.journal.searched:
            if trial.ended is not None:
                self.replay(f"earlier-{trial.number}", trial, search.metric)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accepts what Ray would set, which is set already."""
        return True

    def replay(self, trial_id: str, trial: Trial, metric: str) -> None:
        """Takes the validations of a trial of the journal."""
        bracket = self._brackets[0]
        for validation, value in enumerate(trial.values_of(metric), 1):
            bracket.on_result(_Earlier(trial_id), validation, value)

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        """Decides whether the trial continues."""
        action = super().on_trial_result(tune_controller, trial, result)
        if action == TrialScheduler.STOP and result[VALIDATION] < self._max_t:
            self.verdicts[trial.trial_id] = "pruned"
        elif action != TrialScheduler.STOP and time.monotonic() >= self._deadline:
            self.verdicts[trial.trial_id] = "stopped"
            return TrialScheduler.STOP
        return action


class _Earlier:
    """A trial of an earlier process."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


class _Searcher(Searcher):
    """Adapter between Ray Tune, which names trials at random, and the search."""

    def __init__(
        self,
        search: Search,
        work_dir: Path,
        say: Callable[[Trial], None],
        take: Callable[[], Trial | None],
        first: Trial,
        resources: dict[str, float],
        halving: Halving | None,
    ) -> None:
        super().__init__(metric=VALUE, mode="max")
        self._search = search
        self._work_dir = work_dir
        self._say = say
        self._take = take
        self._first: Trial | None = first
        self._resources = resources
        self._halving = halving
        self._running: dict[str, Trial] = {}
        self._has_all_begun = False

    @property
    def is_done(self) -> bool:
        """Whether every trial has begun and ended."""
        return self._has_all_begun and not self._running

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        trial = self._first or self._take()
        self._first = None
        self._sweep()
        if trial is None:
            self._has_all_begun = True
            return Searcher.FINISHED
        self._running[trial_id] = trial
        if self._halving is not None:
            self._halving.replay(trial_id, trial, self._search.metric)
        return {
            "number": trial.number,
            "job": json.dumps(
                {
                    "base": self._search.config.model_dump_json(),
                    "trial": trial.started.model_dump_json(),
                    "work_dir": str(self._directory(trial).resolve()),
                    "neighbours": str((self._work_dir / NEIGHBOURS).resolve()),
                    "reported": len(trial.validations),
                    "threads": max(1, int(self._resources["CPU"])),
                }
            ),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        trial = self._running[trial_id]
        if ERROR in result:
            self._end(trial, "failed", result[ERROR])
        elif LINE in result:
            line = json.loads(result[LINE])
            metrics = {
                name.removeprefix(PREFIX): value
                for name, value in line.items()
                if name.startswith(PREFIX)
            }
            self._search.validated(trial.number, result[VALIDATION], line["step"], metrics)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        trial = self._running[trial_id]
        if result is not None:
            self.on_trial_result(trial_id, result)
        if error:
            self._end(trial, "failed", "its worker was lost")
        else:
            verdicts = self._halving.verdicts if self._halving is not None else {}
            self._end(trial, verdicts.get(trial_id, "finished"))
        del self._running[trial_id]

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing for Ray to pickle: the search resumes from the journal."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing: the journal is the state."""

    def _end(self, trial: Trial, status: Any, error: str | None = None) -> None:
        if trial.ended is None:
            self._search.ended(trial.number, status, error)
            self._say(trial)

    def _directory(self, trial: Trial) -> Path:
        return self._work_dir / f"trial-{trial.number:04d}"

    def _sweep(self) -> None:
        """Removes checkpoints of ended trials, which are as large as the model."""
        for trial in self._search.journal.trials.values():
            if trial.ended is not None:
                shutil.rmtree(self._directory(trial), ignore_errors=True)


def _most_validations(config: Config, axes: tuple[Axis, ...]) -> int:
    """Returns the most validations that any trial can have."""
    epochs: list[float] = [config.training.epochs]
    for axis in axes:
        if axis.path == "training.epochs":
            given = axis.dimension
            epochs = [given.high] if isinstance(given, Range) else list(given.choices)
    return int(max(epochs)) * config.training.validations_per_epoch


def _resources(config: Config) -> tuple[dict[str, float], int]:
    """Returns the resources of one trial, and the number of trials at a time."""
    cluster = ray.cluster_resources()
    cpus, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    on_gpu = config.training.device != "cpu" and gpus >= 1
    concurrent = config.tuning.concurrent or max(
        1, int(gpus if on_gpu else cpus // _CORES_OF_TRIAL)
    )
    largest = max(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"])
    share = min(cpus / concurrent, largest)
    resources = {"CPU": float(int(share)) if share >= 1 else share}
    if on_gpu:
        resources["GPU"] = min(1.0, gpus / concurrent)
    return resources, concurrent


def _directory_name(trial: RayTrial) -> str:
    return f"trial-{trial.config['number']:04d}-{trial.trial_id}"
