"""The interface of a step of a fit: what finds the lists of a range of candidates."""

from pathlib import Path
from typing import Protocol, Self

from scipy import sparse

from feature_store.core.columns import Ints


class Step(Protocol):
    """Scores of every item as a neighbour of every other, as files that each task maps."""

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Maps a step that was written into memory."""

    def costs(self) -> Ints:
        """Returns the number of multiplications for each candidate, [candidates]."""

    def highest(self, start: int, stop: int, count: int) -> sparse.csr_matrix:
        """Returns the sources that each candidate keeps, [stop - start, sources] float32.

        Args:
            start: First candidate.
            stop: Candidate after the last one.
            count: Most sources of a candidate.
        """
