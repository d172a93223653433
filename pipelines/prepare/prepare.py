"""The `prepare` stage: a Parquet log to the prepared directory, on Ray Data."""

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from feature_store.core.errors import UserError
from feature_store.core.manifests import fingerprint, read_manifest, write_manifest
from feature_store.core.times import as_utc
from feature_store.encoding.encoder import SideEncoder
from feature_store.forgotten import Forgotten
from feature_store.schema import FeatureSchema
from pipelines.executor import Executor
from pipelines.logs.tables import Sources, open_sources, source_state
from pipelines.prepare import catalogue_ids as catalogue_steps
from pipelines.prepare import event_steps
from pipelines.prepare import queries as query_steps
from pipelines.prepare import statistics as statistics_steps
from pipelines.prepare.cleaning import FORGOTTEN, LEFT_OUT
from pipelines.prepare.job import Job, Progress, Run, print_line
from pipelines.prepare.workspace import Workspace
from pipelines.prepared.reader import Counts, Prepared, PreparedManifest
from pipelines.quality.quality import read_quality
from pipelines.settings import DataConfig

# Of what the stage makes: raise it when the same log and configuration give other content.
_VERSION = 4


def prepare(
    data: DataConfig,
    features: FeatureSchema,
    output: Path,
    *,
    executor: Executor,
    as_of: datetime | None = None,
    forgotten: Forgotten | None = None,
    console: Console | None = None,
) -> PreparedManifest:
    """Makes the prepared directory, or returns at once where exactly that is already there.

    What it holds is a function of the log's rows and the configuration alone, not of how the rows
    lie in files; and of the earlier directory at `output`, whose vocabularies are appended to where
    it is of the same features. Events may be more than memory holds: they are shuffled through
    files in `<output>.work`, which all of Ray's machines must see. The catalogues, and the items of
    each query, are held in memory.

    A call that was killed is gone on with by the next one: what its tasks had finished is used.
    Files of events that were read by an earlier call are not read again; what the examples are
    made of is kept in `<output>.work`, see `pipelines.workspace`.

    Args:
        data: Where the log is, and how it becomes examples.
        features: Of items, queries and events.
        output: The directory; an earlier one is replaced when all is done, and kept on failure.
        executor: Engine that runs the tasks; the result does not depend on it.
        as_of: Later events are rejected; none means now. No time zone means UTC.
        forgotten: Ids whose rows are dropped without a trace; the rows of their embeddings stay
            free.
        console: For progress.

    Returns:
        The manifest; see `pipelines.prepared` for what else the directory holds.

    Raises:
        UserError: The log is missing, corrupt or not what the configuration says, or nothing in it
            can be trained on, or another process is preparing the same directory.
    """
    console = console or Console()
    forgotten = forgotten or Forgotten()
    started = time.monotonic()
    identity = _fingerprint(data, features, as_of, forgotten)
    workspace = Workspace(output)
    done = _up_to_date(output, identity, console)
    if done is not None:
        workspace.tidy_up()
        return done
    sources = open_sources(data, features)
    with workspace.locked():
        done = _up_to_date(output, identity, console)  # It may have been all but finished.
        if done is not None:
            return done
        earlier = read_manifest(output, PreparedManifest)
        moment = as_utc(as_of) if as_of is not None else datetime.now(UTC)
        with Progress(console) as progress:
            job = Job(data, features, sources, moment, forgotten, progress, executor)
            manifest = _run(job, workspace, identity, earlier)
    _print_summary(console, manifest.counts, time.monotonic() - started)
    return manifest


def _up_to_date(output: Path, identity: str, console: Console) -> PreparedManifest | None:
    found = read_manifest(output, PreparedManifest)
    if found is None or found.fingerprint != identity:
        return None
    print_line(console, f"{output} is up to date")
    return found


