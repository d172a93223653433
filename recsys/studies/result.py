"""Result of a study."""

import pyarrow as pa

from feature_store.core.settings import Frozen
from feature_store.core.tabular import Tabular, rows_table
from recsys.studies.analysis import ArmResult


class StudyResult(Frozen, Tabular):
    """Content of `study.json`.

    Attributes:
        name: Name of the data.
        baseline: Arm that the others are tested against.
        metric: Validation metric by which settings were chosen.
        trials: Number of settings tried for each arm and fraction.
        seeds: Number of trainings of each arm.
        counts: Size of the data: items, queries, and training events by fraction.
        arms: Results by fraction, then in the order of the configuration.
        query: Word of the log for a query.
    """

    name: str
    baseline: str
    metric: str
    trials: int
    seeds: int
    counts: dict[str, int]
    arms: tuple[ArmResult, ...]
    query: str = "query"

    def to_arrow(self) -> pa.Table:
        """Returns a row for each label fraction, arm and metric.

        Returns:
            Columns label_fraction, arm, metric, held_out (pairs), mean over seeds with the ends of
            its interval (low, high), difference to the baseline, p, adjusted_p and seeds (a list).
        """
        rows = [
            {
                "label_fraction": arm.label_fraction,
                "arm": arm.arm,
                "metric": metric,
                "held_out": arm.pairs.get(metric),
                **cell.model_dump(exclude={"seeds"}),
                "seeds": list(cell.seeds),
            }
            for arm in self.arms
            for metric, cell in arm.cells.items()
        ]
        return rows_table(rows)
