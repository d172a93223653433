"""What the HTTP server reads and answers; bounds keep every request small."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from serving.recommend.answers import Recommendation
from serving.recommend.queries import Asking
from serving.recommend.recommender import MAX_K

MAX_BODY_BYTES = 262_144
MAX_BATCH = 256
MAX_EVENTS = 1000

# A client's clock may be a little ahead; a log by dates must not grow a part for each of any.
_AHEAD, _BEHIND = timedelta(minutes=10), timedelta(days=365)


def _id_string(value: Any) -> Any:
    """The integer 42 and the string "42" are the same id, as in the log."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _recent(moment: datetime) -> datetime:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if not -_AHEAD <= datetime.now(UTC) - aware <= _BEHIND:
        raise ValueError("expected a time of the last year, and not in the future")
    return aware


Text = Annotated[str, Field(max_length=256)]
Id = Annotated[str, Field(min_length=1, max_length=256), BeforeValidator(_id_string)]
K = Annotated[int, Field(ge=1, le=MAX_K, strict=True)]
Values = Annotated[dict[Text, Any], Field(max_length=64)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Filters(_Closed):
    """Which items may be answers; all conditions hold at once.

    Attributes:
        where: By item feature the values of which an answer has one.
        allow: Ids that answers are among.
        deny: Ids that no answer is among.
    """

    where: Annotated[
        dict[Text, Annotated[list[Id], Field(max_length=1000)]], Field(max_length=16)
    ] = Field(default_factory=dict)
    allow: Annotated[list[Id], Field(max_length=10_000)] | None = None
    deny: Annotated[list[Id], Field(max_length=10_000)] = Field(default_factory=list)


class _Asked(_Closed):
    k: K = 10
    context: Values = Field(default_factory=dict)
    at: datetime | None = Field(None, description="When it is asked; null: now.")
    exclude_seen: bool = Field(True, description="Whether items that it has had are no answers.")
    filters: Filters = Field(default_factory=Filters)
    variant: Text | None = Field(
        None, description="Of an experiment, for tests: its answer does not count."
    )

    def asking(self, **given: Any) -> Asking:
        """For a recommender."""
        return Asking(
            context=self.context,
            at=self.at,
            exclude_seen=self.exclude_seen,
            where=self.filters.where,
            allow=self.filters.allow,
            deny=self.filters.deny,
            **given,
        )


class RecommendRequest(_Asked):
    """The body of POST /recommend: a query by its id, by what is known of it, or by both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"query_id": "42", "k": 10},
                {"features": {"age": 31}, "history": ["7", "12"], "k": 5},
                {"query_id": "42", "filters": {"where": {"genres": ["Drama"]}, "deny": ["50"]}},
            ]
        },
    )

    query_id: Id | None = None
    features: Values | None = Field(None, description="Raw values, instead of what is known.")
    history: Annotated[list[Id], Field(max_length=1000)] | None = Field(
        None, description="Item ids, the oldest first, instead of what is known."
    )

    @model_validator(mode="after")
    def _asks_for_someone(self) -> "RecommendRequest":
        if self.query_id is None and self.features is None and self.history is None:
            raise ValueError("give query_id, features or history")
        return self


class BatchRequest(_Asked):
    """The body of POST /recommend/batch: many queries, asked alike."""

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

    def asking(self) -> Asking:
        """For a recommender."""
        filters = self.filters
        return Asking(where=filters.where, allow=filters.allow, deny=filters.deny)


class EventBody(_Closed):
    """Something that a query did with an item."""

    query_id: Id
    item_id: Id
    timestamp: Annotated[datetime, AfterValidator(_recent)] | None = Field(
        None, description="null: now. No time zone means UTC."
    )
    type: Text = Field("click", description="Of an outcome, for ab-report.")
    value: float = Field(1.0, allow_inf_nan=False)
    request_id: Text | None = Field(None, description="Of the answer that led to it.")


class EventsRequest(_Closed):
    """The body of POST /events."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"events": [{"query_id": "42", "item_id": "50"}]}]},
    )

    events: Annotated[list[EventBody], Field(min_length=1, max_length=MAX_EVENTS)]


class Model(_Closed):
    """Which model answered."""

    version: str
    schema_fingerprint: str


class RecommendResponse(_Closed):
    """Best items first.

    `fallback` says that the query is unknown, `source` whether the model or popularity answered.
    """

    query_id: str | None
    items: tuple[Recommendation, ...]
    fallback: bool
    source: str
    variant: str
    request_id: str
    model: Model


class BatchResponse(_Closed):
    """An answer to each query, in their order."""

    results: tuple[RecommendResponse, ...]


class SimilarItemsResponse(_Closed):
    """Nearest items first."""

    item_id: str
    items: tuple[Recommendation, ...]
    variant: str
    model: Model


class EventsResponse(_Closed):
    """`unknown_items` are no items of the model's catalogue: no history will have them."""

    accepted: int
    unknown_items: tuple[str, ...]


class Health(_Closed):
    """The server is up, or ready to answer."""

    status: str


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
    """What this server runs."""

    recsys: str
    experiment: str | None
    variants: tuple[VariantVersion, ...]


class Swapped(_Closed):
    """After a reload or a rollback: the seals of the bundles that answer now."""

    changed: bool
    seals: tuple[str, ...]


class Problem(_Closed):
    """Every error: one sentence."""

    error: str
