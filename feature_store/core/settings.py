"""Base classes of records and of the configuration."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


class Frozen(BaseModel):
    """Base class of records: unknown keys are errors, and nothing changes after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(Frozen):
    """Base class of every section of the configuration; its numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        """Refuses text that no file system and no column can hold."""
        if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
            raise ValueError(f"{value[:40]!a} holds a null character or half of one; remove it")
        return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # A lone surrogate, such as \ud800.
        return False
    return True
