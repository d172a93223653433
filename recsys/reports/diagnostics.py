"""What the diagnostics of a training look like, for its run and for the evaluation's report."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from feature_store.core.files import write_json, write_text
from pipelines.prepared.reader import Prepared
from pipelines.reports.charts import heat_table, line_chart, simple_bars
from pipelines.reports.page import render_page
from recsys.config.config import Config
from recsys.ssl.masking import build_masking
from recsys.training.diagnostics import PREFIX, MaskingCounts, masking_counts

DIAGNOSTICS = "diagnostics"

Curves = Sequence[dict[str, float | None]]

TITLES = {
    "effective_rank": "Effective rank of the item vectors",
    "uniformity.items": "Uniformity of the item vectors",
    "alignment.positives": "Alignment of queries and their items",
    "uniformity.views": "Uniformity of the views",
    "view_similarity": "Cosine of an item's two views",
    "alignment.views": "Alignment of an item's two views",
    "gradient_cosine": "Cosine of the losses' gradients",
    "gradient_ratio": "Length of the gradients, SSL over main",
}
_NOTE = (
    "At each validation, of the catalogue and of one batch, whose masks are other ones each time. "
    "The effective rank falls where vectors collapse onto few directions. Uniformity is the lower, "
    "the more evenly vectors cover the sphere; alignment is the lower, the closer pairs are. Where "
    "the gradients of the two losses have a negative cosine, they work against each other in the "
    "item tower."
)
_MASKS_NOTE = (
    "Of each item feature, over all steps; the table tells in which share of the steps view A "
    "hides both features, and on the diagonal the feature of its row."
)


def write_diagnostics(
    directory: Path, lines: Curves, prepared: Prepared, config: Config, best_step: int
) -> None:
    """Writes a page of all plots, and what its masks were counted from.

    Args:
        directory: To write to.
        lines: Of the training's metrics.
        prepared: What was trained on.
        config: As trained.
        best_step: Of the checkpoint that was kept.
    """
    directory.mkdir()
    page = render_page(
        title="Diagnostics of a training",
        subtitle=f"Self-supervision: {config.ssl.method}; best at step {best_step:,}",
        warnings=[],
        sections=diagnostics_sections(lines, prepared, config, best_step),
        style=(files("recsys.reports") / "report.css").read_text(encoding="utf-8"),
    )
    write_text(directory / "diagnostics.html", page)
    counts = _counts(lines, prepared, config)
    if counts is not None:
        document = {
            "features": _names(config),
            "seeds": None if counts.seeds is None else counts.seeds.tolist(),
            "hidden_together_in_view_a": counts.together.tolist(),
        }
        write_json(directory / "masks.json", document)


def diagnostics_sections(
    lines: Curves, prepared: Prepared, config: Config, best_step: int
) -> list[tuple[str, str, str]]:
    """Sections of a page, for `render_page`: the curves, and where features are masked, how often.

    Args:
        lines: Of the training's metrics.
        prepared: What was trained on.
        config: As trained.
        best_step: Of the checkpoint that was kept.
    """
    charts = []
    for name, title in TITLES.items():
        points = [
            (step, value)
            for line in lines
            if (step := line["step"]) is not None
            and (value := line.get(f"{PREFIX}{name}")) is not None
        ]
        if points:
            charts.append(line_chart(title, points, best_step))
    sections = []
    if charts:
        curves = f'<p class="soft">{escape(_NOTE)}</p><div class="two">{"".join(charts)}</div>'
        sections.append(("vectors", "Vectors and gradients", curves))
    counts = _counts(lines, prepared, config)
    if counts is not None:
        sections.append(("masks", "Masks", _masks(counts, _names(config))))
    return sections


def _masks(counts: MaskingCounts, names: list[str]) -> str:
    hidden = dict(zip(names, counts.together.diagonal().tolist(), strict=True))
    bars = simple_bars("Steps in which view A hides it", hidden)
    if counts.seeds is not None:
        seeds = dict(zip(names, counts.seeds.tolist(), strict=True))
        bars = simple_bars("Steps in which it is the seed", seeds) + bars
    shares = (counts.together / max(1, counts.steps)).tolist()
    table = heat_table("Features hidden together", names, shares, shares)
    return (
        f'<p class="soft">{escape(_MASKS_NOTE)}</p><div class="two">{bars}</div>'
        f"<h3>Hidden together</h3>{table}"
    )


def _counts(lines: Curves, prepared: Prepared, config: Config) -> MaskingCounts | None:
    information, seed = prepared.mutual_information, config.training.seed
    masking = build_masking(config.ssl, config.features.item, information, seed)
    steps = int(max((line["step"] or 0 for line in lines), default=0))
    return None if masking is None else masking_counts(masking, 0, steps)


def _names(config: Config) -> list[str]:
    return [feature.name for feature in config.features.item]
