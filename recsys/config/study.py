"""The `study` section of a configuration: which objectives are compared, and how fairly."""

from typing import Any

from pydantic import Field, model_validator

from feature_store.core.settings import Settings
from recsys.config.tuning import Dimension, flat_paths


class Arm(Settings):
    """One of the alternatives.

    Attributes:
        values: Of the configuration, by path: what makes it this one.
        space: What is tuned, by path.
    """

    values: dict[str, Any] = Field({}, description="By path, such as ssl.method.")
    space: dict[str, Dimension] = Field({}, description="What is tuned: Ranges and Choices.")


class StudyConfig(Settings):
    """Alternatives compared over label fractions and seeds."""

    arms: dict[str, Arm] = Field(
        {},
        description="By name; empty: none, feature_dropout, spread_out, rfm and cfm, see "
        "`recsys.studies.arms.default_arms`.",
    )
    baseline: str = Field("none", description="The arm that the others are tested against.")
    label_fractions: tuple[float, ...] = Field(
        (1.0, 0.1), min_length=1, description="Of the training events; see data.label_fraction."
    )
    seeds: int = Field(5, ge=1, description="Trainings of each arm, whose test is reported.")
    trials: int = Field(
        4,
        ge=1,
        description="Settings that are tried for each arm and fraction, by the validation metric; "
        "the first are the configured ones.",
    )
    concurrent: int | None = Field(
        None, ge=1, description="Trainings at a time; null: one for each core, or each GPU."
    )

    @model_validator(mode="before")
    @classmethod
    def _paths_may_be_nested(cls, section: Any) -> Any:
        arms = section.get("arms") if isinstance(section, dict) else None
        if not isinstance(arms, dict):
            return section
        found = {}
        for name, arm in arms.items():
            is_arm = isinstance(arm, dict) and isinstance(arm.get("space"), dict)
            found[name] = {**arm, "space": flat_paths(arm["space"])} if is_arm else arm
        return {**section, "arms": found}

    @model_validator(mode="after")
    def _baseline_is_an_arm(self) -> "StudyConfig":
        if self.arms and self.baseline not in self.arms:
            raise ValueError(
                f"study.baseline {self.baseline!r} is none of study.arms: {', '.join(self.arms)}"
            )
        if not all(0 < fraction <= 1 for fraction in self.label_fractions):
            raise ValueError("study.label_fractions are shares, above 0 and at most 1")
        return self
