"""New files of the events beside those that an earlier run has read."""

from pipelines.logs.left_out import LEFT_OUT
from pipelines.logs.listing import Listing
from pipelines.logs.tables import file_marks, mark_of
from pipelines.prepare.cleaning.cleaning import FUTURE
from pipelines.prepare.job import Job
from pipelines.prepare.scan import Scans
from pipelines.quality.news import Part, require_usual


def require_usual_files(job: Job, scans: Scans) -> None:
    """Compares new files of the events with those that an earlier run has read."""
    if job.known is None:
        return
    source = job.sources.events
    marks = file_marks({"events": Listing(source.files)})["events"]
    parts = []
    for task, scanned in zip(scans.tasks, scans.scanned, strict=True):
        rejected = scanned.rejected
        faulty = sum(n for reason, n in rejected.items() if reason not in (FUTURE, *LEFT_OUT))
        part = Part(
            task.piece.file,
            mark_of(task.piece),
            scanned.kept + faulty,
            faulty,
            scanned.first,
            scanned.last,
            scanned.summary,
        )
        parts.append(part)
    require_usual(parts, marks, job.known, job.data.columns.query_id, job.data.quality)
