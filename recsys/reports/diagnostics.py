"""The page of a training's diagnostics, and the counts of its masks."""

from pathlib import Path

from feature_store.core.files import write_json, write_text
from pipelines.prepared.reader import Prepared
from pipelines.reports.html import render_page
from pipelines.reports.parts import Page
from recsys.config.config import Config
from recsys.reports.run.run_data import Curves, Masks
from recsys.reports.training import diagnostics_sections
from recsys.ssl.masking import build_masking
from recsys.training.diagnostics import masking_counts

DIAGNOSTICS = "diagnostics"


def write_diagnostics(
    directory: Path, lines: Curves, prepared: Prepared, config: Config, best_step: int
) -> None:
    """Writes `diagnostics.html`, and for a method with masks `masks.json`.

    Args:
        directory: Directory to create.
        lines: Lines of the training's metrics.
        prepared: Data that the model was trained on.
        config: Configuration as trained.
        best_step: Step of the checkpoint that was kept.
    """
    directory.mkdir()
    masks = masks_of(lines, prepared, config)
    page = Page(
        title="Diagnostics of a training",
        lead=f"Self-supervision: {config.ssl.method}; best at step {best_step:,}",
        sections=diagnostics_sections(lines, masks, best_step),
    )
    write_text(directory / "diagnostics.html", render_page(page))
    if masks is not None:
        write_json(directory / "masks.json", masks.model_dump())


def masks_of(lines: Curves, prepared: Prepared, config: Config) -> Masks | None:
    """Returns how often features were masked; None for a method without masks.

    Args:
        lines: Lines of the training's metrics.
        prepared: Data that the model was trained on.
        config: Configuration as trained.
    """
    masking = build_masking(
        config.ssl, config.features.item, prepared.mutual_information, config.training.seed
    )
    if masking is None:
        return None
    steps = int(max((line["step"] or 0 for line in lines), default=0))
    counts = masking_counts(masking, 0, steps)
    return Masks(
        features=[feature.name for feature in config.features.item],
        seeds=None if counts.seeds is None else counts.seeds.tolist(),
        hidden_together_in_view_a=counts.together.tolist(),
    )