def _run(
    job: Job, workspace: Workspace, identity: str, earlier: PreparedManifest | None
) -> PreparedManifest:
    """The steps, in order."""
    scans = event_steps.scan_events(job, workspace)
    contents = [scanned.content for scanned in scans.scanned]
    inputs = fingerprint([identity, earlier.fingerprint if earlier else None, contents])
    run = Run(job, workspace.build(inputs))
    previous = _previous_encoders(earlier, workspace.output, job.features)
    items = catalogue_steps.read_catalogue(run, "item")
    queries = catalogue_steps.read_catalogue(run, "query")
    items = catalogue_steps.complete_catalogue(items, scans.tasks)
    queries = catalogue_steps.complete_catalogue(queries, scans.tasks)
    item_ids, of_items = catalogue_steps.encode_catalogue(run, items, previous.get("item"))
    query_ids, of_queries = catalogue_steps.encode_catalogue(run, queries, previous.get("query"))
    query_steps.fit_context(run, scans.tasks, previous)
    built = event_steps.build_examples(run, scans, item_ids, query_ids)
    rejected = event_steps.keep_rejected(run, [items, queries], scans, built)
    _require_training(job.sources, int(built.counts[0].sum()), rejected)
    _require_quality(job, int(built.counts.sum()), rejected)
    event_steps.merge_examples(run, built)
    event_steps.merge_sequences(run, built)
    query_steps.write_query_state(run, len(query_ids))
    in_training = statistics_steps.write_item_frequency(run, item_ids)
    statistics_steps.write_mutual_information(run)
    train, validation, test = (int(n) for n in built.counts.sum(axis=1))
    has_time = job.data.columns.timestamp is not None
    first, last = scans.moments()
    manifest = PreparedManifest(
        fingerprint=identity,
        schema_fingerprint=job.features.fingerprint(),
        data=job.data,
        features=job.features,
        sources=job.sources.files(),
        as_of=job.as_of.isoformat(),
        first_event=first.isoformat() if has_time else None,
        last_event=last.isoformat() if has_time else None,
        counts=Counts(
            events_read=job.sources.events.rows,
            train=train,
            validation=validation,
            test=test,
            items=len(item_ids),
            queries=len(query_ids),
            items_in_training=in_training,
            rejected=rejected,
        ),
    )
    summaries = {"events": scans.summary(), "items": of_items, "queries": of_queries}
    before = read_quality(workspace.output) if earlier is not None else None
    statistics_steps.write_quality_report(run, manifest, summaries, before)
    # Before the manifest makes the run a finished one, for they may hold what is forgotten.
    event_steps.discard_other_scans(workspace, scans)
    write_manifest(run.directory, manifest)
    workspace.publish(run.build)
    return manifest


def _fingerprint(
    data: DataConfig, features: FeatureSchema, as_of: datetime | None, forgotten: Forgotten
) -> str:
    return fingerprint(
        {
            "version": _VERSION,
            "data": data.model_dump(mode="json"),
            "features": features.model_dump(mode="json"),
            "sources": source_state(data),
            "as_of": as_utc(as_of).isoformat() if as_of is not None else None,
            "forgotten": forgotten.fingerprint,
        }
    )


def _previous_encoders(
    earlier: PreparedManifest | None, output: Path, features: FeatureSchema
) -> dict[str, SideEncoder]:
    """Of the earlier directory, so that rows never move; none where its features are others."""
    if earlier is None or earlier.schema_fingerprint != features.fingerprint():
        return {}
    prepared = Prepared(output)
    return {
        "item": prepared.item_encoder,
        "query": prepared.query_encoder,
        "context": prepared.context_encoder,
    }


def _require_training(sources: Sources, examples: int, rejected: dict[str, int]) -> None:
    if examples:
        return
    raise UserError(
        f"no training example is left of {sources.events.rows:,} events "
        f"(rejected rows: {_by_reason(rejected)}); mend the log, or change data.columns, "
        "data.min_rating or data.split."
    )


def _require_quality(job: Job, events: int, rejected: dict[str, int]) -> None:
    """The log is what `data.quality` asks for."""
    quality, read = job.data.quality, job.sources.events.rows
    if events < quality.min_events:
        raise UserError(
            f"{events:,} of {read:,} events are left, expected at least {quality.min_events:,}; "
            "mend the log, or lower data.quality.min_events."
        )
    left_out = {f"events: {reason}" for reason in LEFT_OUT}
    faulty = {
        reason: n
        for reason, n in rejected.items()
        if reason.startswith("events: ") and reason not in left_out
    }
    if sum(faulty.values()) > quality.max_rejected_fraction * read:
        raise UserError(
            f"{sum(faulty.values()) / read:.2%} of {read:,} events were rejected "
            f"({_by_reason(faulty)}), expected at most {quality.max_rejected_fraction:.2%}; mend "
            "the log, or raise data.quality.max_rejected_fraction."
        )


def _by_reason(rejected: dict[str, int]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in Counter(rejected).most_common()) or "none"


def _print_summary(console: Console, counts: Counts, seconds: float) -> None:
    gone = {reason: n for reason, n in counts.rejected.items() if reason.endswith(f": {FORGOTTEN}")}
    kept = {reason: n for reason, n in counts.rejected.items() if reason not in gone}
    if kept:
        print_line(console, f"put aside in rejected/: {_by_reason(kept)}")
    if gone:
        print_line(console, f"dropped: {_by_reason(gone)}")
    print_line(
        console,
        f"{counts.train:,} training, {counts.validation:,} validation, "
        f"{counts.test:,} test examples; {counts.items:,} items, {counts.queries:,} queries; "
        f"{sum(counts.rejected.values()):,} rows rejected ({seconds:.1f} s)",
    )
