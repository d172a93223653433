"""The report of an export, for people: what was measured before the bundle took its place."""

from collections.abc import Mapping
from html import escape
from importlib.resources import files

from pipelines.reports.page import render_page
from pipelines.reports.parts import CLASS_OF_MODEL, table
from serving.bundle.manifest import BundleManifest
from serving.index.report import IndexReport, SearchPoint

REPORT = "report.html"

# The plot of the trade-off, in SVG units.
_WIDTH, _HEIGHT, _LEFT, _MARGIN = 480, 220, 56, 26


def render_bundle_report(manifest: BundleManifest, least_recall: float) -> str:
    """One page of HTML.

    Args:
        manifest: Of the bundle.
        least_recall: That the index had to reach.
    """
    window = manifest.data_window
    return render_page(
        title="Bundle",
        subtitle=f"{manifest.items:,} items and {manifest.queries:,} queries; model "
        f"{manifest.fingerprint}, MLflow run {manifest.mlflow_run_id}, events from "
        f"{window.first_event or 'no time'} to {window.last_event or 'no time'}",
        warnings=[],
        sections=[
            ("index", "Index", _index(manifest.index, least_recall)),
            ("gate", "Gate", _gate(manifest)),
        ],
        style=(files("recsys.reports") / "report.css").read_text(encoding="utf-8"),
    )


def _index(report: IndexReport, least: float) -> str:
    note = (
        f"Kind {report.kind}, vectors as {report.vectors}, {report.memory_bytes / 2**20:,.1f} MiB. "
        f"Exact search over the stored vectors finds {report.stored_recall:.4f} of the exact 100 "
        f"nearest items. Of the settings below, the fastest that finds at least {least} was "
        "taken; latency is of one search for 100 items on one thread."
    )
    rows = [
        f'<tr{_mark(point == report.chosen)}><td class="text">{escape(_name(point))}</td>'
        f"<td>{point.recall:.4f}</td><td>{point.median_us:,.0f}</td>"
        f"<td>{point.p99_us:,.0f}</td></tr>"
        for point in report.curve
    ]
    shown = table(
        "Trade-off", note, ["Setting"], ["Recall@100", "Median µs", "99 % within µs"], rows
    )
    return shown + (_chart(report, least) if len(report.curve) > 1 else "")


def _chart(report: IndexReport, least: float) -> str:
    """Recall over latency."""
    times = [point.median_us for point in report.curve]
    low = min(*(point.recall for point in report.curve), least)
    span = max(times) - min(times) or 1.0

    def place(point: SearchPoint) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - _MARGIN) * (point.median_us - min(times)) / span
        return x, _height(point.recall, low)

    dots = ""
    for point in report.curve:
        x, y = place(point)
        radius = 6 if point == report.chosen else 3
        dots += (
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
            f"<title>{escape(_name(point))}: {point.recall:.4f}, {point.median_us:,.0f} µs</title>"
            "</circle>"
        )
    bound = _height(least, low)
    spoken = (
        f"Recall@100 over latency: {_name(report.chosen)} reaches {report.chosen.recall:.4f} in "
        f"{report.chosen.median_us:,.0f} µs"
    )
    bottom = _HEIGHT - _MARGIN
    return (
        '<figure style="max-width: 32rem"><h3>Recall@100 over median µs</h3>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label="{escape(spoken)}">'
        f'<path class="axis" d="M{_LEFT},{_MARGIN}V{bottom}H{_WIDTH - _MARGIN}"/>'
        f'<path class="best" d="M{_LEFT},{bound:.1f}H{_WIDTH - _MARGIN}"/>{dots}'
        f'<text x="{_LEFT - 6}" y="{_MARGIN + 4}" text-anchor="end">1</text>'
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">{low:.3f}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">{min(times):,.0f} µs</text>'
        f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - 8}" text-anchor="end">{max(times):,.0f}</text>'
        "</svg></figure>"
    )


def _height(recall: float, low: float) -> float:
    share = (recall - low) / (1 - low) if low < 1 else 1.0
    return _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * share


def _gate(manifest: BundleManifest) -> str:
    gate = manifest.gate
    rows = [
        _row(
            "Largest difference of an item's vector, exported against trained", gate.item_difference
        ),
        _row("The same of a query's vector", gate.query_difference),
    ]
    rows += _rows("Recall@100 of the index, items of the {}", gate.recall_by_slice)
    rows += _rows("Recall@50 against the champion's, {}", gate.changes)
    note = (
        f"Compared with the champion of run {gate.champion}."
        if gate.champion is not None
        else "It was not compared with a champion."
    )
    return table("Gate", note, ["Measured"], ["Value"], rows)


def _rows(name: str, values: Mapping[str, float]) -> list[str]:
    return [_row(name.format(key), value) for key, value in values.items()]


def _row(name: str, value: float) -> str:
    return f'<tr><td class="text">{escape(name)}</td><td>{value:.4g}</td></tr>'


def _name(point: SearchPoint) -> str:
    return ", ".join(f"{name} {value}" for name, value in point.effort.items()) or "exact"


def _mark(is_chosen: bool) -> str:
    return CLASS_OF_MODEL if is_chosen else ""
