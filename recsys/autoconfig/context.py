"""Proposals of context features: columns of the events, and parts of their time.

They are only proposed: no column tells whether its value is known when a query is asked, or comes
out afterwards and gives the answer away.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

from feature_store.kinds import ContextFeature, IdFeature, PositionFeature, TimeFeature
from pipelines.logs.sampling import ParquetTable
from pipelines.profile.events import EventsProfile
from pipelines.profile.owners import find_owners
from recsys.autoconfig import rules
from recsys.autoconfig.columns.roles import Roles
from recsys.autoconfig.event_words import (
    is_amount_name,
    is_quantity_name,
    is_type_name,
    label_meaning,
)
from recsys.autoconfig.features import choose_for
from recsys.autoconfig.names import has_word
from recsys.autoconfig.split import SplitChoice

# Words in names of columns that hold a rank.
_POSITION = re.compile("pos|position|rank|slot")
# Words in names of columns that are known only afterwards, or that hold the kind of event.
_OUTCOME = re.compile(
    "action|answer|behaviou?r|bought|click(ed|s)?|comments?|complet(ed|ion)|conversion|converted"
    "|correct|cost|discount|duration|dwell|earned|event|feedback|fees?|finished|label|liked?"
    "|margin|notes?|opinion|outcome|paid|profit|purchased?|reaction|refund|response|returned"
    "|revenue|reviews?|reward|spent|summary|target|tips?|watch(ed)?"
)
_PROPOSED = 10


@dataclass(frozen=True)
class Proposed:
    """A proposed feature, and the figures that led to it."""

    feature: ContextFeature
    why: str


@dataclass(frozen=True)
class ContextChoice:
    """Proposed features of the context, and columns that must not be any.

    Attributes:
        proposed: Features, in the order of the file, then parts of the time.
        outcomes: Columns that are known only afterwards.
        of_items: Columns that have one value for each item, and so would give the item away.
    """

    proposed: tuple[Proposed, ...]
    outcomes: tuple[str, ...]
    of_items: tuple[str, ...]


def propose_context(
    events: ParquetTable,
    roles: Roles,
    profile: EventsProfile,
    split: SplitChoice,
    bookkeeping: Collection[str] = (),
) -> ContextChoice:
    """Proposes columns of the events without another role.

    Args:
        events: Log of events.
        roles: Columns with a role.
        profile: Profile of the events.
        split: Split; where it uses times, parts of them are proposed.
        bookkeeping: Columns that describe rows, or separate positives.
    """
    # No later event has a directory's date.
    known = {*roles.columns, *roles.times, *bookkeeping, *events.partition}
    free = [name for name in events.schema.names if name not in known]
    outcomes = tuple(filter(_is_outcome, free))
    free = [name for name in free if name not in outcomes]
    simple = [name for name in free if not pa.types.is_nested(events.schema.field(name).type)]
    owners = find_owners(events, simple, roles.query, roles.item)
    of_items = tuple(name for name, owner in owners.items() if owner == "item")
    proposed: list[Proposed] = []
    for name in (name for name in free if name not in of_items):
        choice = choose_for(events, name)
        if choice.feature is None or isinstance(choice.feature, IdFeature):
            continue
        feature: ContextFeature = choice.feature
        if feature.kind == "categorical" and has_word(name, _POSITION):
            feature = PositionFeature(name=name, dim=feature.dim)
        proposed.append(Proposed(feature, choice.why))
    has_clock = profile.time is not None and profile.time.clock is not None
    is_known = has_clock and split.timestamp is not None
    times = _times(events, split) if is_known else []
    return ContextChoice((*proposed[:_PROPOSED], *times), outcomes, of_items)


def _is_outcome(name: str) -> bool:
    """Returns whether a name is that of something which is known only afterwards."""
    is_number = is_amount_name(name) or is_quantity_name(name)
    is_kind = is_type_name(name) or label_meaning(name) is not None
    return is_number or is_kind or has_word(name, _OUTCOME)


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
