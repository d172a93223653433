"""Choice of the split and the history that fit a log, with the evidence."""

from dataclasses import dataclass
from typing import Literal

from feature_store.core.errors import UserError
from feature_store.core.times import duration_of
from pipelines.profile.events import EventsProfile, TimeCut, TimeProfile
from pipelines.profile.order import OrderProfile
from pipelines.settings import GivenSplit, History, LeaveLastOut, RandomHash, Split, TimeSplit
from recsys.autoconfig import rules
from recsys.autoconfig.columns.roles import Roles
from recsys.autoconfig.figures import number, percent

_RANDOM = "So events are split at random, and a query's history is its other training events."


@dataclass(frozen=True)
class SplitChoice:
    """A split with its history.

    Args:
        split: Split.
        history: History.
        timestamp: Column of timestamps; None where they mean nothing.
        why: Evidence, in whole sentences.
        why_history: Figures behind the length of a history.
        training_events: Number of events left for training.
        validation_events: Number of events held out for validation.
        is_wanted: Whether the user asked for the split.
        training_events_per_query: Median number of them for each query; None where it is unknown.
    """

    split: Split
    history: History
    timestamp: str | None
    why: list[str]
    why_history: str
    training_events: int
    validation_events: int
    training_events_per_query: float | None
    is_wanted: bool


# Values of `recsys init --split`; other splits need what only the user knows, such as a column.
WantedSplit = Literal["leave_last_out", "random_hash", "time"]


def choose_split(
    events: EventsProfile, roles: Roles, wanted: WantedSplit | None = None
) -> SplitChoice:
    """Chooses the split that the evidence allows, or the wanted one.

    Raises:
        UserError: The wanted one needs a time that the log has not.
    """
    timestamp = roles.timestamp
    split: Split = RandomHash()
    meaningless = _why_timeless(roles) if events.time is None else _why_meaningless(events.time)
    if events.time is None or meaningless is not None:
        timestamp, why = None, [meaningless or "", _RANDOM]
    else:
        split, why = _choose_ordered(events, events.time)
    if roles.split is not None:
        split = GivenSplit(column=roles.split)
        why = [f"The events say in {roles.split!r} which part they belong to."]
    if wanted is not None:
        timestamp = timestamp if wanted == "random_hash" else roles.timestamp
        split, why = _wanted_split(wanted, timestamp, roles, events)
    is_past = timestamp is not None and split.kind != "random_hash"
    length, why_history = _history_length(events)
    return SplitChoice(
        split=split,
        history=History(kind="past" if is_past else "others", max_length=length),
        timestamp=timestamp,
        why=why,
        why_history=why_history,
        training_events=round(_training_share(events, split) * events.rows),
        validation_events=round(_validation_share(events, split) * events.rows),
        training_events_per_query=_training_events_per_query(events, split),
        is_wanted=wanted is not None,
    )


def _wanted_split(
    wanted: WantedSplit, timestamp: str | None, roles: Roles, events: EventsProfile
) -> tuple[Split, list[str]]:
    asked = f"As given by --split {wanted}."
    if wanted == "random_hash":
        return RandomHash(), [asked]
    if timestamp is None:
        no_event = "no event is the last" if wanted == "leave_last_out" else "no event is later"
        raise UserError(
            f"--split {wanted}: {no_event}. {_why_timeless(roles)} Give the column of times with "
            "--timestamp-column, or use --split random_hash."
        )
    if wanted == "leave_last_out":
        return LeaveLastOut(), [asked]
    cut = events.time.cut if events.time is not None else None
    if cut is None:
        raise UserError(
            "--split time: no cut in time leaves events for training, validation and test, or the "
            f"times in {timestamp!r} are no dates; use --split leave_last_out."
        )
    return _time_split(cut), [asked, _why_cut(cut)]


def _why_timeless(roles: Roles) -> str:
    why = roles.guesses.get("timestamp") if roles.timestamp is None else "the times are null"
    return f"No time of the events is read: {why}." if why else "The log has no time."


def _why_meaningless(time: TimeProfile) -> str | None:
    """Returns why the order of events means nothing; None where it may mean something."""
    if time.by_item >= rules.ITEM_ORDER_FROM:
        return (
            f"The timestamps carry no time: within {percent(time.by_item)} of queries, events are "
            "in the order of their item ids."
        )
    if time.ties >= rules.TIES_FROM and not _is_cut_usable(time.cut):
        return (
            f"The order is unknown: {percent(time.ties)} of events have the timestamp of the event "
            "of the same query before them."
        )
    if time.order is None or not (_is_synthetic(time) or time.clock is None):
        return None
    return _why_order_meaningless(time.order)


