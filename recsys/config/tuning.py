"""The `tuning` section of a configuration."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from feature_store.core.bounds import LARGE, MANY
from feature_store.core.settings import Settings


class Range(Settings):
    """Numbers from low to high, both included; whole ones where the setting is a whole number."""

    low: float = Field(ge=-LARGE, le=LARGE, description="Lowest value.")
    high: float = Field(ge=-LARGE, le=LARGE, description="Highest value.")
    log: bool = Field(False, description="Logarithmic scale: factors count and not differences.")
    step: float | None = Field(
        None, gt=0, le=LARGE, description="Distance between values; null: any value of the range."
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, got {self.low}")
        if self.log and self.step is not None:  # Optuna has no steps on a logarithmic scale.
            raise ValueError("step has no effect with log: true; remove one of them")
        return self


class Choices(Settings):
    """A few values in no order."""

    choices: tuple[Any, ...] = Field(min_length=2, description="Values to choose from.")


def _class_of(value: Any) -> str:
    has_choices = "choices" in value if isinstance(value, dict) else isinstance(value, Choices)
    return "Choices" if has_choices else "Range"


Dimension = Annotated[
    Annotated[Range, Tag("Range")] | Annotated[Choices, Tag("Choices")], Discriminator(_class_of)
]


class TuningConfig(Settings):
    """The search of `recsys tune` for better settings, by the metric of `evaluation.select_by`.

    Give it a budget (`trials`, `minutes`); the default space is a good start.
    """

    trials: int = Field(
        30, ge=1, le=MANY, description="Settings to try; more extend a finished search."
    )
    minutes: float | None = Field(
        None,
        gt=0,
        le=LARGE,
        description="Minutes of search in each call, after which no trial begins and running ones "
        "stop at their next validation; confirm_seeds come on top. null: no limit.",
    )
    concurrent: int | None = Field(
        None,
        ge=1,
        le=MANY,
        description="Trials at a time; null: one a GPU, or one for each 4 cores.",
    )
    grace_validations: int = Field(
        2, ge=1, le=MANY, description="Validations before a trial that is behind may be stopped."
    )
    confirm_seeds: int = Field(
        2,
        ge=0,
        le=MANY,
        description="Further seeds with which the best three are trained anew, for the best of "
        "many noisy values is partly luck.",
    )
    space: dict[str, Dimension] = Field(
        {},
        description="Ranges and choices by path, such as loss.temperature; {}: the settings that "
        "matter most, see `recsys.tuning.space.default_space`.",
    )

    @field_validator("space", mode="before")
    @classmethod
    def _flat(cls, space: Any) -> Any:
        """Joins nested paths, so that `--set tuning.space.loss.temperature={...}` works."""
        return flat_paths(space) if isinstance(space, dict) else space


def flat_paths(space: dict[str, Any]) -> dict[str, Any]:
    """Returns a space by whole paths, some of which may be nested sections."""
    return dict(_flat(space, ""))


def _flat(space: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in space.items():
        is_section = (
            isinstance(value, dict)
            and value
            and all(isinstance(inner, dict) for inner in value.values())
        )
        if is_section:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
