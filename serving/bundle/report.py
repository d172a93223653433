"""The page of an export: what was measured before the bundle took its place."""

from dataclasses import replace

from pipelines.reports.opening import Check, Checks, Judged, Verdict
from pipelines.reports.parts import Chart, Page, Part, Row, Section, Table
from pipelines.reports.plots import Axis, Graph, Mark, Series
from recsys.comparison.report import comparison_verdict
from recsys.comparison.result import Comparison
from recsys.evaluation.results import METHOD_TITLES, TOWERS, EvaluationResult
from recsys.fusion.weights import OF_RARE
from recsys.reports.verdict import baseline_verdict
from serving.bundle.manifest import BundleManifest, FusionReport
from serving.index.report import IndexReport, SearchPoint

REPORT = "report.html"
_SERVE = "Serve it: `recsys serve`, or `recsys query` for a look at its answers."

_PARTS = {
    **METHOD_TITLES,
    TOWERS: "towers",
    "trend": "recent popularity",
    "dial": "popularity that is taken off",
}


def bundle_page(
    manifest: BundleManifest,
    least_recall: float,
    result: EvaluationResult | None = None,
    comparison: Comparison | None = None,
) -> Page:
    """Returns the page.

    Args:
        manifest: Manifest of the bundle.
        least_recall: Recall that the index had to reach.
        result: Evaluation of the model; None where it was not evaluated.
        comparison: Comparison of the champion with the model; None where there was none.
    """
    window = manifest.data_window
    return Page(
        title="Bundle",
        query="query" if result is None else result.query,
        opening=[
            *_verdicts(manifest, result, comparison),
            Checks(_checks(manifest, least_recall)),
        ],
        lead=f"{manifest.items:,} items and {manifest.queries:,} queries; model "
        f"{manifest.fingerprint}, MLflow run {manifest.mlflow_run_id}, events from "
        f"{_minute(window.first_event)} to {_minute(window.last_event)}{_of_refit(manifest)}",
        sections=[
            Section("index", "Index", _index(manifest.index, least_recall)),
            *([] if manifest.fusion is None else [_fusion(manifest.fusion)]),
            Section("gate", "Gate", [_gate(manifest)]),
        ],
    )


def _verdicts(
    manifest: BundleManifest, result: EvaluationResult | None, comparison: Comparison | None
) -> list[Verdict]:
    """Returns the verdicts against the champion and the best baseline, as far as they are known."""
    gate, verdicts = manifest.gate, []
    if comparison is not None:
        verdicts.append(comparison_verdict(comparison, "this model", "the champion"))
    elif gate.champion is not None:
        groups = [Judged(name, "no different", f"{c:+.1%}") for name, c in gate.changes.items()]
        sentence = f"The gate found the model not worse than the champion of run {gate.champion}."
        verdicts.append(Verdict("no different", sentence, groups, word="not worse"))
    if result is not None:
        verdict = baseline_verdict(result)
        # It is exported already.
        is_to_serve = verdict.mark == "better" and comparison is None
        verdicts.append(replace(verdict, todo=_SERVE) if is_to_serve else verdict)
    if not verdicts:
        sentence = "Neither a champion nor an evaluation was there to hold the model against."
        verdicts = [Verdict("cannot tell", sentence, todo="Run `recsys evaluate`, then export.")]
    return verdicts


def _checks(manifest: BundleManifest, least: float) -> list[Check]:
    """Returns the checks of the index, its slices, the candidates and the exported towers."""
    chosen, gate = manifest.index.chosen, manifest.gate
    checks = [
        Check(
            "Index",
            "passes" if chosen.recall >= least else "fails",
            f"Finds {chosen.recall:.2%} of the exact 100 nearest items; at least {least:.2%} is "
            "asked for.",
            "index",
        )
    ]
    if gate.recall_by_slice:
        name, recall = min(gate.recall_by_slice.items(), key=lambda pair: pair[1])
        checks.append(
            Check(
                "Index by slice",
                "passes" if recall >= least else "look",
                f"Least in {name}: {recall:.2%} of the nearest items of that slice.",
                "gate",
            )
        )
    fusion = manifest.fusion
    if fusion is not None and fusion.recall is not None and fusion.exact_recall is not None:
        text = f"Recall@50 {fusion.recall:.4f}, and {fusion.exact_recall:.4f} of exact ranking."
        checks.append(Check("Candidates", "look" if fusion.warning else "passes", text, "fusion"))
    largest = max(gate.item_difference, gate.query_difference)
    text = f"Exported and trained vectors differ by at most {largest:.2g}."
    return [*checks, Check("Towers", "passes", text, "gate")]


