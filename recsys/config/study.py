"""The `study` section of a configuration."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from feature_store.core.bounds import MANY
from feature_store.core.settings import Settings
from recsys.config.ssl import SSL_SETTINGS
from recsys.config.tuning import Choices, Dimension, flat_paths


class Arm(Settings):
    """One of the alternatives."""

    values: dict[str, Any] = Field(
        {}, description="Values that make the arm, by path, such as ssl.method."
    )
    space: dict[str, Dimension] = Field(
        {}, description="Ranges and choices that are tuned for the arm, by path."
    )


# Dimensions that every method may tune, beside those of its settings. Each method has equally many
# trials, so that none wins by a longer search.
_SHARED: dict[str, Dimension] = {
    "model.dropout": Choices(choices=(0.2, 0.3, 0.5)),
    "loss.id_dropout": Choices(choices=(0.0, 0.1, 0.3)),
}


def method_arm(method: str) -> Arm:
    """Returns the arm of a self-supervised method, with the search space that its settings name.

    Args:
        method: Value of `ssl.method`.
    """
    space = SSL_SETTINGS[method].search_space
    own = {f"ssl.{name}": dimension for name, dimension in space.items()}
    return Arm(values={"ssl.method": method}, space={**_SHARED, **own})


class StudyConfig(Settings):
    """Alternatives that `recsys study` compares, with equal tuning, over label fractions and seeds.

    Without `arms` it compares the objectives of the paper. Five seeds tell differences of a few
    percent apart; fewer are for a first look.
    """

    arms: dict[str, Arm] = Field(
        {},
        description="Arms by name, or a list of methods such as [none, cfm], each with the search "
        "space of its own; empty: none, feature_dropout, spread_out, rfm and cfm.",
    )
    baseline: str = Field("none", description="Arm that the others are tested against.")
    label_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0, 0.1),
        min_length=1,
        description="Fractions of the training events, above 0 and at most 1; see "
        "data.label_fraction.",
    )
    seeds: int = Field(5, ge=1, le=MANY, description="Seeds of each arm, with which it is tested.")
    trials: int = Field(
        4,
        ge=1,
        le=MANY,
        description="Settings tried for each arm and fraction, by the validation metric; the first "
        "are the configured ones.",
    )
    concurrent: int | None = Field(
        None,
        ge=1,
        le=MANY,
        description="Trainings at a time; null: one for each core, or each GPU.",
    )

    @model_validator(mode="before")
    @classmethod
    def _arms_have_other_forms(cls, section: Any) -> Any:
        """Expands a list of methods, and search spaces whose paths are nested."""
        arms = section.get("arms") if isinstance(section, dict) else None
        if isinstance(arms, list):
            unknown = [name for name in arms if name not in list(SSL_SETTINGS)]
            if unknown:
                raise ValueError(
                    f"study.arms lists {unknown[0]!r}, which is no method of self-supervision; "
                    f"expected some of {', '.join(SSL_SETTINGS)}"
                )
            return {**section, "arms": {name: method_arm(name) for name in arms}}
        if not isinstance(arms, dict):
            return section
        flat = {}
        for name, arm in arms.items():
            is_arm = isinstance(arm, dict) and isinstance(arm.get("space"), dict)
            flat[name] = {**arm, "space": flat_paths(arm["space"])} if is_arm else arm
        return {**section, "arms": flat}

    @model_validator(mode="after")
    def _baseline_is_an_arm(self) -> "StudyConfig":
        if self.arms and self.baseline not in self.arms:
            raise ValueError(
                f"study.baseline {self.baseline!r} is none of study.arms: {', '.join(self.arms)}"
            )
        return self
