"""Writing of the quality figures and of their page."""

from pathlib import Path

from feature_store.core.files import write_json, write_text
from pipelines.quality.quality import Quality


def write_quality(directory: Path, quality: Quality) -> None:
    """Writes `statistics/quality.json` and `statistics/quality.html`."""
    from pipelines.quality.page import quality_page
    from pipelines.reports.html import render_page

    write_json(directory / "statistics" / "quality.json", quality.model_dump(mode="json"))
    write_text(directory / "statistics" / "quality.html", render_page(quality_page(quality)))
