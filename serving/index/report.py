"""The record of how an index was built and what was measured; a part of the bundle's manifest."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from feature_store.core.settings import Frozen
from serving.index.kind import Effort
from serving.index.kinds import KINDS


class SearchPoint(Frozen):
    """Recall and latency of a search with some parameters, which are keys beside these.

    Attributes:
        recall: Mean recall@100 of sampled queries against exact search by float32 vectors.
        median_us: Microseconds of a search of 100 items for one query on one thread: of its
            processor time, so that other programs on the machine matter little.
        p99_us: The same of the slowest hundredth.
    """

    model_config = ConfigDict(extra="allow")
    # A parameter of another kind may be there as None.
    __pydantic_extra__: dict[str, int | None] = Field(init=False)

    recall: float
    median_us: float
    p99_us: float

    @property
    def effort(self) -> Effort:
        """Search parameters; none of exact search."""
        extra = self.__pydantic_extra__
        return {name: value for name, value in extra.items() if value is not None}


class IndexReport(Frozen):
    """Record of how an index was built.

    Attributes:
        kind: Name of the kind, one of `KINDS`.
        vectors: Numbers that vectors are stored as.
        chosen: The fastest point of the curve that reaches the recall.
        stored_recall: Recall@100 of exact search by stored vectors against exact search by float32
            vectors: what is below 1 is lost by compression.
        memory_bytes: Bytes of the whole index. It is mapped, and where candidates are scored again,
            only their stored vectors are read.
        curve: All points that were measured.
    """

    kind: str
    vectors: Literal["float32", "float16", "int8"]
    chosen: SearchPoint
    stored_recall: float
    memory_bytes: int
    curve: tuple[SearchPoint, ...]

    @property
    def recall(self) -> float:
        """Recall@100 of the chosen point."""
        return self.chosen.recall

    @model_validator(mode="after")
    def _points_are_of_the_kind(self) -> Self:
        if self.kind in KINDS:  # Another version's kind is refused where the index is read.
            names = KINDS[self.kind].effort_names
            for point in (self.chosen, *self.curve):
                if point.effort.keys() != set(names):
                    raise ValueError(
                        f"a search of a {self.kind} index has the parameters "
                        f"{sorted(point.effort)}, expected {sorted(names)}"
                    )
        return self
