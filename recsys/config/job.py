"""The `job` section of a configuration."""

from pydantic import Field

from feature_store.core.settings import MANY, Settings


class JobConfig(Settings):
    """The nightly job, `recsys run CONFIG --as-of DATE`."""

    retention: int = Field(
        14,
        ge=1,
        le=MANY,
        description="Days whose directories are kept; those of the champion and the challenger are "
        "kept in any case.",
    )
    scratch_days: int | None = Field(
        None,
        ge=1,
        le=MANY,
        description="Days after which training begins from scratch although training.start is "
        "previous; null: never.",
    )
