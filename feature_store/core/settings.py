"""Base classes of records and of the configuration, and bounds of its numbers."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

# Upper bounds of numbers that have no natural one, far above what is of use: with them a mistyped
# number is a sentence, and neither fills the memory nor overflows.
MANY = 1_000_000  # Epochs, trials, workers.
ROWS = 2**31 - 2  # Rows of a table, which are numbered in 32 bits.
EVENTS = 10**15  # Events, steps, and other counts of what grows with time.
LARGE = 1e9  # Weights, rates, norms.


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
