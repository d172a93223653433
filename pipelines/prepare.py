"""The `prepare` stage: a Parquet log to the prepared directory, on Ray Data."""

import shutil
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from feature_store.encoding import SideEncoder
from feature_store.errors import UserError
from feature_store.schema import FeatureSchema
from feature_store.storage import (
    directory_written_atomically,
    fingerprint,
    read_manifest,
    write_manifest,
)
from pipelines import steps
from pipelines.cleaning import LEFT_OUT
from pipelines.job import Job, Progress, print_line
from pipelines.prepared import Counts, Prepared, PreparedManifest
from pipelines.settings import DataConfig
from pipelines.sources import Sources, open_sources, source_state
from pipelines.timestamps import as_utc, moment_of

# Of what the stage makes: raise it when the same log and configuration give other content.
_VERSION = 1


def prepare(
    data: DataConfig,
    features: FeatureSchema,
    output: Path,
    *,
    as_of: datetime | None = None,
    console: Console | None = None,
) -> PreparedManifest:
    """Makes the prepared directory, or returns at once where exactly that is already there.

    What it holds is a function of the log's rows and the configuration alone, not of how the rows
    lie in files; and of the earlier directory at `output`, whose vocabularies are appended to where
    it is of the same features. Events may be more than memory holds: they are shuffled through
    files in `output`, which all of Ray's machines must see. The catalogues, and the items of each
    query, are held in memory.

    Args:
        data: Where the log is, and how it becomes examples.
        features: Of items and queries.
        output: The directory; an earlier one is replaced when all is done, and kept on failure.
        as_of: Later events are rejected; none means now. No time zone means UTC.
        console: For progress.

    Returns:
        The manifest; see `pipelines.prepared` for what else the directory holds.

    Raises:
        UserError: The log is missing, corrupt or not what the configuration says, or nothing in it
            can be trained on.
    """
    console = console or Console()
    started = time.monotonic()
    identity = _fingerprint(data, features, as_of)
    earlier = read_manifest(output, PreparedManifest)
    if earlier is not None and earlier.fingerprint == identity:
        print_line(console, f"{output} is up to date")
        return earlier
    sources = open_sources(data, features)
    moment = as_utc(as_of) if as_of is not None else datetime.now(UTC)
    with (
        directory_written_atomically(output.absolute()) as directory,
        Progress(console) as progress,
    ):
        job = Job(data, features, sources, moment, directory, progress)
        manifest = _run(job, identity, _previous_encoders(earlier, output, features))
        shutil.rmtree(job.scratch)
        write_manifest(directory, manifest)
    _print_summary(console, manifest.counts, time.monotonic() - started)
    return manifest


def _run(job: Job, identity: str, previous: dict[str, SideEncoder]) -> PreparedManifest:
    """The steps, in order."""
    steps.start_ray(job)
    items = steps.read_catalogue(job, "item")
    queries = steps.read_catalogue(job, "query")
    scan = steps.scan_events(job, items)
    items = steps.complete_catalogue(job, items)
    queries = steps.complete_catalogue(job, queries)
    item_ids = steps.encode_catalogue(job, items, previous.get("item"))
    query_ids = steps.encode_catalogue(job, queries, previous.get("query"))
    built = steps.build_examples(job, scan)
    rejected = steps.keep_rejected(job, [items, queries], scan, built)
    _require_training(job.sources, int(built.counts[0].sum()), rejected)
    _require_quality(job, int(built.counts.sum()), rejected)
    steps.merge_examples(job, built)
    steps.write_query_state(job, len(query_ids))
    in_training = steps.write_item_frequency(job, item_ids)
    steps.write_mutual_information(job)
    train, validation, test = (int(n) for n in built.counts.sum(axis=1))
    has_time = job.data.columns.timestamp is not None
    return PreparedManifest(
        fingerprint=identity,
        schema_fingerprint=job.features.fingerprint(),
        data=job.data,
        features=job.features,
        sources=job.sources.files(),
        as_of=job.as_of.isoformat(),
        first_event=moment_of(scan.first).isoformat() if has_time else None,
        last_event=moment_of(scan.last).isoformat() if has_time else None,
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


def _fingerprint(data: DataConfig, features: FeatureSchema, as_of: datetime | None) -> str:
    return fingerprint(
        {
            "version": _VERSION,
            "data": data.model_dump(mode="json"),
            "features": features.model_dump(mode="json"),
            "sources": source_state(data),
            "as_of": as_utc(as_of).isoformat() if as_of is not None else None,
        }
    )


def _previous_encoders(
    earlier: PreparedManifest | None, output: Path, features: FeatureSchema
) -> dict[str, SideEncoder]:
    """Of the earlier directory, so that rows never move; none where its features are others."""
    if earlier is None or earlier.schema_fingerprint != features.fingerprint():
        return {}
    prepared = Prepared(output)
    return {"item": prepared.item_encoder, "query": prepared.query_encoder}


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
    if counts.rejected:
        print_line(console, f"put aside in rejected/: {_by_reason(counts.rejected)}")
    print_line(
        console,
        f"{counts.train:,} training, {counts.validation:,} validation, "
        f"{counts.test:,} test examples; {counts.items:,} items, {counts.queries:,} queries; "
        f"{sum(counts.rejected.values()):,} rows rejected ({seconds:.1f} s)",
    )
