"""The bodies of HTTP requests and answers; bounds keep every request small."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pyarrow as pa
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from feature_store.core.arrow import id_strings
from serving.recommend.answers import ExplainedRecommendation, Recommendation
from serving.recommend.filters.conditions import OPERATORS, Condition, condition_of
from serving.recommend.options import RecommendOptions
from serving.recommend.recommender import MAX_K

MAX_BODY_BYTES = 262_144
MAX_BATCH = 256
MAX_EVENTS = 1000
_MAX_TEXT, _MAX_VALUES = 256, 1000

# A client's clock may be a little ahead; a log by dates must not grow a part for each of any.
_AHEAD, _BEHIND = timedelta(minutes=10), timedelta(days=365)


def _id_string(value: Any) -> Any:
    """Converts whole numbers: 42, 42.0 and "42" are the same id, as in the log."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    token = id_strings(pa.array([value]))[0].as_py() if isinstance(value, float) else str(value)
    return value if token is None else token


def _condition(value: Any) -> Condition:
    """Reads a condition of a filter as callers from Python give it, within bounds of a request."""
    condition = condition_of(value)
    if len(condition) > _MAX_VALUES:
        raise ValueError(f"expected at most {_MAX_VALUES} values")
    texts = condition.values() if isinstance(condition, dict) else condition
    if any(isinstance(text, str) and len(text) > _MAX_TEXT for text in texts):
        raise ValueError(f"expected values of at most {_MAX_TEXT} characters")
    return condition


def _recent(moment: datetime) -> datetime:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if not -_AHEAD <= datetime.now(UTC) - aware <= _BEHIND:
        raise ValueError("expected a time of the last year, and not in the future")
    return aware


Text = Annotated[str, Field(max_length=_MAX_TEXT)]
Id = Annotated[str, Field(min_length=1, max_length=_MAX_TEXT), BeforeValidator(_id_string)]
_VALUE = {"type": ["string", "number", "boolean"], "maxLength": _MAX_TEXT}
_BOUND = {"type": ["number", "string"], "maxLength": _MAX_TEXT}
Where = Annotated[
    Any,
    AfterValidator(_condition),
    WithJsonSchema(
        {
            "anyOf": [
                _VALUE,
                {"type": "array", "items": _VALUE, "maxItems": _MAX_VALUES},
                {
                    "type": "object",
                    "properties": dict.fromkeys(OPERATORS, _BOUND),
                    "additionalProperties": False,
                    "minProperties": 1,
                },
            ]
        }
    ),
]
K = Annotated[int, Field(ge=1, le=MAX_K, strict=True)]
Values = Annotated[dict[Text, Any], Field(max_length=64)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Filters(_Closed):
    """Filters of the answer; all conditions hold at once.

    Attributes:
        where: Condition by item feature: a value, several of which an answer has one, or a range
            of numbers or dates with `ge`, `gt`, `le`, `lt`.
        allow: Ids that answers are among.
        deny: Ids that no answer is among.
    """

    where: Annotated[dict[Text, Where], Field(max_length=16)] = Field(default_factory=dict)
    allow: Annotated[list[Id], Field(max_length=10_000)] | None = None
    deny: Annotated[list[Id], Field(max_length=10_000)] = Field(default_factory=list)


class _RecommendBody(_Closed):
    k: K = 10
    context: Values = Field(default_factory=dict)
    at: datetime | None = Field(None, description="Time of the request; null: now.")
    exclude_seen: bool | None = Field(
        None,
        description="Whether items that the query has had are left out; null: as the model was "
        "evaluated.",
    )
    filters: Filters = Field(default_factory=Filters)
    tail: float = Field(
        0.0,
        ge=0,
        le=1,
        description="0: rank as evaluated; 1: with the most rare items; between: in between.",
    )
    explain: bool = Field(False, description="Whether items have the parts of their scores.")
    variant: Text | None = Field(
        None, description="Variant of an experiment, for tests: its answer does not count."
    )

    def options(self) -> RecommendOptions:
        """Returns the options for a recommender."""
        return RecommendOptions(
            context=self.context,
            at=self.at,
            exclude_seen=self.exclude_seen,
            where=self.filters.where,
            allow=self.filters.allow,
            deny=self.filters.deny,
            tail=self.tail,
            explain=self.explain,
        )


class RecommendRequest(_RecommendBody):
    """The body of POST /recommend: a query by its id, by features and history, or by both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"query_id": "42", "k": 10},
                {"features": {"age": 31}, "history": ["7", "12"], "k": 5},
                {
                    "query_id": "42",
                    "filters": {
                        "where": {"genres": ["Drama", "Comedy"], "year": {"ge": 1990, "lt": 2000}},
                        "deny": ["50"],
                    },
                },
            ]
        },
    )

    query_id: Id | None = None
    features: Values | None = Field(None, description="Raw values, instead of the known ones.")
    history: Annotated[list[Id], Field(max_length=1000)] | None = Field(
        None, description="Item ids, the oldest first, instead of the known history."
    )

    def options(self) -> RecommendOptions:
        """Returns the options for a recommender, with the given state of the query."""
        return replace(super().options(), features=self.features, history=self.history)

    @model_validator(mode="after")
    def _names_a_query(self) -> "RecommendRequest":
        if self.query_id is None and self.features is None and self.history is None:
            raise ValueError("give query_id, features or history")
        return self


class BatchRequest(_RecommendBody):
    """The body of POST /recommend/batch: many queries, with the same options."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"query_ids": ["42", "43"], "k": 10}]}
    )

    query_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_BATCH)]


