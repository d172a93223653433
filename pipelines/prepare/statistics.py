"""Statistics of what was prepared: item frequency, mutual information, and the quality report."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.files import write_json, write_parquet
from feature_store.encoding.vocabulary import Vocabulary
from pipelines.prepare.catalogue.ids import current_file
from pipelines.prepare.job import Run, count_of
from pipelines.prepared.examples import SPLITS
from pipelines.prepared.manifest import PreparedManifest
from pipelines.quality.quality import Quality, quality
from pipelines.quality.write import write_quality
from pipelines.statistics import mutual_information as information
from pipelines.statistics.summaries import ColumnSummary, Summary

# Number of differences to the run before that one line shows.
_SHOWN_SHIFTS = 3


def write_item_frequency(run: Run, ids: Vocabulary) -> int:
    """Adds up the buckets' events of each item, and returns how many items training has."""
    frequency = np.zeros(len(ids) * len(SPLITS), np.int64)
    for file in sorted(run.folder("examples").glob("frequency-*")):
        keys, counts = np.load(file)
        frequency[keys] += counts
    by_split = frequency.reshape(len(ids), len(SPLITS))
    columns = {split: by_split[:, index] for index, split in enumerate(SPLITS)}
    write_parquet(
        run.directory / "statistics" / "item_frequency.parquet",
        pa.table({"item_id": ids.tokens, **columns}),
    )
    return int((by_split[:, 0] > 0).sum())


def write_mutual_information(run: Run) -> None:
    """Writes the mutual information between item features, over the items of this run."""
    names = tuple(feature.name for feature in run.job.features.item)
    run.job.progress.begin(f"mutual information of {count_of(len(names), 'item feature')}")
    frequency = pq.read_table(run.directory / "statistics" / "item_frequency.parquet")
    items = run.folder("statistics") / "items.npy"
    information.save_items(
        items,
        frequency["item_id"].combine_chunks(),
        np.load(current_file(run.folder("item"))),
        frequency["train"].to_numpy(),
    )
    tasks = information.pair_tasks(run.directory / "items" / "features.arrow", items, names)
    blocks = run.tasks("information", information.pair_information, tasks)
    matrices = information.mutual_information(names, blocks)
    path = run.directory / "statistics" / "mutual_information.json"
    write_json(path, matrices.model_dump(mode="json"))


def write_quality_report(
    run: Run,
    manifest: PreparedManifest,
    summaries: Mapping[str, Summary | None],
    before: Quality | None,
) -> None:
    """Writes the quality report, and shows the most severe differences to the run before."""
    known = {table: summary for table, summary in summaries.items() if summary is not None}
    for note in _notes_on_numbers(known):
        run.job.progress.note(note)
    is_forgetful = bool(run.job.forgotten.fingerprint)
    report = quality(run.directory, manifest, known, before, is_forgetful=is_forgetful)
    write_quality(run.directory, report)
    if report.shifts:
        worst = "; ".join(shift.sentence for shift in report.shifts[:_SHOWN_SHIFTS])
        more = len(report.shifts) - _SHOWN_SHIFTS
        run.job.progress.note(
            f"other than the run before: {worst}{f'; and {more} more' if more > 0 else ''} "
            "(statistics/quality.html)"
        )


def _notes_on_numbers(summaries: Mapping[str, Summary]) -> Iterator[str]:
    """Yields a sentence for each column with numbers or dates that are none."""
    for table, summary in summaries.items():
        for name, column in summary.columns.items():
            if column.invalid:
                yield f"{table}: {column.invalid:,} {_what_is_none(name, column)}: absent"


def _what_is_none(name: str, column: ColumnSummary) -> str:
    if column.kind == "times":
        return f"values of {name!r} are no dates"
    if column.type == "string":
        return f"values of {name!r} are no numbers"
    return f"numbers of {name!r} are NaN or infinite"
