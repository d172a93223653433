"""Which columns of the events, and what of their time, could be features of the context.

They are only proposed: no column tells whether its value is known when a query is asked, or comes
out afterwards and tells the answer.
"""

import re
from dataclasses import dataclass

from feature_store.kinds import ContextFeature, IdFeature, PositionFeature, TimeFeature
from pipelines.logs.sampling import ParquetTable
from pipelines.profile.columns import profile_column
from pipelines.profile.events import EventsProfile
from recsys.autoconfig import rules as rules
from recsys.autoconfig.features import choose, words_of
from recsys.autoconfig.roles import Roles
from recsys.autoconfig.split import SplitChoice

# Words of the names of ranks.
_POSITION = re.compile("pos|position|rank|slot")
# Of what only the answer says, and of what kind of event it was.
_OUTCOME = re.compile(
    "action|behaviou?r|bought|click(ed|s)?|complet(ed|ion)|conversion|converted|duration|dwell"
    "|event|feedback|label|liked?|outcome|purchased?|rating|response|revenue|score|target|type"
    "|watch(ed)?"
)
_PROPOSED = 10


@dataclass(frozen=True)
class Proposed:
    """A feature and the figures that led to it."""

    feature: ContextFeature
    why: str


def propose_context(
    events: ParquetTable, roles: Roles, profile: EventsProfile, split: SplitChoice
) -> list[Proposed]:
    """Columns that have no other meaning, in the order of the file, and then the time."""
    taken = (roles.query, roles.item, roles.timestamp, roles.rating, roles.weight, roles.split)
    found: list[Proposed] = []
    for name in events.schema.names:
        # A directory's date is never seen again.
        if name in taken or name in events.partition or _any_word(name, _OUTCOME):
            continue
        choice = choose(profile_column(events, name))
        if choice.feature is None or isinstance(choice.feature, IdFeature):
            continue
        feature: ContextFeature = choice.feature
        if feature.kind == "categorical" and _any_word(name, _POSITION):
            feature = PositionFeature(name=name, dim=feature.dim)
        found.append(Proposed(feature, choice.why))
    has_clock = profile.time is not None and profile.time.clock is not None
    is_known = has_clock and split.timestamp is not None
    return [*found[:_PROPOSED], *(_times(events, split) if is_known else [])]


def _times(events: ParquetTable, split: SplitChoice) -> list[Proposed]:
    """Features of the time, under names that no column has."""
    parts = [
        TimeFeature(name=_free("hour", events), dim=rules.embedding_dim(24), part="hour"),
        TimeFeature(name=_free("weekday", events), dim=rules.embedding_dim(7), part="weekday"),
    ]
    found = [Proposed(part, "in UTC; zone: Europe/Paris is another") for part in parts]
    if split.history.kind == "past":
        since = TimeFeature(name=_free("recency", events), dim=rules.NUMBER_DIM, part="recency")
        found.append(Proposed(since, "since the query's event before"))
    return found


def _free(name: str, events: ParquetTable) -> str:
    while name in events.schema.names:
        name += "_of_event"
    return name


def _any_word(name: str, words: re.Pattern[str]) -> bool:
    return any(words.fullmatch(word) for word in words_of(name))
