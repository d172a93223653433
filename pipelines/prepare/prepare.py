"""The `prepare` stage: a Parquet log to the prepared directory.

The forms of the data, and between them the steps whose tasks make one of the other. Each form lies
in files, so that its size is bounded by the disk:

    files       date=1/a.parquet               date=2/b.parquet
                  list_files, open_sources: row groups of about a million rows
    pieces      [ piece 0     | piece 1      ] [ piece 2      ]
                  scan_events: checks each event; bucket = hash of its query
    scans       [ b0 | b1 | b2 | b0 | b1 | b2 ] [ b0 | b1 | b2 ]
                  build_examples: all events of some queries get a split and a history
    buckets     b0: q2 q2 q2 q7 q7       b1: q0 q0 q5 q5       b2: q1 q3 q3
                  range = hash of the example
    examples    b0: [ r0 | r1 | r2 ]     b1: [ r0 | r1 | r2 ]  b2: [ r0 | r1 | r2 ]    of each split
                  merge_examples: ranges of all buckets, in the order of the hash
    parts       train/part-00000: r0 r1       train/part-00001: r2       test/part-00000: r0 r1 r2

An example holds indices into the catalogues of items and queries, which are read and encoded after
the scan.
"""

import time
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from feature_store.core.errors import PlaceError
from feature_store.core.manifests import fingerprint, read_manifest, write_manifest
from feature_store.core.times import as_utc
from feature_store.encoding.encoder import SideEncoder
from feature_store.forgotten import FORGOTTEN, Forgotten
from feature_store.schema import SIDES, FeatureSchema
from pipelines.executor import Executor
from pipelines.logs.filesystems import UnreadableFileError
from pipelines.logs.listing import Listing, would_read
from pipelines.logs.rejected_files import RefusedLogError
from pipelines.logs.tables import (
    Files,
    file_marks,
    list_files,
    notes_on,
    open_sources,
)
from pipelines.prepare.catalogue.features import encode_catalogue
from pipelines.prepare.catalogue.ids import complete_catalogue, note_spellings, read_catalogue
from pipelines.prepare.cleaning.rejected import (
    by_reason,
    keep_rejected,
    require_quality,
    require_training,
    require_weights,
)
from pipelines.prepare.examples.context import fit_context
from pipelines.prepare.examples.examples import build_examples
from pipelines.prepare.examples.merge import merge_examples, merge_sequences
from pipelines.prepare.examples.queries import write_query_state
from pipelines.prepare.examples.splits import TEST, VALIDATION, placed, require_windows
from pipelines.prepare.identity import fingerprint_of, inputs_of, manifest_of
from pipelines.prepare.job import Job, Progress, Run, print_line
from pipelines.prepare.new_files import require_usual_files
from pipelines.prepare.scan import discard_other_scans, scan_events
from pipelines.prepare.statistics import (
    write_item_frequency,
    write_mutual_information,
    write_quality_report,
)
from pipelines.prepare.uses import count_uses
from pipelines.prepare.workspace import Workspace
from pipelines.prepared.examples import part_file
from pipelines.prepared.manifest import Counts, PreparedManifest
from pipelines.prepared.reader import Prepared
from pipelines.quality.news import Known, require_filled
from pipelines.quality.quality import read_quality
from pipelines.reports.words import plural_of, word_for
from pipelines.settings import DataConfig
from pipelines.urls import shown


