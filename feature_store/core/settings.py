"""Base classes of records and of the configuration."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base class of records: unknown keys are errors, and nothing changes after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(Frozen):
    """Base class of every section of the configuration."""
