"""The last half of the shuffle: examples and sequences of all buckets, in the order of a hash.

Each bucket's file is cut into ranges of the hash. A part is one or more consecutive ranges of all
buckets, sorted by the hash, so it does not depend on the number of buckets.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints
from feature_store.core.files import write_parquet
from feature_store.core.sorting import stable_order
from feature_store.schema import FeatureSchema
from pipelines.executor.shuffle import read_partitions
from pipelines.prepare.examples.examples import Examples, examples_file
from pipelines.prepare.examples.sequences import sequences_file
from pipelines.prepare.job import Run, count_of
from pipelines.prepared.examples import (
    SEQUENCE_SCHEMA,
    SEQUENCES,
    SPLITS,
    example_schema,
    part_file,
)

_EXAMPLES_IN_GROUP = 16_384
_SEQUENCES_IN_GROUP = 4_096


@dataclass(frozen=True)
class MergeExamples:
    """A task: write a part of a split.

    Attributes:
        directory: Folder of the buckets' files.
        features: Schema whose context the examples have.
        buckets: Number of buckets.
        partitions: Consecutive partitions of each bucket's file.
        count: Number of partitions of each bucket's file.
        path: File of the part.
    """

    directory: Path
    features: FeatureSchema
    buckets: int
    partitions: tuple[int, ...]
    count: int
    path: Path


@dataclass(frozen=True)
class MergeSequences:
    """A task: write a part of the training examples in sequences.

    Attributes:
        directory: Folder of the buckets' files.
        buckets: Number of buckets.
        ranges: Consecutive ranges of each bucket's file.
        count: Number of ranges of each bucket's file.
        path: File of the part.
    """

    directory: Path
    buckets: int
    ranges: tuple[int, ...]
    count: int
    path: Path


def merge_examples(run: Run, examples: Examples) -> None:
    """Writes the parts of each split."""
    run.job.progress.begin(f"shuffling {count_of(int(examples.counts.sum()), 'example')}")
    ranges = examples.counts.shape[1]
    tasks: list[MergeExamples] = []
    for index, split in enumerate(SPLITS):
        (run.directory / split).mkdir(exist_ok=True)
        for part, chosen in _ranges_of_parts(run, examples.counts[index]):
            tasks.append(
                MergeExamples(
                    directory=run.folder("examples"),
                    features=run.job.features,
                    buckets=examples.buckets,
                    partitions=tuple((index * ranges + chosen).tolist()),
                    count=examples.counts.size,
                    path=part_file(run.directory / split, part),
                )
            )
    run.tasks("merge", merge_part, tasks)


def merge_sequences(run: Run, examples: Examples) -> None:
    """Writes the parts of the training examples in sequences, if examples can share a history."""
    total = int(examples.sequences.sum())
    if not total:
        return
    run.job.progress.begin(f"shuffling {count_of(total, 'sequence')}")
    (run.directory / SEQUENCES).mkdir(exist_ok=True)
    tasks = [
        MergeSequences(
            directory=run.folder("examples"),
            buckets=examples.buckets,
            ranges=tuple(chosen.tolist()),
            count=len(examples.sequences),
            path=part_file(run.directory / SEQUENCES, part),
        )
        for part, chosen in _ranges_of_parts(run, examples.sequences)
    ]
    run.tasks("sequences", merge_part_of_sequences, tasks)


def merge_part(task: MergeExamples) -> None:
    """Writes a part of a split."""
    files = (examples_file(task.directory, bucket) for bucket in range(task.buckets))
    schema = example_schema(task.features)
    table = _gathered(files, task.partitions, task.count).select(schema.names).cast(schema)
    write_parquet(task.path, table, row_group_size=_EXAMPLES_IN_GROUP)


def merge_part_of_sequences(task: MergeSequences) -> None:
    """Writes a part of the training examples in sequences."""
    files = (sequences_file(task.directory, bucket) for bucket in range(task.buckets))
    table = _gathered(files, task.ranges, task.count).select(SEQUENCE_SCHEMA.names)
    write_parquet(task.path, table, row_group_size=_SEQUENCES_IN_GROUP)


def _ranges_of_parts(run: Run, counts: Ints) -> Iterator[tuple[int, Ints]]:
    """Yields the number of each part, and the ranges that it holds, from the ranges' row counts."""
    part_of = np.cumsum(counts) // (run.job.rows_of_task + 1)
    for part in np.unique(part_of):
        yield int(part), np.flatnonzero(part_of == part)


def _gathered(files: Iterable[Path], partitions: Sequence[int], count: int) -> pa.Table:
    """Returns the rows of some partitions of all files, in the order of their key."""
    batches = [batch for file in files for batch in read_partitions(file, partitions, count)]
    table = pa.Table.from_batches(batches).combine_chunks()
    return table.take(pa.array(stable_order(table["key"].to_numpy())))
