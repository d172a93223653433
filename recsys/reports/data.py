"""The data that a run was trained on, and how they differ from the run before."""

from datetime import UTC, datetime

from pipelines.prepared.manifest import MutualInformation, PreparedManifest
from pipelines.quality.page import quality_sections, quality_warnings
from pipelines.reports.parts import Chart, Facts, Part, Section, Table, Text
from pipelines.reports.plots import Heat
from recsys.reports.run.run_data import RunData

_TITLE = "Data and drift"


def data_section(run: RunData) -> Section:
    """Returns rows, drift, activity, popularity, coverage and columns."""
    quality = run.quality
    if quality is None:
        return Section("data", _TITLE, [Text("This run kept no report of its data.")])
    parts: list[Part] = list(quality_warnings(quality))
    for section in quality_sections(quality):
        parts += section.parts
    return Section("data", _TITLE, parts)


def prepared_section(manifest: PreparedManifest, run: RunData) -> Section:
    """Returns the counts of the preparation, and without the columns what `data_section` does.

    Args:
        manifest: Manifest of the prepared data.
        run: Run that was trained on them.
    """
    counts = manifest.counts
    figures = {
        "Events read": counts.events_read,
        "Training events": counts.train,
        "Validation events": counts.validation,
        "Test events": counts.test,
        "Queries": counts.queries,
        "Items": counts.items,
        "Items in training": counts.items_in_training,
        "Rows put aside": sum(counts.rejected.values()),
    }
    files = ", ".join(f"{len(paths):,} of {table}" for table, paths in manifest.sources.items())
    facts = [
        *_window(manifest.first_event, manifest.last_event),
        ("Prepared as of", _minute(manifest.as_of)),
        ("Files", files),
    ]
    parts: list[Part] = [
        Facts([(name, f"{value:,}") for name, value in figures.items()], is_large=True),
        Facts(facts),
    ]
    if counts.rejected:
        rows = sorted(counts.rejected.items(), key=lambda pair: -pair[1])
        parts.append(
            Table(
                "Rows put aside",
                ["Table and reason", "Rows"],
                [[reason, f"{count:,}"] for reason, count in rows],
                note="Faulty rows, and those that the configuration leaves out, in rejected/.",
            )
        )
    if run.quality is not None:
        parts += quality_warnings(run.quality)
        for section in quality_sections(run.quality):
            if section.key in ("drift", "time", "popularity", "coverage"):
                parts += section.parts
        note = "`statistics/quality.html` of the prepared data has the columns, one by one."
        parts.append(Text(note))
    return Section("data", _TITLE, parts)


def features_section(information: MutualInformation) -> Section:
    """Returns how much the item features tell of each other."""
    matrices = information.items
    texts = [[f"{value:.2f}" for value in row] for row in matrices.raw]
    return Section(
        "features",
        "Features",
        [
            Chart(
                "Mutual information between item features",
                "In nats; on the diagonal the entropy of a feature. The shade is the normalised "
                "value, which divides by the smaller entropy: features of one dark block tell the "
                "same, and are masked together by correlated feature masking.",
                Heat(
                    information.features,
                    information.features,
                    matrices.normalised,
                    texts,
                    largest=1.0,
                ),
                is_wide=True,
            )
        ],
    )


def _window(first: str | None, last: str | None) -> list[tuple[str, str]]:
    """Returns the time of the events, of a log that has one."""
    times = (("Events from", first), ("Events to", last))
    return [(name, _minute(time)) for name, time in times if time is not None]


def _minute(time: str) -> str:
    """Returns `2024-05-06 07:08 UTC`."""
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
