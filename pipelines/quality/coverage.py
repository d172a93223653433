"""Share of the items and queries that have a value of a feature."""

from pathlib import Path

import numpy as np

from feature_store.core.columns import Bools, Column, Dense, Ints, read_columns
from feature_store.core.settings import Frozen
from feature_store.encoding.encoder import OOV_ROW
from feature_store.kinds import AnyFeature
from feature_store.schema import FeatureSchema, Side


class Coverage(Frozen):
    """Coverage of one feature.

    Attributes:
        rows: Share of the items (queries) of this run that have a value.
        with_events: Share of those that have events.
        by_events: Share of the events whose item (query) has one.
        out_of_vocabulary: Share of the values that share the out-of-vocabulary row; None where
            there is no vocabulary.
    """

    side: Side
    feature: str
    kind: str
    rows: float
    with_events: float
    by_events: float
    out_of_vocabulary: float | None


def coverage(
    directory: Path, schema: FeatureSchema, side: Side, current: Bools, events: Ints
) -> list[Coverage]:
    """Returns the coverage of each feature of a side but its id, which everything has.

    Args:
        directory: Prepared directory.
        schema: Schema of the features.
        side: Side of the features.
        current: Flags of the items (queries) of this run, [rows].
        events: Events of each item (query), [rows].
    """
    features = [feature for feature in schema.side(side) if not feature.is_id]
    if not features:
        return []
    folder = "items" if side == "item" else "queries"
    columns = read_columns(directory / folder / "features.arrow")
    events = events[current]
    covered: list[Coverage] = []
    for feature in features:
        column = columns[feature.name]
        present = column.present if isinstance(column, Dense) else column.lengths > 0
        present = present[current]
        covered.append(
            Coverage(
                side=side,
                feature=feature.name,
                kind=feature.kind,
                rows=_share(present.sum(), len(present)),
                with_events=_share((present & (events > 0)).sum(), (events > 0).sum()),
                by_events=_share(events[present].sum(), events.sum()),
                out_of_vocabulary=_out_of_vocabulary(schema.owner(feature), column, current),
            )
        )
    return covered


def _out_of_vocabulary(owner: AnyFeature, column: Column, current: Bools) -> float | None:
    if isinstance(column, Dense) or not owner.has_vocabulary:
        return None
    values = column.values if current.all() else column.take(np.flatnonzero(current)).values
    return _share((values == OOV_ROW).sum(), len(values))


def _share(some: float, total: float) -> float:
    return float(some / total) if total else 0.0
