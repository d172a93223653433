"""Identity of a prepared directory: fingerprints of what it is made of, and the manifest."""

from datetime import datetime

from feature_store.core.manifests import fingerprint
from feature_store.core.times import as_utc
from feature_store.forgotten import Forgotten
from feature_store.schema import FeatureSchema
from pipelines.logs.tables import Files, source_state
from pipelines.prepare.cleaning.file_names import without_forgotten
from pipelines.prepare.job import Job
from pipelines.prepare.scan import Scans
from pipelines.prepared.manifest import Counts, PreparedManifest
from pipelines.settings import DataConfig

# Version of the content: raise it when the same log and configuration give another one.
_VERSION = 7


def fingerprint_of(
    data: DataConfig,
    features: FeatureSchema,
    files: Files,
    as_of: datetime | None,
    forgotten: Forgotten,
) -> str:
    """Computes the fingerprint of log and configuration, of which a directory is a function.

    Args:
        data: Configuration of the log and of how it becomes examples.
        features: Features of items, queries and events.
        files: Files of the log.
        as_of: Time after which events are rejected; None: now.
        forgotten: Ids whose rows are dropped.
    """
    return fingerprint(
        {
            "version": _VERSION,
            "data": data.model_dump(mode="json"),
            "features": features.model_dump(mode="json"),
            "sources": source_state(files),
            "as_of": as_utc(as_of).isoformat() if as_of is not None else None,
            "forgotten": forgotten.fingerprint,
        }
    )


def inputs_of(identity: str, earlier: PreparedManifest | None, scans: Scans) -> str:
    """Identifies what the steps after the scan depend on; a run of other inputs cannot resume."""
    contents = [scanned.content for scanned in scans.scanned]
    return fingerprint([identity, earlier.fingerprint if earlier else None, contents])


def manifest_of(job: Job, identity: str, scans: Scans, counts: Counts) -> PreparedManifest:
    """Returns the manifest of a directory whose other files are written."""
    has_time = job.data.columns.timestamp is not None
    first, last = scans.moments()
    sources, rejected = job.sources.files(), job.sources.events.rejected
    names = without_forgotten(rejected, job.forgotten)
    return PreparedManifest(
        fingerprint=identity,
        schema_fingerprint=job.features.fingerprint(),
        data=job.data,
        features=job.features,
        sources={k: without_forgotten(files, job.forgotten) for k, files in sources.items()},
        rejected_files=dict(zip(names, rejected.values(), strict=True)),
        passed_over=job.passed_over,
        as_of=job.as_of.isoformat(),
        first_event=first.isoformat() if has_time else None,
        last_event=last.isoformat() if has_time else None,
        counts=counts,
    )
