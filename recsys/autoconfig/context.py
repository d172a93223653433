"""Proposals of context features: columns of the events, and parts of their time.

They are only proposed: no column tells whether its value is known when a query is asked, or comes
out afterwards and gives the answer away.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from feature_store.kinds import ContextFeature, IdFeature, PositionFeature, TimeFeature
from pipelines.logs.sampling import ParquetTable
from pipelines.profile.events import EventsProfile
from recsys.autoconfig import rules
from recsys.autoconfig.columns.roles import Roles
from recsys.autoconfig.features import choose_for
from recsys.autoconfig.names import words_of
from recsys.autoconfig.split import SplitChoice

# Words in names of columns that hold a rank.
_POSITION = re.compile("pos|position|rank|slot")
# Words in names of columns that are known only afterwards, or that hold the kind of event.
_OUTCOME = re.compile(
    "action|behaviou?r|bought|click(ed|s)?|complet(ed|ion)|conversion|converted|duration|dwell"
    "|event|feedback|label|liked?|outcome|purchased?|rating|response|revenue|score|target|type"
    "|watch(ed)?"
)
_PROPOSED = 10


@dataclass(frozen=True)
class Proposed:
    """A proposed feature, and the figures that led to it."""

    feature: ContextFeature
    why: str


def propose_context(
    events: ParquetTable,
    roles: Roles,
    profile: EventsProfile,
    split: SplitChoice,
    bookkeeping: Collection[str] = (),
) -> list[Proposed]:
    """Proposes columns without another role, in the order of the file, then parts of the time."""
    proposed: list[Proposed] = []
    for name in events.schema.names:
        # No later event has a directory's date.
        if name in roles.columns or name in bookkeeping or name in events.partition:
            continue
        if name in roles.times or _any_word(name, _OUTCOME):
            continue
        choice = choose_for(events, name)
        if choice.feature is None or isinstance(choice.feature, IdFeature):
            continue
        feature: ContextFeature = choice.feature
        if feature.kind == "categorical" and _any_word(name, _POSITION):
            feature = PositionFeature(name=name, dim=feature.dim)
        proposed.append(Proposed(feature, choice.why))
    has_clock = profile.time is not None and profile.time.clock is not None
    is_known = has_clock and split.timestamp is not None
    return [*proposed[:_PROPOSED], *(_times(events, split) if is_known else [])]


def _times(events: ParquetTable, split: SplitChoice) -> list[Proposed]:
    """Proposes features of the time, under names that no column has."""
    parts = [
        TimeFeature(name=_free("hour", events), dim=rules.embedding_dim(24), part="hour"),
        TimeFeature(name=_free("weekday", events), dim=rules.embedding_dim(7), part="weekday"),
    ]
    found = [Proposed(part, "in UTC, else zone: Europe/Paris") for part in parts]
    if split.history.kind == "past":
        since = TimeFeature(name=_free("recency", events), dim=rules.NUMBER_DIM, part="recency")
        found.append(Proposed(since, "time since the query's previous event"))
    return found


def _free(name: str, events: ParquetTable) -> str:
    while name in events.schema.names:
        name += "_of_event"
    return name


def _any_word(name: str, words: re.Pattern[str]) -> bool:
    return any(words.fullmatch(word) for word in words_of(name))
