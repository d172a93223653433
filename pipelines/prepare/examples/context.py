"""The context: its vocabularies, and the encoded context of events and of requests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.columns import Bools, Column, Ints
from feature_store.core.rows import encode_rows
from feature_store.encoding.context import NO_TIME, time_values
from feature_store.encoding.encoder import NO_IDS, SideEncoder
from feature_store.kinds import PositionFeature, TimeFeature
from feature_store.schema import SIDES, qualified
from pipelines.prepare.catalogue.encoders import fit_encoder
from pipelines.prepare.examples.histories import Events, Requests, previous_times, requests
from pipelines.prepare.examples.splits import TEST, TRAIN, VALIDATION
from pipelines.prepare.job import Run, count_of
from pipelines.prepare.scan import Scan
from pipelines.prepare.uses import Uses
from pipelines.settings import Repeats


@dataclass(frozen=True)
class Context:
    """The context of a bucket's events.

    Attributes:
        encoder: Encoder of the context.
        raw: Raw values, as `context.<feature>`; see `Events.context_row`.
        repeats: Whether the previous event may be one of the event's own item.
    """

    encoder: SideEncoder
    raw: pa.Table
    repeats: Repeats

    @property
    def has_recency(self) -> bool:
        """Whether a feature is the time since the previous event."""
        features = self.encoder.features
        return any(isinstance(f, TimeFeature) and f.part == "recency" for f in features)

    def of_events(self, events: Events, size: int) -> Iterator[dict[str, Column]]:
        """Yields the encoded context of all events by feature name, `size` events at a time."""
        previous = self._previous(events)
        is_training = events.split == TRAIN
        for start in range(0, max(1, len(events)), size):
            rows = slice(start, start + size)
            yield self._encode(
                events.context_row[rows], events.time[rows], previous[rows], is_training[rows]
            )

    def of_requests(self, events: Events) -> dict[str, dict[str, Column]]:
        """Returns, by split and feature name, the context in which each query is answered."""
        return {
            name: self._of_requests(events, requests(events, split, self.repeats))
            for name, split in (("validation", VALIDATION), ("test", TEST))
        }

    def _of_requests(self, events: Events, asked: Requests) -> dict[str, Column]:
        # Index -1, of queries without an event, reads the row after the last one, which is null.
        row = np.append(events.context_row, len(self.raw))[asked.event]
        time = np.append(events.time, NO_TIME)[asked.event]
        return self._encode(row, time, asked.previous, np.zeros(len(row), bool))

    def _previous(self, events: Events) -> Ints:
        if not self.has_recency:
            return np.full(len(events), NO_TIME)
        return previous_times(events, self.repeats)

    def _encode(
        self, row: Ints, time: Ints, previous: Ints, is_training: Bools
    ) -> dict[str, Column]:
        rows = pa.array(row, mask=row == len(self.raw))
        columns: dict[str, pa.Array] = {"": pa.nulls(len(row))}  # So that there are rows.
        for feature in self.encoder.features:
            if isinstance(feature, TimeFeature):
                columns[feature.name] = time_values(feature, time, previous)
                continue
            raw = self.raw[qualified("context", feature)].take(rows)
            if isinstance(feature, PositionFeature):
                raw = pc.if_else(pa.array(is_training), raw, None)
            columns[feature.name] = raw
        return self.encoder.encode(pa.table(columns))


def fit_context(
    run: Run, scans: Sequence[Scan], previous: Mapping[str, SideEncoder], uses: Uses
) -> None:
    """Grows the vocabularies of the context, and fits its scalings, from all kept events."""
    features = run.job.features.context_columns
    if features:
        run.job.progress.begin(f"fitting {count_of(len(features), 'context feature')}")

    def counted(feature: int) -> Iterator[pa.Table]:
        for task in scans:
            yield pq.read_table(task.counts(feature))

    clear_unused = any(
        bool(run.job.forgotten.contains(side, previous[side].ids.tokens).any())
        for side in SIDES
        if side in previous
    )
    earlier = previous.get("context")
    fit_encoder(run, "context", features, NO_IDS, counted, earlier, uses, clear_unused=clear_unused)


def context_order(raw: pa.Table) -> Ints:
    """Returns a key of each row's context, [rows]: equal for equal ones, ordered as in any log."""
    encoded = encode_rows(raw).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[encoded.indices.to_numpy()]
