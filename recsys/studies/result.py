"""Result of a study."""

from feature_store.core.settings import Frozen
from recsys.studies.analysis import ArmResult


class StudyResult(Frozen):
    """Content of `study.json`.

    Attributes:
        name: Name of the data.
        baseline: Arm that the others are tested against.
        metric: Validation metric by which settings were chosen.
        trials: Number of settings tried for each arm and fraction.
        seeds: Number of trainings of each arm.
        counts: Size of the data: items, queries, and training events by fraction.
        arms: Results by fraction, then in the order of the configuration.
    """

    name: str
    baseline: str
    metric: str
    trials: int
    seeds: int
    counts: dict[str, int]
    arms: tuple[ArmResult, ...]
