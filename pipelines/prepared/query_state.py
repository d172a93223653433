"""The state of each query: its items in each split, and its histories."""

from dataclasses import dataclass, fields
from pathlib import Path

from feature_store.core.columns import Jagged, read_columns, write_columns


@dataclass(frozen=True)
class QueryState:
    """The state of all queries; every column is jagged, [queries], and holds item indices.

    `train`, `validation` and `test` hold the distinct items of the query's events in that split.
    The histories, oldest first, are what the query tower may see when the query's validation (test)
    items are ranked; for queries without any, they are the latest known.
    """

    train: Jagged
    validation: Jagged
    test: Jagged
    validation_history: Jagged
    test_history: Jagged

    def __len__(self) -> int:
        return len(self.train)

    def held_out(self, split: str) -> Jagged:
        """Returns the held-out items of `validation` or `test`."""
        return self.validation if split == "validation" else self.test

    def history(self, split: str) -> Jagged:
        """Returns the history from which the held-out items of a split are predicted."""
        return self.validation_history if split == "validation" else self.test_history

    def known(self, split: str) -> Jagged:
        """Returns the items that the query has: of training, and at test also of validation."""
        if split == "validation":
            return self.train
        return self.train.beside(self.validation)

    def save(self, path: Path) -> None:
        """Writes an Arrow IPC file."""
        write_columns(path, {field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> "QueryState":
        """Loads what `save` wrote, memory-mapped."""
        return cls(**read_columns(path))  # type: ignore[arg-type]
