"""Result of a search."""

from typing import Any

import pyarrow as pa

from feature_store.core.settings import Frozen
from feature_store.core.tabular import Tabular, rows_table


class Candidate(Frozen):
    """One of the best settings.

    Attributes:
        trial: Its number in the search.
        values: Values by path of the configuration.
        value: Metric in the search, where the best are chosen: an optimistic figure.
        confirmed: Metric with each further seed; 0 where the training failed.
        mean: Mean over all seeds that trained to the end, by which the candidates are ranked.
        mlflow_run_id: Id of the run of the search's trial.
    """

    trial: int
    values: dict[str, Any]
    value: float
    confirmed: tuple[float, ...]
    mean: float
    mlflow_run_id: str


class TuningResult(Frozen, Tabular):
    """Result of a search; `best.json`.

    Attributes:
        metric: Metric of the validation split.
        candidates: Best settings, the best one first.
        own_value: Metric of the configuration as it was; None where the space does not hold it.
        trials: Number of the search's trials by status.
        importance: Share of the metric's variation that each setting explains; empty where too few
            trials tell.
        config: File with the best settings.
        mlflow_uri: Tracking store.
        mlflow_run_id: Id of the search's run, the parent of the trials' runs.
    """

    metric: str
    candidates: tuple[Candidate, ...]
    own_value: float | None
    trials: dict[str, int]
    importance: dict[str, float]
    config: str
    mlflow_uri: str
    mlflow_run_id: str

    def to_arrow(self) -> pa.Table:
        """Returns a row for each candidate, the best first.

        Returns:
            Columns trial, mean, value, confirmed (a list), and every setting by its path.
        """
        rows = [
            {
                "trial": each.trial,
                "mean": each.mean,
                "value": each.value,
                "confirmed": list(each.confirmed),
                # A setting may be a list in one candidate, and a word in another.
                **{path: str(value) for path, value in each.values.items()},
            }
            for each in self.candidates
        ]
        return rows_table(rows)

    @property
    def best(self) -> Candidate:
        """Best settings."""
        return self.candidates[0]
