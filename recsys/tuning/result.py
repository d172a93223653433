"""Result of a search."""

from typing import Any

from feature_store.core.settings import Frozen


class Candidate(Frozen):
    """One of the best settings.

    Attributes:
        trial: Its number in the search.
        values: By path of the configuration.
        value: The metric in the search, of which the best are chosen: an optimistic figure.
        confirmed: The metric with further seeds; 0 where the training failed.
        mean: Over all seeds that trained to the end; the candidates are ranked by it.
        mlflow_run_id: Of the search's trial.
    """

    trial: int
    values: dict[str, Any]
    value: float
    confirmed: tuple[float, ...]
    mean: float
    mlflow_run_id: str


class TuningResult(Frozen):
    """What a search found; `best.json`.

    Attributes:
        metric: Of the validation split.
        candidates: The best settings, the best one first.
        own_value: Of the configuration as it was; None where the space does not hold it.
        trials: How many of the search ended how.
        importance: Share of the metric's variation that each setting explains; empty where too few
            trials tell.
        config: The file with the best settings.
        mlflow_uri: The tracking store.
        mlflow_run_id: The search's run, the parent of the trials'.
    """

    metric: str
    candidates: tuple[Candidate, ...]
    own_value: float | None
    trials: dict[str, int]
    importance: dict[str, float]
    config: str
    mlflow_uri: str
    mlflow_run_id: str

    @property
    def best(self) -> Candidate:
        """The settings to take."""
        return self.candidates[0]