def prepare(
    data: DataConfig,
    features: FeatureSchema,
    output: Path,
    *,
    executor: Executor,
    as_of: datetime | None = None,
    forgotten: Forgotten | None = None,
    refit_of: Path | None = None,
    passed_over: Collection[str] = (),
    known: Known | None = None,
    console: Console | None = None,
) -> PreparedManifest:
    """Writes the prepared directory, or returns at once if exactly that exists already.

    What it holds is a function of the log's rows and the configuration alone, not of how the rows
    lie in files; and of the earlier directory at `output`, whose vocabularies are appended to if it
    has the same features. Events may be more than memory holds: they are shuffled through files in
    `<output>.work`, which all of Ray's machines must see. The catalogues are held in memory.

    A killed run is resumed by the next call: finished tasks are not run again. Files of events that
    an earlier call has read are not read again; what examples are made of is kept in
    `<output>.work`, see `pipelines.prepare.workspace`.

    Args:
        data: Configuration of the log and of how it becomes examples.
        features: Features of items, queries and events.
        output: The directory; an earlier one is replaced when all is done, and kept on failure.
        executor: Engine that runs the tasks; the result does not depend on it.
        as_of: Time after which events are rejected, in UTC if it has no time zone, and from which
            windows of a split by time count back; None: now, and the time of the last event.
        forgotten: Ids whose rows are dropped without a trace; the rows of their embeddings stay
            free.
        refit_of: Prepared directory of the same log, of which this is the one without held-out
            events, for the model that is served; its rows of tables are those of this one, too.
        passed_over: Marks of files of the events that are not read; see `file_marks`.
        known: Files that an earlier run has read; new ones that are unlike them are refused. None:
            they are not judged.
        console: Console for progress.

    Returns:
        The manifest; see `pipelines.prepared.reader` for what else the directory holds.

    Raises:
        RefusedLogError: New files are unlike those that are known.
        UserError: The log is missing, corrupt or not what the configuration says, or nothing in it
            can be trained on; another process is preparing the same directory; or the directory
            holds something else, or is within the log.
    """
    console = console or Console()
    forgotten = forgotten or Forgotten()
    started = time.monotonic()
    workspace = Workspace(output, refit_of)
    workspace.require_own()
    _require_outside(data, output)
    files = list_files(data)
    for note in notes_on(files):
        print_line(console, note)
    files = _without(files, passed_over, console)
    identity = fingerprint_of(data, features, files, as_of, forgotten)
    if refit_of is not None:
        identity = fingerprint([identity, Prepared(refit_of).manifest.fingerprint])
    if (manifest := _up_to_date(output, identity, console)) is not None:
        workspace.tidy_up()
        return manifest
    split_end = as_utc(as_of) if as_of is not None else None
    moment = split_end or datetime.now(UTC)
    sources = open_sources(data, features, files)
    for note in sources.notes():
        print_line(console, note)
    with workspace.locked():
        # Another process may have finished it, or a killed one all but finished it.
        if (manifest := _up_to_date(output, identity, console)) is not None:
            return manifest
        earlier = read_manifest(refit_of or output, PreparedManifest)
        damaged: list[UnreadableFileError] = []
        while manifest is None:
            with Progress(console, word_for(data, features)) as progress:
                job = Job(
                    data,
                    features,
                    sources,
                    moment,
                    split_end,
                    forgotten,
                    progress,
                    executor,
                    holds_out=refit_of is None,
                    passed_over=tuple(sorted(passed_over)),
                    known=known,
                )
                try:
                    manifest = _run(job, workspace, identity, earlier)
                except UnreadableFileError as error:
                    if error.table != "events":
                        raise
                    damaged.append(error)
                    sources = open_sources(data, features, files, damaged)
    _print_summary(console, manifest, time.monotonic() - started)
    _print_rejected_files(console, manifest)
    return manifest


def _without(files: Files, passed_over: Collection[str], console: Console) -> Files:
    """Leaves files of the events out of the log."""
    if not passed_over:
        return files
    marks = file_marks({"events": files["events"]})["events"]
    kept = tuple(file for file, mark in marks.items() if mark not in passed_over)
    for file in sorted(marks.keys() - set(kept)):
        print_line(console, f"passed over: {shown(file)}")
    if not kept:
        raise RefusedLogError("events: every file is passed over; mend one of them.", [])
    return {**files, "events": Listing(kept, files["events"].notes)}


def _require_outside(data: DataConfig, output: Path) -> None:
    """Checks that the next run will not read what this one writes."""
    written = part_file(output / "train", 0)
    paths = {"events": data.events, "items": data.items, "queries": data.queries}
    for table, path in paths.items():
        if path is not None and would_read(path, str(written)):
            raise PlaceError(
                f"the output {output.parent} is within {shown(path)}, where the {table} are read; "
                "choose an output outside of it."
            )


def _up_to_date(output: Path, identity: str, console: Console) -> PreparedManifest | None:
    manifest = read_manifest(output, PreparedManifest)
    if manifest is None or manifest.fingerprint != identity:
        return None
    print_line(console, f"{output} is up to date")
    _print_rejected_files(console, manifest)
    return manifest


