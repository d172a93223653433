"""The options of a recommendation, as a request or a caller gives them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from feature_store.core.times import microseconds
from serving.recommend.filters.item_filters import Where


@dataclass(frozen=True)
class RecommendOptions:
    """Circumstances of a request, and filters of its answer.

    Attributes:
        context: Raw values of context features by name; a feature that is left out is absent.
        at: Time of the request; None: now. No time zone means UTC.
        features: Raw values of the queries' features by name, instead of those that are known.
        history: Item ids, the oldest first, instead of the known history.
        exclude_seen: Whether items that a query has had are left out of its answer; None: as in
            the evaluation, see `data.repeats`. The query itself is always left out.
        where: Condition by item feature: a value, several of which an answer has one, or a range
            such as `{"ge": 1990, "lt": 2000}`; see `export.filters`.
        allow: Ids that answers are among; None: all.
        deny: Ids that no answer is among.
        tail: Place between the validated ranking, 0, and the one with the most rare items, 1; see
            `FusedSearch.weights`.
        explain: Whether answers have the parts of their scores.
    """

    context: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    features: Mapping[str, Any] | None = None
    history: Sequence[str] | None = None
    exclude_seen: bool | None = None
    where: Where = field(default_factory=dict)
    allow: Sequence[str] | None = None
    deny: Sequence[str] = ()
    tail: float = 0.0
    explain: bool = False

    @property
    def time(self) -> int:
        """Time of the request, microseconds since 1970."""
        return microseconds(self.at or datetime.now(UTC))


DEFAULTS = RecommendOptions()
