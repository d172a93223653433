"""Contents of a run's files, wherever these are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from feature_store.core.documents import DocumentError, read_lines, read_object, read_record
from feature_store.core.errors import UserError
from pipelines.quality.quality import Quality
from pipelines.reports.words import word_of
from recsys.evaluation.per_query import PER_QUERY
from recsys.evaluation.results import ITEMS, EvaluationResult
from recsys.fusion.examples import EXAMPLES, Example, Examples
from recsys.reports.run.items import ItemTable
from recsys.reports.run.queries import QueryTable

# Finds one of a run's files by its name among the run's artifacts; None where it is not there.
Find = Callable[[str], Path | None]
_Model = TypeVar("_Model", bound=BaseModel)
Curves = list[dict[str, float | None]]

METRICS, QUALITY = "evaluation/metrics.json", "data/quality.json"
# Page of the day of the nightly job that trained a run.
DAY_PAGE = "nightly/day.html"
CURVES, CONFIG, MASKS = "metrics.jsonl", "config.json", "diagnostics/masks.json"
_CURVE_POINTS = 400


class Masks(BaseModel):
    """Counts of masked features over the steps of a training, as in `masks.json`.

    Attributes:
        features: Names of the item features.
        seeds: Steps in which each feature was the seed; None where masks have none.
        hidden_together_in_view_a: [features, features] steps in which view A hides both.
    """

    features: list[str]
    seeds: list[int] | None
    hidden_together_in_view_a: list[list[int]]


@dataclass(frozen=True)
class RunData:
    """A run; content whose file it does not have is None or empty.

    Attributes:
        name: Name to show.
        run_id: Id in MLflow.
        find: Function that finds one of its files.
    """

    name: str
    run_id: str
    find: Find

    @cached_property
    def result(self) -> EvaluationResult | None:
        """Result of the evaluation."""
        return self._model(METRICS, EvaluationResult)

    @cached_property
    def quality(self) -> Quality | None:
        """Quality of the data that it was trained on."""
        return self._model(QUALITY, Quality)

    @cached_property
    def masks(self) -> Masks | None:
        """Counts of masked features."""
        return self._model(MASKS, Masks)

    @cached_property
    def curves(self) -> Curves:
        """Lines of the training's metrics; losses are thinned where there are many."""
        path = self.find(CURVES)
        if path is None:
            return []
        lines = read_lines(path, "step")  # A loss that is not finite is a gap in its curve.
        step = max(1, len(lines) // _CURVE_POINTS)
        return [
            line
            for at, line in enumerate(lines)
            if at % step == 0 or any(name.startswith("validation.") for name in line)
        ]

    @cached_property
    def config(self) -> dict[str, Any]:
        """Configuration as trained."""
        path = self.find(CONFIG)
        return read_object(path) if path else {}

    @cached_property
    def query(self) -> str:
        """Word of its log for a query."""
        columns = self.config.get("data", {}).get("columns", {})
        features = self.config.get("features", {}).get("query", ())
        is_item = any(each.get("kind") == "id" and each.get("shares") for each in features)
        return word_of(columns.get("query_id", ""), is_item=is_item)

    @cached_property
    def items(self) -> ItemTable | None:
        """Titles, map positions and neighbours of items."""
        path = self.find(f"evaluation/{ITEMS}")
        return ItemTable(path) if path else None

    @cached_property
    def queries(self) -> QueryTable | None:
        """Recommendations of queries."""
        path = self.find(f"evaluation/{PER_QUERY}")
        return QueryTable(path) if path else None

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        """Queries that were chosen to be shown, with reasons; none of earlier evaluations."""
        found = self._model(f"evaluation/{EXAMPLES}", Examples)
        return () if found is None else found.examples

    def _model(self, name: str, model: type[_Model]) -> _Model | None:
        path = self.find(name)
        if path is None:
            return None
        try:
            return read_record(path, model)
        except DocumentError as error:
            raise UserError(
                f"{name} of run {self.run_id} cannot be read, for it is of another version of "
                "recsys; evaluate the run again."
            ) from error