def _of_refit(manifest: BundleManifest) -> str:
    refit = manifest.refit
    if refit is None:
        return ""
    return (
        f". This model was trained on all {refit.events:,} events, for as many steps "
        f"({refit.steps:,}) as the one that was evaluated, which was trained on "
        f"{refit.evaluated_events:,} of them"
    )


def _index(report: IndexReport, least: float) -> list[Part]:
    rows = [
        Row(
            [
                _name(point),
                f"{point.recall:.4f}",
                f"{point.median_us:,.0f}",
                f"{point.p99_us:,.0f}",
            ],
            is_strong=point == report.chosen,
        )
        for point in report.curve
    ]
    table = Table(
        "Trade-off",
        ["Setting", "Recall@100", "Median µs", "99 % within µs"],
        rows,
        note=f"Kind {report.kind}, vectors as {report.vectors}, "
        f"{report.memory_bytes / 2**20:,.1f} MiB. Exact search over the stored vectors finds "
        f"{report.stored_recall:.4f} of the exact 100 nearest items. Of these settings, the "
        f"fastest that finds at least {least} was taken (bold); latency is of one search for 100 "
        "items on one thread.",
    )
    return [table, _trade_off(report, least)] if len(report.curve) > 1 else [table]


def _trade_off(report: IndexReport, least: float) -> Chart:
    def series(name: str, points: list[SearchPoint]) -> Series:
        labels = [f"{_name(p)}: {p.recall:.4f}, {p.median_us:,.0f} µs" for p in points]
        return Series(name, [(p.median_us, p.recall) for p in points], "points", labels)

    chosen = report.chosen
    return Chart(
        "Recall@100 over median latency",
        f"{_name(chosen)} reaches {chosen.recall:.4f} in {chosen.median_us:,.0f} µs. The dashed "
        f"line is the least recall that is allowed, {least}: the leftmost point above it is taken.",
        Graph(
            [
                series("measured", [point for point in report.curve if point != chosen]),
                series("taken", [chosen]),
            ],
            Axis("median µs"),
            Axis("Recall@100"),
            [Mark("y", least, f"at least {least}")],
        ),
    )


def _fusion(fusion: FusionReport) -> Section:
    weights = fusion.weights
    parts = weights.by_part(list(weights.used()))
    rows = [[_part_title(name), f"{weight:g}"] for name, weight in parts.items() if weight]
    table = Table("Fused ranking", ["Part of a score", "Weight"], rows, _candidates(fusion))
    return Section("fusion", "Fused ranking", [table])


def _candidates(fusion: FusionReport) -> str:
    if fusion.exact_recall is None or fusion.recall is None:
        return "All items are scored." if not fusion.candidates else ""
    sentence = (
        f"Candidates are what channels name, and {fusion.candidates} more of the index's nearest "
        f"items than are wanted: recall@50 of validation queries is {fusion.recall:.4f}, and "
        f"{fusion.exact_recall:.4f} where all items are scored."
    )
    return f"{sentence} Warning: {fusion.warning}" if fusion.warning else sentence


def _gate(manifest: BundleManifest) -> Table:
    gate = manifest.gate
    values = {
        f"Recall@100 of the index, {name} items": value
        for name, value in gate.recall_by_slice.items()
    }
    changes = {
        f"Recall@50 against the champion's, {name}": value for name, value in gate.changes.items()
    }
    note = (
        f"Compared with the champion of run {gate.champion}."
        if gate.champion is not None
        else "It was not compared with a champion."
    )
    differences = {
        "Largest difference of an item's vector, exported against trained": gate.item_difference,
        "The same of a query's vector": gate.query_difference,
    }
    rows = [[name, f"{value:.1e}"] for name, value in differences.items()]
    rows += [[name, f"{value:.2%}"] for name, value in values.items()]
    rows += [[name, f"{value:+.2%}"] for name, value in changes.items()]
    return Table("Gate", ["Measured", "Value"], rows, note)


def _part_title(part: str) -> str:
    name = part.removesuffix(OF_RARE)
    return _PARTS.get(name, name) + part.removeprefix(name)


def _minute(time: str | None) -> str:
    """Returns `2024-05-06 07:08`."""
    return "no time" if time is None else time[:16].replace("T", " ")


def _name(point: SearchPoint) -> str:
    return ", ".join(f"{name} {value}" for name, value in point.effort.items()) or "exact"