def _why_order_meaningless(order: OrderProfile) -> str | None:
    """Returns why by the tests of neighbours; see `OrderProfile`."""
    if order.is_fixed(rules.SAME_ORDER_FROM, rules.ORDER_P):
        return (
            "The timestamps carry no time: where two items are neighbours in several queries "
            f"({order.returns:,} times), {percent(order.share_of_same_order)} are in the same "
            "order, as only an order of the items' own would be. If this is the order in which "
            "people go through them, such as episodes, set columns.timestamp, split.kind: "
            "leave_last_out and history.kind: past."
        )
    if order.is_shuffled(rules.ORDER_P):
        return (
            "The timestamps carry no time: two items are neighbours in several queries "
            f"{order.returns:,} times, no more often than where the events of each query are "
            f"shuffled ({number(round(order.shuffled_returns))} times)."
        )
    return None


def _is_synthetic(time: TimeProfile) -> bool:
    return min(time.same_start, time.same_step) >= rules.SYNTHETIC_FROM


def _is_cut_usable(cut: TimeCut | None) -> bool:
    # A sample only bounds the fraction of known queries: real time gets the benefit of the doubt.
    return cut is not None and cut.known_at_most >= rules.KNOWN_QUERIES_FROM


def _choose_ordered(events: EventsProfile, time: TimeProfile) -> tuple[Split, list[str]]:
    """Chooses for a log in which at least the order within a query may mean something."""
    if _is_synthetic(time):
        why = (
            f"The clock is not real: {percent(time.same_start)} of queries begin at the same time "
            f"and {percent(time.same_step)} of steps are equal. {_what_order(time.order)}"
        )
    elif time.clock is None:
        why = (
            "The timestamps are not dates: only events of one query can be put in order. "
            f"{_what_order(time.order)}"
        )
    else:
        why = f"Real time, {time.clock[0]:%Y-%m-%d} to {time.clock[1]:%Y-%m-%d}."
        if time.cut is None:
            why += " No cut in time leaves events for training, validation and test."
        elif _is_cut_usable(time.cut):
            return _time_split(time.cut), [why, _why_cut(time.cut)]
        else:
            why += (
                f" With a cut in time, only {_known(time.cut)} of test events are of queries with "
                "training events."
            )
    if events.whole_queries and events.median < rules.LEAVE_LAST_OUT_EVENTS_FROM:
        events_of = "1 event" if events.median == 1 else f"{number(events.median)} events"
        few = f"Queries have {events_of} each (median), too few to hold the last out."
        return RandomHash(), [why, few, _RANDOM]
    last = "So the last event of each query is its test"
    if time.ties >= rules.TIES_WARNED_FROM:
        last += (
            f", though often an arbitrary one: {percent(time.ties)} of events have the timestamp "
            "of the event before"
        )
    return LeaveLastOut(), [why, f"{last}."]


def _what_order(order: OrderProfile | None) -> str:
    if order is None or not order.is_like_time(rules.ORDER_P):
        return (
            "The order within a query may be real; if it is not (ask whoever wrote the log), set "
            "split.kind: random_hash, history.kind: others and "
            "model.history: [{kind: mean}]."
        )
    return (
        "The order within a query looks real: two items are neighbours in several queries "
        f"{order.returns:,} times ({number(round(order.shuffled_returns))} times where events are "
        f"shuffled), and {percent(order.share_of_same_order)} are in the same order."
    )


def _time_split(cut: TimeCut) -> Split:
    return TimeSplit(validation=duration_of(cut.validation), test=duration_of(cut.test))


def _why_cut(cut: TimeCut) -> str:
    shares = (cut.train_share, cut.validation_share, cut.test_share)
    parts = ", ".join(percent(share) for share in shares)
    return (
        f"The windows give {parts} of events for training, validation and test; {_known(cut)} of "
        "test events are of queries with training events."
    )


def _known(cut: TimeCut) -> str:
    if cut.known_at_least == cut.known_at_most:
        return percent(cut.known_at_least)
    return f"between {percent(cut.known_at_least)} and {percent(cut.known_at_most)} (by a sample)"


def _history_length(events: EventsProfile) -> tuple[int, str]:
    if not events.whole_queries:
        return rules.UNKNOWN_HISTORY, "a guess: the sample does not hold whole queries"
    why = f"90 % of queries have at most {number(round(events.p90))} events"
    return rules.history_length(events.p90), why


def _training_share(events: EventsProfile, split: Split) -> float:
    if isinstance(split, TimeSplit) and events.time is not None and events.time.cut is not None:
        return events.time.cut.train_share
    if isinstance(split, LeaveLastOut) and events.whole_queries and events.read:
        return max(0.0, 1 - 2 * events.queries / events.read)
    return 0.8


def _validation_share(events: EventsProfile, split: Split) -> float:
    if isinstance(split, TimeSplit) and events.time is not None and events.time.cut is not None:
        return events.time.cut.validation_share
    return (1 - _training_share(events, split)) / 2


def _training_events_per_query(events: EventsProfile, split: Split) -> float | None:
    if not events.whole_queries:
        return None
    return events.median - 2 if isinstance(split, LeaveLastOut) else 0.8 * events.median
