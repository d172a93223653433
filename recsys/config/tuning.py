"""The `tuning` section of a configuration."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from feature_store.core.settings import Settings


class Range(Settings):
    """Numbers from low to high, both included; whole ones where the setting is a whole number."""

    low: float
    high: float
    log: bool = Field(False, description="Whether factors count and not differences.")
    step: float | None = Field(None, gt=0, description="Only low, low + step, and so on.")

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, got {self.low}")
        if self.log and self.step is not None:
            raise ValueError("step has no effect with log: true; remove one of them")
        return self


class Choices(Settings):
    """A few values in no order."""

    choices: tuple[Any, ...] = Field(min_length=2)


def _class_of(value: Any) -> str:
    has_choices = "choices" in value if isinstance(value, dict) else isinstance(value, Choices)
    return "Choices" if has_choices else "Range"


Dimension = Annotated[
    Annotated[Range, Tag("Range")] | Annotated[Choices, Tag("Choices")], Discriminator(_class_of)
]


class TuningConfig(Settings):
    """The search for better settings."""

    trials: int = Field(30, ge=1, description="Settings to try; ask for more to go on.")
    minutes: float | None = Field(
        None,
        gt=0,
        description="Of searching, for each call: then no trial begins, and those that run stop at "
        "their next validation. What confirm_seeds asks for comes after.",
    )
    concurrent: int | None = Field(
        None, ge=1, description="Trials at a time; null: one a GPU, or one for each 4 cores."
    )
    grace_validations: int = Field(
        2, ge=1, description="Before a trial that is behind the others may be stopped."
    )
    confirm_seeds: int = Field(
        2,
        ge=0,
        description="Further seeds with which the best three are trained anew: the first of many "
        "noisy values is partly luck.",
    )
    space: dict[str, Dimension] = Field(
        {},
        description="What to vary: a Range or Choices for a path such as loss.temperature; empty: "
        "the settings that matter most, see `recsys.tuning.space.default_space`.",
    )

    @field_validator("space", mode="before")
    @classmethod
    def _flat(cls, space: Any) -> Any:
        """Paths may be nested, so that `--set tuning.space.loss.temperature={...}` works."""
        return flat_paths(space) if isinstance(space, dict) else space


def flat_paths(space: dict[str, Any]) -> dict[str, Any]:
    """A space whose paths may be nested sections, by whole paths."""
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
