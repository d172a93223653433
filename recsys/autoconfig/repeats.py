"""Choice of `data.repeats`, with the evidence."""

from dataclasses import dataclass

from pipelines.profile.events import EventsProfile
from pipelines.profile.repeats import RepeatShare
from pipelines.settings import Repeats, TimeSplit, repeats_fault
from recsys.autoconfig import rules
from recsys.autoconfig.figures import percent
from recsys.autoconfig.split import SplitChoice


@dataclass(frozen=True)
class RepeatsChoice:
    """A value of `data.repeats`.

    Args:
        repeats: Value.
        why: Figure behind it, or why there is none.
        is_news: Whether the reader of the terminal should not miss it.
    """

    repeats: Repeats
    why: str
    is_news: bool


def choose_repeats(events: EventsProfile, split: SplitChoice) -> RepeatsChoice:
    """Chooses by the share of held-out pairs whose query had the item before."""
    fault = repeats_fault(split.split, split.history)
    if fault is not None or events.time is None:
        return RepeatsChoice("exclude", fault or "the log has no time", is_news=False)
    cut = events.time.cut
    if isinstance(split.split, TimeSplit) and cut is not None:
        share, what = cut.repeats, "test items are ones that the query had before"
    else:
        share = events.time.repeats_of_last
        what = "queries end with an item that they had before"
    figure, least = f"{_shown(share)} of {what}", percent(rules.REPEATS_FROM)
    if share.at_least >= rules.REPEATS_FROM:
        return RepeatsChoice("allow", figure, is_news=True)
    if share.at_most < rules.REPEATS_FROM:
        return RepeatsChoice("exclude", f"{figure}; from {least} on: allow", is_news=False)
    why = f"{figure}; if it is {least} or more, set allow"
    return RepeatsChoice("exclude", why, is_news=True)


def _shown(share: RepeatShare) -> str:
    if share.at_least == share.at_most:
        return percent(share.at_least)
    return f"between {percent(share.at_least)} and {percent(share.at_most)} (by a sample)"
