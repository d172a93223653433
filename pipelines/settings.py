"""The `data` section of the configuration."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from feature_store.calendar.units import TimeUnit
from feature_store.core.bounds import EVENTS, LARGE
from feature_store.core.settings import Settings
from feature_store.core.times import span_of
from feature_store.kinds import TimeFeature
from feature_store.schema import FeatureSchema, Side
from pipelines.urls import shown

# Engines that run the tasks of a step.
ExecutorName = Literal["ray", "local"]

# Whether items that a query has had are ranked for it, and recommended to it, once more.
Repeats = Literal["exclude", "allow"]
# Manifests and experiments do not show the secrets of a URL.
Location = Annotated[str, PlainSerializer(shown, when_used="json")]


class Columns(Settings):
    """Names of the log's columns.

    `item.id` is the column `id` inside the struct `item`; a directory `date=2026-11-22` gives the
    column `date`.
    """

    query_id: str = Field(
        "query_id", description="Column of the events with the ids of queries: users, or sessions."
    )
    item_id: str = Field("item_id", description="Column of the events with the ids of items.")
    query_key: str | None = Field(
        None, description="Column of data.queries that holds the ids; null: named as query_id."
    )
    item_key: str | None = Field(
        None, description="Column of data.items that holds the ids; null: named as item_id."
    )
    timestamp: str | None = Field(
        "timestamp", description="Column of the times of events; null: the log has no time."
    )
    timestamp_unit: TimeUnit | None = Field(
        None,
        description="Meaning of numbers and of strings of digits: s, ms, us, ns, minutes, hours or "
        "days since 1970; yyyymmdd, with more digits or fewer; excel or julian days; apple seconds "
        "since 2001; webkit microseconds, filetime since 1601 and dotnet ticks. Of dates as text "
        "with the year last: dmy or mdy; ymd if it has two digits. null: recognised from the "
        "values. Arrow timestamps and other text tell it themselves.",
    )
    rating: str | None = Field(
        None, description="Column of ratings; read only if min_rating is set."
    )
    weight: str | None = Field(
        None, description="Column of the weights of examples in the main loss."
    )
    event_type: str | None = Field(
        None,
        description="Column of types such as view or purchase; read only if event_types is set.",
    )

    def id_of(self, side: Side) -> str:
        """Returns the column of the events that holds the items' or the queries' ids."""
        return self.item_id if side == "item" else self.query_id

    def key_of(self, side: Side) -> str:
        """Returns the column of the items or the queries that holds their ids."""
        return (self.item_key if side == "item" else self.query_key) or self.id_of(side)


class LeaveLastOut(Settings):
    """A query's last event is its test, the one before it its validation.

    Queries with fewer than three events are training only.
    """

    kind: Literal["leave_last_out"] = "leave_last_out"


def _is_duration(text: str) -> str:
    span_of(text)
    return text


# A whole number and its unit: w, d, h, m or s.
Duration = Annotated[str, AfterValidator(_is_duration)]


class TimeSplit(Settings):
    """The latest events are the test, those before them the validation.

    Windows move with a log that grows: they count back from `as_of`, or from the last event where
    no `as_of` is given. What is exactly at a window's beginning is before it, so that 7d of a log
    of dates are seven of them. Bounds stay where they are.
    """

    kind: Literal["time"] = "time"
    validation: Duration | None = Field(
        None, description="Length of the validation, which ends where the test begins: 2w, 7d, 12h."
    )
    test: Duration | None = Field(
        None, description="Length of the test, counted back from as_of, else from the last event."
    )
    validation_from: datetime | None = Field(
        None, description="First time of the validation, in place of a length."
    )
    test_from: datetime | None = Field(
        None, description="First time of the test, in place of a length."
    )

    @model_validator(mode="after")
    def _is_placed(self) -> "TimeSplit":
        lengths, bounds = (self.validation, self.test), (self.validation_from, self.test_from)
        if (None in lengths) == (None in bounds) or lengths.count(None) + bounds.count(None) != 2:
            raise ValueError(
                "split.kind time needs either the lengths validation and test, such as 7d, or the "
                "times validation_from and test_from"
            )
        if self.validation_from is None or self.test_from is None:
            return self
        if (self.validation_from.tzinfo is None) != (self.test_from.tzinfo is None):
            raise ValueError("both or neither of validation_from and test_from need a time zone")
        if self.validation_from >= self.test_from:
            raise ValueError("validation_from must be before test_from")
        return self


class RandomHash(Settings):
    """Split by CRC-32 of `query_id TAB item_id`, modulo 10: 0 test, 1 validation, else train."""

    kind: Literal["random_hash"] = "random_hash"


class ColdItems(Settings):
    """Split by CRC-32 of `item_id`, modulo 10: all events of 0 are test, of 1 validation."""

    kind: Literal["cold_items"] = "cold_items"


class GivenSplit(Settings):
    """A column of the events says `train`, `validation` or `test`."""

    kind: Literal["given"] = "given"
    column: str = Field(description="Column of the events with train, validation or test.")


Split = Annotated[
    LeaveLastOut | TimeSplit | RandomHash | ColdItems | GivenSplit, Field(discriminator="kind")
]


class History(Settings):
    """History of an example: the other events of its query that it sees."""

    kind: Literal["past", "others"] = Field(
        "past",
        description="past: events strictly before its own; others: the query's other training "
        "events, for logs whose order means nothing.",
    )
    max_length: int = Field(
        50, ge=1, le=1000, description="Events of a history, the latest before the example."
    )
    distinct: bool = Field(
        False,
        description="true: a repeated item is kept only where it came last, of the latest "
        "8 max_length events.",
    )


class Quality(Settings):
    """Requirements on the log; if it fails them, the run fails and the earlier result stays."""

    max_rejected_fraction: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Largest fraction of faulty events; those that min_rating or event_types "
        "leave out are not faulty.",
    )
    min_events: int = Field(
        1, ge=1, le=EVENTS, description="Smallest number of kept events, of all splits."
    )
    max_growth: float = Field(
        5.0,
        gt=1,
        le=LARGE,
        description="Factor by which new files may have more events a day than those before, in "
        "the nightly job.",
    )
    max_query_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of a new file's events from which a query that was never as active is "
        "a bot, in the nightly job.",
    )
    max_missing_rise: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Rise of the share of rows without a value of a feature that new files may "
        "bring, in the nightly job.",
    )
    max_rejected_files: int = Field(
        0,
        ge=0,
        le=EVENTS,
        description="Largest number of files of the events that are put aside because they are "
        "damaged or lack a column; the next run reads those that were mended.",
    )


class DataConfig(Settings):
    """Log files, and how they become examples."""

    events: Location = Field(description="Parquet file, directory, glob or URL.")
    items: Location | None = Field(
        None,
        description="Items and their features; null: those of the events.",
    )
    queries: Location | None = Field(
        None,
        description="Queries and their features; null: those of the events.",
    )
    columns: Columns = Columns()
    min_rating: float | None = Field(
        None,
        ge=-LARGE,
        le=LARGE,
        description="Lowest rating of a positive; events below are put aside and counted.",
    )
    event_types: dict[str, Annotated[float, Field(gt=0, le=LARGE)]] | None = Field(
        None,
        min_length=1,
        description="Weight of an event by its type; events of other types are put aside.",
    )
    split: Split = LeaveLastOut()
    history: History = History()
    repeats: Repeats = Field(
        "exclude",
        description="Items that a query has had, in training, evaluation and serving. exclude: "
        "they are not ranked for it again, and no history shows an example's own item; allow: they "
        "are ranked like all others, for logs of groceries, music or news.",
    )
    label_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Fraction of the training events that is kept, by a hash of query and item: to "
        "study how a model does with few labels.",
    )
    quality: Quality = Quality()

    @model_validator(mode="after")
    def _settings_agree(self) -> "DataConfig":
        if self.min_rating is not None and self.columns.rating is None:
            raise ValueError("min_rating needs data.columns.rating, which is null")
        if self.min_rating is None and self.columns.rating is not None:
            raise ValueError(
                "columns.rating has no effect without data.min_rating; set it, or rating to null"
            )
        if (self.event_types is None) != (self.columns.event_type is None):
            raise ValueError(
                "event_types and columns.event_type need each other; set both or neither"
            )
        if self.columns.timestamp is None:
            if self.history.kind == "past":
                raise ValueError("history.kind past needs data.columns.timestamp; use others")
            if self.split.kind in ("leave_last_out", "time"):
                raise ValueError(f"split.kind {self.split.kind} needs data.columns.timestamp")
        fault = repeats_fault(self.split, self.history)
        if self.repeats == "allow" and fault is not None:
            raise ValueError(f"repeats allow: {fault}; use exclude")
        return self


def repeats_fault(split: Split, history: History) -> str | None:
    """Explains why no held-out event can be a repetition that counts; returns None if it can."""
    if split.kind in ("random_hash", "cold_items"):
        return f"split.kind {split.kind} puts all events of a query and an item into one part"
    if history.kind == "others":
        return "history.kind others has no order in which an item could come again"
    return None


def context_fault(data: DataConfig, features: FeatureSchema) -> str | None:
    """Explains why this log cannot have the context; returns None if it can."""
    answers = (data.columns.item_id, data.columns.rating)
    for feature in features.context:
        if isinstance(feature, TimeFeature):
            if data.columns.timestamp is None:
                return (
                    f"features.context.{feature.name} needs data.columns.timestamp, which is null"
                )
            if feature.part == "recency" and data.history.kind != "past":
                return (
                    f"features.context.{feature.name} needs data.history.kind past, because "
                    "others has no previous event"
                )
        elif feature.name in answers:
            return (
                f"features.context.{feature.name} is not known at request time: it is what the "
                "model predicts"
            )
    return None


def has_sequences(data: DataConfig, features: FeatureSchema) -> bool:
    """Returns whether examples can share a history: it is ordered, and there is no context."""
    return data.history.kind == "past" and not features.context
