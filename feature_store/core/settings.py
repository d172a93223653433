"""Base of settings and records."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of every part of the configuration: closed and immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
