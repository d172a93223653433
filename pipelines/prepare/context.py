"""The encoded context of a bucket's events, and of the moments at which its queries are asked."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Bools, Column, Ints
from feature_store.core.rows import encode_rows
from feature_store.encoding.context import NO_TIME, time_values
from feature_store.encoding.encoder import SideEncoder
from feature_store.kinds import PositionFeature, TimeFeature
from feature_store.schema import qualified
from pipelines.prepare.histories import Events, Questions, previous_times, questions
from pipelines.prepare.splits import TEST, TRAIN, VALIDATION


@dataclass(frozen=True)
class Context:
    """The context of a bucket's events.

    Attributes:
        encoder: Of the context.
        raw: [places] `context.<feature>`, raw; see `Events.place`.
    """

    encoder: SideEncoder
    raw: pa.Table

    @property
    def shows_recency(self) -> bool:
        """Whether a feature asks for the event before."""
        features = self.encoder.features
        return any(isinstance(f, TimeFeature) and f.part == "recency" for f in features)

    def of_events(self, events: Events, size: int) -> Iterator[dict[str, Column]]:
        """Of all events, `size` of them at a time, by feature name."""
        previous = self._previous(events)
        is_training = events.split == TRAIN
        for start in range(0, max(1, len(events)), size):
            rows = slice(start, start + size)
            yield self._encode(
                events.place[rows], events.time[rows], previous[rows], is_training[rows]
            )

    def of_questions(self, events: Events) -> dict[str, dict[str, Column]]:
        """By split, the context in which each query of a bucket is asked, in their order."""
        found: dict[str, dict[str, Column]] = {}
        for name, split in (("validation", VALIDATION), ("test", TEST)):
            asked = questions(events, split)
            found[name] = self._of_questions(events, asked)
        return found

    def _of_questions(self, events: Events, asked: Questions) -> dict[str, Column]:
        is_asked = asked.event >= 0
        # Without an event every value is null: it is at the place after the last.
        place = np.append(events.place, len(self.raw))[asked.event]
        time = np.append(events.time, NO_TIME)[asked.event]
        return self._encode(place, time, asked.previous, np.zeros(len(is_asked), bool))

    def _previous(self, events: Events) -> Ints:
        if not self.shows_recency:
            return np.full(len(events), NO_TIME)
        return previous_times(events)

    def _encode(
        self, place: Ints, time: Ints, previous: Ints, is_training: Bools
    ) -> dict[str, Column]:
        """All [rows]."""
        places = pa.array(place, mask=place == len(self.raw))
        columns: dict[str, pa.Array] = {"": pa.nulls(len(place))}  # So that there are rows.
        for feature in self.encoder.features:
            if isinstance(feature, TimeFeature):
                columns[feature.name] = time_values(feature, time, previous)
                continue
            raw = self.raw[qualified("context", feature)].take(places)
            if isinstance(feature, PositionFeature):
                raw = pc.if_else(pa.array(is_training), raw, None)
            columns[feature.name] = raw
        return self.encoder.encode(pa.table(columns))


def context_order(raw: pa.Table) -> Ints:
    """[rows] a key of each row's context, equal for equal ones, and the same in any log."""
    encoded = encode_rows(raw).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[encoded.indices.to_numpy()]