class SimilarItemsRequest(_Closed):
    """The body of POST /similar-items."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"item_id": "50", "k": 10}]}
    )

    item_id: Id
    k: K = 10
    filters: Filters = Field(default_factory=Filters)
    variant: Text | None = None

    def options(self) -> RecommendOptions:
        """Returns the options for a recommender: the filters."""
        filters = self.filters
        return RecommendOptions(where=filters.where, allow=filters.allow, deny=filters.deny)


class EventBody(_Closed):
    """An event of a query and an item."""

    query_id: Id
    item_id: Id
    timestamp: Annotated[datetime, AfterValidator(_recent)] | None = Field(
        None, description="null: now. No time zone means UTC."
    )
    event_type: Text = Field("click", description="Type of the outcome, for ab-report.")
    value: float = Field(1.0, allow_inf_nan=False)
    request_id: Text | None = Field(None, description="Id of the answer that led to it.")


class EventsRequest(_Closed):
    """The body of POST /events."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"events": [{"query_id": "42", "item_id": "50", "event_type": "purchase"}]}
            ]
        },
    )

    events: Annotated[list[EventBody], Field(min_length=1, max_length=MAX_EVENTS)]


class Model(_Closed):
    """The model that answered."""

    version: str
    schema_fingerprint: str


class RecommendResponse(_Closed):
    """The best items, best first.

    `fallback` is whether popularity answered, because nothing is known or given that the model
    could go by; `source` is then `popularity`, and else `model`.
    """

    query_id: str | None
    items: tuple[ExplainedRecommendation | Recommendation, ...]
    fallback: bool
    source: str
    variant: str
    request_id: str
    model: Model


class BatchResponse(_Closed):
    """An answer to each query, in their order."""

    results: tuple[RecommendResponse, ...]


class SimilarItemsResponse(_Closed):
    """The nearest items, nearest first."""

    item_id: str
    items: tuple[Recommendation, ...]
    variant: str
    model: Model


class EventsResponse(_Closed):
    """The number of accepted events, and the ids that are not in the catalogue.

    Those of `unknown_items` will be in no history.
    """

    accepted: int
    unknown_items: tuple[str, ...]


class Health(_Closed):
    """The server is up, or ready to answer."""

    status: str
    online_store: str | None = Field(
        None,
        description="available or unavailable: then answers are of the bundle alone, and events "
        "are refused. Left out where there is no store.",
    )


class VariantVersion(_Closed):
    """A bundle that answers."""

    name: str
    share: float
    model: Model
    seal: str
    items: int
    queries: int
    last_event: str | None


class Version(_Closed):
    """The version of recsys and the bundles that answer."""

    recsys: str
    experiment: str | None
    variants: tuple[VariantVersion, ...]


class Swapped(_Closed):
    """The result of a reload or a rollback: the seals of the bundles that answer now."""

    changed: bool
    seals: tuple[str, ...]


class Problem(_Closed):
    """The body of every error: one sentence."""

    error: str