def _run(
    job: Job, workspace: Workspace, identity: str, earlier: PreparedManifest | None
) -> PreparedManifest:
    """Runs the steps, in order."""
    scans = scan_events(job, workspace)
    require_usual_files(job, scans)
    split = job.data.split
    if job.holds_out and any(scanned.kept for scanned in scans.scanned):
        data = {"split": placed(split, scans, job.split_end, job.progress.note)}
        job = replace(job, data=job.data.model_copy(update=data))
    run = Run(job, workspace.build(inputs_of(identity, earlier, scans)))
    lender = (workspace.lender or workspace).output
    previous = _previous_encoders(earlier, lender, job.features)
    items, queries = (read_catalogue(run, side) for side in SIDES)
    items, queries = (complete_catalogue(each, scans.tasks) for each in (items, queries))
    for catalogue in (items, queries):
        note_spellings(run, catalogue, scans.tasks)
    uses = count_uses(run, scans)
    item_ids, item_summary = encode_catalogue(run, items, previous.get("item"), uses)
    query_ids, query_summary = encode_catalogue(run, queries, previous.get("query"), uses)
    fit_context(run, scans.tasks, previous, uses)
    examples = build_examples(run, scans, item_ids, query_ids)
    rejected = keep_rejected(run, [items, queries], scans, examples)
    require_training(job, int(examples.counts[0].sum()), rejected)
    require_weights(job, int(examples.counts[0].sum()), examples.weightless)
    require_quality(job, int(examples.counts.sum()), rejected)
    if job.holds_out:
        held_out = (int(examples.counts[part].sum()) for part in (VALIDATION, TEST))
        require_windows(split, *held_out)
    merge_examples(run, examples)
    merge_sequences(run, examples)
    write_query_state(run, len(query_ids))
    items_in_training = write_item_frequency(run, item_ids)
    write_mutual_information(run)
    train, validation, test = (int(n) for n in examples.counts.sum(axis=1))
    counts = Counts(
        events_read=job.sources.events.rows,
        train=train,
        validation=validation,
        test=test,
        items=len(item_ids),
        queries=len(query_ids),
        items_in_training=items_in_training,
        rejected=rejected,
    )
    manifest = manifest_of(job, identity, scans, counts)
    summaries = {"events": scans.summary, "items": item_summary, "queries": query_summary}
    if job.known is not None and earlier is not None:
        quality = read_quality(workspace.output)
        if quality is not None:
            require_filled(quality.summaries, summaries, job.data.quality)
    is_first = earlier is None or not job.holds_out
    before = None if is_first else read_quality(workspace.output)
    write_quality_report(run, manifest, summaries, before)
    # Before the manifest makes the run a finished one, for they may hold what is forgotten.
    discard_other_scans(workspace, scans)
    write_manifest(run.directory, manifest)
    workspace.publish(run.build)
    return manifest


def _previous_encoders(
    earlier: PreparedManifest | None, output: Path, features: FeatureSchema
) -> dict[str, SideEncoder]:
    """Loads the encoders of the earlier directory, so that rows never move.

    There are none where its features are others.
    """
    if earlier is None or earlier.schema_fingerprint != features.fingerprint():
        return {}
    prepared = Prepared(output)
    return {
        "item": prepared.item_encoder,
        "query": prepared.query_encoder,
        "context": prepared.context_encoder,
    }


def _print_summary(console: Console, manifest: PreparedManifest, seconds: float) -> None:
    counts = manifest.counts
    gone = {reason: n for reason, n in counts.rejected.items() if reason.endswith(f": {FORGOTTEN}")}
    kept = {reason: n for reason, n in counts.rejected.items() if reason not in gone}
    if kept:
        print_line(console, f"put aside in rejected/: {by_reason(kept)}")
    if gone:
        print_line(console, f"dropped: {by_reason(gone)}")
    queries = plural_of(word_for(manifest.data, manifest.features))
    print_line(
        console,
        f"{counts.train:,} training, {counts.validation:,} validation, "
        f"{counts.test:,} test examples; {counts.items:,} items, {counts.queries:,} {queries}; "
        f"{sum(counts.rejected.values()):,} rows rejected ({seconds:.1f} s)",
    )


def _print_rejected_files(console: Console, manifest: PreparedManifest) -> None:
    files = manifest.rejected_files
    if files:
        total = len(files) + len(manifest.sources["events"])
        print_line(console, f"put aside: {len(files):,} of {total:,} files of the events")
        for file, reason in files.items():
            print_line(console, f"put aside: {file} {reason}")
