"""Result of a study."""

from feature_store.core.settings import Frozen
from recsys.studies.analysis import ArmResult


class StudyResult(Frozen):
    """What `study.json` holds.

    Attributes:
        name: Of the data.
        baseline: The arm that the others are tested against.
        metric: By which settings were chosen on validation.
        trials: Settings tried for each arm and fraction.
        seeds: Trainings of each arm.
        counts: Of the data: items, queries, and training events by fraction.
        arms: By fraction, then in the order of the configuration.
    """

    name: str
    baseline: str
    metric: str
    trials: int
    seeds: int
    counts: dict[str, int]
    arms: tuple[ArmResult, ...]
