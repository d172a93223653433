"""A search: Optuna's tree-structured Parzen estimator over the trials of a journal.

Only the journal is stored. Optuna's study is rebuilt from it, and the sampler is seeded for each
trial by its number, so that a killed search resumes with the values that it would have tried
anyway, and nothing is unpickled.
"""

import time
import warnings
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import optuna
from optuna.trial import TrialState

from feature_store.core.hashing import hash64
from recsys.config.config import Config
from recsys.tuning.journal import Ended, Journal, Started, Trial, Validated
from recsys.tuning.space import Axis, own_values, suggest

# Number of the best trials that are trained with further seeds.
CONFIRMED = 3

_SAMPLER = 57
# Attempts at values that are new, by the estimator and uniformly.
_ESTIMATED, _DRAWN = 10, 200
# Least number of trials for an importance that is more than chance.
_TELLING = 10


class Tracker(Protocol):
    """Tracks trials."""

    def start(self, number: int, values: dict[str, Any], seed: int, confirms: int | None) -> str:
        """Starts a run and returns its id."""

    def validated(self, trial: Trial) -> None:
        """Records the latest validation of a trial."""

    def ended(self, trial: Trial) -> None:
        """Records the end of a trial."""

    def interrupted(self) -> None:
        """Records that running trials are left for another time."""


