"""The journal of a search: every event of every trial, a line of JSON each; it is all its state."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from feature_store.core.files import write_text
from feature_store.core.settings import Frozen
from recsys.evaluation.selection import NOTHING, Score, score_of

Status = Literal["running", "finished", "pruned", "stopped", "failed"]


class Started(Frozen):
    """A trial has begun.

    Attributes:
        trial: Its number, from 0.
        values: Values by path of the configuration.
        seed: Seed of its training.
        confirms: Number of the trial whose values these are, with another seed.
        mlflow_run_id: Id of its run.
    """

    event: Literal["started"] = "started"
    trial: int
    values: dict[str, Any]
    seed: int
    confirms: int | None
    mlflow_run_id: str


class Validated(Frozen):
    """A trial was validated.

    Attributes:
        trial: Its number.
        validation: Number of the validation, from 1.
        step: Number of steps done.
        metrics: All metrics by name.
    """

    event: Literal["validated"] = "validated"
    trial: int
    validation: int
    step: int
    metrics: dict[str, float | None]


class Ended(Frozen):
    """A trial is over.

    Attributes:
        trial: Its number.
        status: Reason of the end.
        error: Error of a failed trial, in a sentence.
        seconds: Duration in the process that ended it.
    """

    event: Literal["ended"] = "ended"
    trial: int
    status: Literal["finished", "pruned", "stopped", "failed"]
    error: str | None = None
    seconds: float


Event = Annotated[Started | Validated | Ended, Field(discriminator="event")]
_EVENT: TypeAdapter[Started | Validated | Ended] = TypeAdapter(Event)


@dataclass
class Trial:
    """State of a trial.

    Attributes:
        started: Beginning of the trial.
        validations: Validations in order.
        ended: End of the trial; None while it runs, or where it was interrupted.
    """

    started: Started
    validations: list[Validated] = field(default_factory=list)
    ended: Ended | None = None

    @property
    def number(self) -> int:
        """Number of the trial; searched and confirming trials are counted together."""
        return self.started.trial

    @property
    def status(self) -> Status:
        """Status of the trial."""
        return self.ended.status if self.ended else "running"

    def values_of(self, metric: str) -> list[float]:
        """Returns the best value so far at each validation."""
        bests = [0.0]
        for validation in self.validations:
            bests.append(max(bests[-1], validation.metrics[metric] or 0.0))
        return bests[1:]

    def value(self, metric: str) -> float | None:
        """Returns the value of the best checkpoint; None if not yet validated, or if failed."""
        score = self.score(metric)
        return None if score is None else score.value

    def score(self, metric: str) -> Score | None:
        """Returns the score of the best checkpoint, by which trials are ranked; None as `value`."""
        if self.status == "failed" or not self.validations:
            return None
        return max(score_of(each.metrics, metric) or NOTHING for each in self.validations)


class Journal:
    """Trials by number, and the file that they are written to.

    A line that a killed process left unfinished is dropped.

    Args:
        path: File of the journal, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials: dict[int, Trial] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_text(path, whole)
        for line in whole.splitlines():
            self._apply(_EVENT.validate_json(line))

    def write(self, event: Started | Validated | Ended) -> None:
        """Appends an event, which is on the disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event.model_dump(mode="json"), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._apply(event)

    @property
    def searched(self) -> list[Trial]:
        """Trials of the search itself, in order."""
        return [trial for trial in self.trials.values() if trial.started.confirms is None]

    def confirming(self, number: int) -> list[Trial]:
        """Returns the repetitions of a trial with further seeds."""
        return [trial for trial in self.trials.values() if trial.started.confirms == number]

    def _apply(self, event: Started | Validated | Ended) -> None:
        if isinstance(event, Started):
            self.trials[event.trial] = Trial(event)
        elif isinstance(event, Validated):
            self.trials[event.trial].validations.append(event)
        else:
            self.trials[event.trial].ended = event
