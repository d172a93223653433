"""Uses of ids and of context values: how many events have them, and when the last one was.

They are counted for vocabularies that some of these enter or leave; see `turnover`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.files import write_parquet
from feature_store.core.times import microseconds
from feature_store.encoding.fitting import counted_uses
from feature_store.encoding.vocabulary import merge_counts
from feature_store.kinds import IdFeature, TokenFeature
from feature_store.schema import FeatureGroup, FeatureSchema, qualified
from pipelines.executor.shuffle import read_partitions
from pipelines.prepare.job import Run
from pipelines.prepare.scan import Scans

_GROUPS: tuple[FeatureGroup, ...] = ("item", "query", "context")


@dataclass(frozen=True)
class Uses:
    """Uses of values until a moment.

    Attributes:
        moment: Time of the last event, from which idle days count back, microseconds.
        counts: Columns token, count and last, by the qualified name of the feature.
    """

    moment: int
    counts: Mapping[str, pa.Table] = field(default_factory=dict)


@dataclass(frozen=True)
class CountUses:
    """A task: count the uses in a piece of the events.

    Attributes:
        events: File of the kept events.
        buckets: Number of its partitions.
        features: Features, by the column that holds their values.
        paths: File for the counts of each of them.
    """

    events: Path
    buckets: int
    features: tuple[tuple[str, IdFeature | TokenFeature], ...]
    paths: tuple[Path, ...]


def count_uses(run: Run, scans: Scans) -> Uses:
    """Counts the uses of what may enter or leave a vocabulary by its events."""
    moment = microseconds(scans.moments()[1])
    found = {
        qualified(group, feature): (group if feature.is_id else qualified(group, feature), feature)
        for group in _GROUPS
        for feature in _counted(group, run.job.features)
    }
    if not found:
        return Uses(moment)
    run.job.progress.begin("counting the events of each value")
    folder = run.folder("uses")
    tasks = [
        CountUses(
            scan.events,
            scans.buckets,
            tuple(found.values()),
            tuple(folder / f"{place:03d}-{number:05d}.parquet" for place in range(len(found))),
        )
        for number, scan in enumerate(scans.tasks)
    ]
    run.tasks("uses", count_uses_of_piece, tasks)
    return Uses(
        moment,
        {
            name: merge_counts([pq.read_table(task.paths[place]) for task in tasks])
            for place, name in enumerate(found)
        },
    )


def count_uses_of_piece(task: CountUses) -> None:
    """Writes the uses in a piece."""
    batches = read_partitions(task.events, range(task.buckets), task.buckets)
    table = pa.Table.from_batches(batches)
    times = table["time"].to_numpy()
    for (column, feature), path in zip(task.features, task.paths, strict=True):
        write_parquet(path, counted_uses(feature, table[column], times))


def _counted(group: FeatureGroup, schema: FeatureSchema) -> Iterator[IdFeature | TokenFeature]:
    """Yields the features whose values are counted by events, and not by rows of a table."""
    for feature in schema.of(group):
        if not isinstance(feature, IdFeature | TokenFeature) or not feature.has_vocabulary:
            continue
        if feature.is_id or (group == "context" and feature.max_idle_days is not None):
            yield feature