class Search:
    """Trials to run, one after the other, and their results.

    Args:
        config: Configuration that the trials vary.
        axes: Axes of the space.
        journal: Journal of this search so far.
        tracker: Tracker of the trials.
    """

    def __init__(
        self, config: Config, axes: Sequence[Axis], journal: Journal, tracker: Tracker
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.config = config
        self.axes = tuple(axes)
        self.journal = journal
        self.metric: str = config.evaluation.select_by
        self.tracker = tracker
        self._study = _new_study()
        self._asked: dict[int, optuna.Trial] = {}
        self._began: dict[int, float] = {}
        for trial in journal.searched:
            self._replay(trial)
        self._interrupted = [trial for trial in journal.trials.values() if trial.ended is None]

    @property
    def begins_with_own(self) -> bool:
        """Whether trial 0 is the configuration as it is."""
        return own_values(self.axes, self.config) is not None

    @property
    def is_complete(self) -> bool:
        """Whether all trials and confirmations that are asked for have ended."""
        has_searched = len(self.journal.searched) >= self.config.tuning.trials
        if not has_searched and (new := self._new_values()) is not None:
            self._study.tell(new[0], state=TrialState.FAIL)  # Peek only: discard the trial.
            return False
        has_ended = all(trial.ended is not None for trial in self.journal.trials.values())
        return has_ended and self._missing_confirmation() is None

    def next_trial(self) -> Trial | None:
        """Returns the next trial of the search, interrupted ones first; None when all have begun.

        A space of a few choices may be exhausted before: the same values give the same result.
        """
        interrupted = self._next_interrupted(is_confirming=False)
        if interrupted is not None:
            return interrupted
        if len(self.journal.searched) >= self.config.tuning.trials:
            return None
        new = self._new_values()
        if new is None:
            return None
        asked, values = new
        trial = self._start(values, self.config.training.seed, None)
        self._asked[trial.number] = asked
        return trial

    def next_confirmation(self) -> Trial | None:
        """Returns the next repetition of one of the best trials; None when all have begun."""
        interrupted = self._next_interrupted(is_confirming=True)
        if interrupted is not None:
            return interrupted
        missing = self._missing_confirmation()
        return self._start(*missing) if missing is not None else None

    def best_trials(self) -> list[Trial]:
        """Returns the best trials of the search by their own score, the best one first.

        Only trials that trained to their end count, where there are any: the value of another one
        is lower than it might have been.
        """
        scored = [(t.score(self.metric), t) for t in self.journal.searched if t.ended is not None]
        ranked = sorted(
            ((score, trial) for score, trial in scored if score is not None),
            key=lambda pair: (-pair[0].value, -pair[0].finer, pair[1].number),
        )
        trials = [trial for _, trial in ranked]
        return ([t for t in trials if t.status == "finished"] or trials)[:CONFIRMED]

    def validated(
        self, number: int, validation: int, step: int, metrics: dict[str, float | None]
    ) -> None:
        """Takes a validation, unless it is known already."""
        trial = self.journal.trials[number]
        if trial.ended is not None or validation <= len(trial.validations):
            return
        event = Validated(trial=number, validation=validation, step=step, metrics=metrics)
        self.journal.write(event)
        if number in self._asked:
            self._asked[number].report(trial.values_of(self.metric)[-1], validation)
        self.tracker.validated(trial)

    def ended(
        self,
        number: int,
        status: Literal["finished", "pruned", "stopped", "failed"],
        error: str | None = None,
    ) -> Trial:
        """Takes the end of a trial; only the first counts."""
        trial = self.journal.trials[number]
        if trial.ended is None:
            seconds = round(time.monotonic() - self._began[number], 1)
            event = Ended(trial=number, status=status, error=error, seconds=seconds)
            self.journal.write(event)
            if number in self._asked:
                self._tell(self._asked.pop(number), trial)
            self.tracker.ended(trial)
        return trial

    def importance(self) -> dict[str, float]:
        """Computes the share of the metric's variation that each setting explains, by fANOVA.

        Hutter et al. 2014; a stopped trial counts with the value that it had reached, a failed one
        with 0. Empty for fewer than ten trials, or equal ones.
        """
        trials = [trial for trial in self.journal.searched if trial.ended is not None]
        values = [trial.value(self.metric) or 0.0 for trial in trials]
        if len(trials) < _TELLING or len(set(values)) < 2 or len(self.axes) < 2:
            return {}
        study = _new_study()
        for trial, value in zip(trials, values, strict=True):
            asked, _ = self._ask(study, trial.started.values)
            study.tell(asked, value)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        return {path: float(share) for path, share in shares.items()}

    def _new_values(self) -> tuple[optuna.Trial, dict[str, Any]] | None:
        """Draws values that no trial has had, first the configuration's; None where there are none.

        The estimator repeats the best ones of a few choices; then values are drawn uniformly.
        """
        known = [trial.started.values for trial in self.journal.searched]
        own = own_values(self.axes, self.config)
        if not known and own is not None:
            return self._ask(self._study, own)
        for attempt in range(_ESTIMATED + _DRAWN):
            seed = int(hash64(self.config.training.seed, _SAMPLER, len(known), attempt)) % 2**32
            self._study.sampler = (
                _estimator(seed) if attempt < _ESTIMATED else optuna.samplers.RandomSampler(seed)
            )
            asked, values = self._ask(self._study, None)
            if values not in known:
                return asked, values
            self._study.tell(
                asked, state=TrialState.FAIL
            )  # Failed trials are hidden from the estimator.
        return None

    def _missing_confirmation(self) -> tuple[dict[str, Any], int, int] | None:
        """Returns values, seed and trial of the next repetition; None where none is missing."""
        first = self.config.training.seed + 1
        for best in self.best_trials():
            used = {trial.started.seed for trial in self.journal.confirming(best.number)}
            for seed in range(first, first + self.config.tuning.confirm_seeds):
                if seed not in used:
                    return best.started.values, seed, best.number
        return None

    def _next_interrupted(self, *, is_confirming: bool) -> Trial | None:
        for trial in self._interrupted:
            if (trial.started.confirms is not None) == is_confirming:
                self._interrupted.remove(trial)
                self._began[trial.number] = time.monotonic()
                return trial
        return None

    def _start(self, values: dict[str, Any], seed: int, confirms: int | None) -> Trial:
        number = len(self.journal.trials)
        run_id = self.tracker.start(number, values, seed, confirms)
        event = Started(
            trial=number, values=values, seed=seed, confirms=confirms, mlflow_run_id=run_id
        )
        self.journal.write(event)
        self._began[number] = time.monotonic()
        return self.journal.trials[number]

    def _ask(
        self, study: optuna.Study, fixed: dict[str, Any] | None
    ) -> tuple[optuna.Trial, dict[str, Any]]:
        if fixed is not None:
            encoded = {a.path: a.encoded(fixed[a.path]) for a in self.axes if a.path in fixed}
            study.enqueue_trial(encoded)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asked = study.ask()
            return asked, suggest(self.axes, self.config, asked)

    def _replay(self, trial: Trial) -> None:
        asked, _ = self._ask(self._study, trial.started.values)
        for validation, value in enumerate(trial.values_of(self.metric), 1):
            asked.report(value, validation)
        if trial.ended is None:
            self._asked[trial.number] = asked
        else:
            self._tell(asked, trial)

    def _tell(self, asked: optuna.Trial, trial: Trial) -> None:
        """Reports a trial to Optuna; a failed one counts 0, so that its values are avoided."""
        if trial.status == "failed":
            self._study.tell(asked, 0.0)
        elif trial.status == "finished":
            self._study.tell(asked, trial.value(self.metric))
        else:
            self._study.tell(asked, state=TrialState.PRUNED)


def _estimator(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # These options are experimental in Optuna 4.
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _new_study() -> optuna.Study:
    """Creates an empty study, whose sampler draws nothing for values that are known."""
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler())
