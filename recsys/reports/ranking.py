"""The weights of the fused ranking, and the trade-off along the popularity dial."""

from collections.abc import Mapping, Sequence

from pipelines.reports.format import number
from pipelines.reports.parts import Chart, Part, Section, Table, Text
from pipelines.reports.plots import Axis, Graph, Mark, Series
from recsys.evaluation.results import METHOD_TITLES, SHOWN, TOWERS, EvaluationResult, TradeOff
from recsys.fusion.weights import OF_RARE
from recsys.reports.run.run_data import RunData

# Recall along the dial.
_RECALL = "recall@50"
_TITLES = {
    **METHOD_TITLES,
    TOWERS: "towers",
    "trend": "recent popularity",
    "dial": "popularity dial",
}


def ranking_section(run: RunData) -> Section:
    """Returns the weights, and the recall of all and of rare items along the dial."""
    result = run.result
    if result is None or not result.weights:
        return Section("ranking", "Ranking", [Text("The towers rank alone.")])
    parts: list[Part] = [Text(_sentence(result), "strong"), _weights(result)]
    if (sentence := result.better_parts()) is not None:
        parts.append(Text(f"{sentence[0].upper()}{sentence[1:]}. The curves show what that costs."))
    return Section("ranking", "Ranking", [*parts, *_curves(result)])


def _sentence(result: EvaluationResult) -> str:
    unused = [_title(name) for name, weight in result.weights.items() if not weight]
    used = f"Of no use on this log, so without weight: {', '.join(unused)}." if unused else ""
    reasons = [f"{_TITLES[name]}: {why}" for name, why in result.left_out.items()]
    missing = f" Not fitted: {'; '.join(reasons)}." if reasons else ""
    return f"The score is a weighted sum, found on validation. {used}{missing}"


def _weights(result: EvaluationResult) -> Table:
    rows = []
    for name, weight in result.weights.items():
        alone = result.methods.get(name)
        figures = [
            number(alone.overall[result.judged_by]) if alone is not None else "",
            number(alone.slices["tail"][result.judged_by]) if alone is not None else "",
        ]
        rows.append([_title(name), f"{weight:g}", *figures])
    return Table(
        "Parts of the score",
        ["Part", "Weight", f"{SHOWN[result.judged_by]} alone", "of tail items"],
        rows,
        note="Channels are scaled to 1 at the query's best item; the towers' part is a cosine.",
    )


def _title(part: str) -> str:
    name = part.removesuffix(OF_RARE)
    return _TITLES[name] + part.removeprefix(name)


def _curves(result: EvaluationResult) -> list[Chart]:
    """Returns the curve of overall against rare items, and the slices along the dial."""
    curves = {split: points for split, points in result.trade_off.items() if points}
    if not curves or result.is_small:
        return []
    slices = next(iter(curves.values()))[0].slices
    rare = next((name for name in ("tail", "cold", "torso") if slices.get(name) is not None), None)
    split = "test" if "test" in curves else next(iter(curves))
    charts = [] if rare is None else [_trade_off(curves, rare, split)]
    return [*charts, _along(split, curves[split], result.weights["dial"])]


def _trade_off(curves: Mapping[str, Sequence[TradeOff]], rare: str, split: str) -> Chart:
    """Returns Recall@50 of a slice over that of all pairs, a curve for each split."""
    series, rows = [], []
    for name, points in curves.items():
        at = [(point.recall[_RECALL], point.slices[rare]) for point in points]
        series.append(Series(name, at, labels=[f"{name}: dial {p.dial:g}" for p in points]))
        rows += [
            [name, f"{p.dial:g}", *(f"{v:.3f}" for v in p.recall.values()), number(p.slices[rare])]
            for p in points
        ]
    first, last = curves[split][0], curves[split][-1]
    return Chart(
        f"What the popularity dial trades: {rare} items against all",
        f"Further up is more of the {rare} items, further right more of all; the dial turns from "
        f"point to point. From dial {first.dial:g} to {last.dial:g}, Recall@50 ({split}) goes from "
        f"{first.recall[_RECALL]:.3f} to {last.recall[_RECALL]:.3f}, and that of {rare} items from "
        f"{number(first.slices[rare])} to {number(last.slices[rare])}.",
        Graph(series, Axis("Recall@50 of all"), Axis(f"Recall@50 of {rare}"), height=260),
        Table(
            "Points of the curves",
            ["Split", "Dial", "Recall@10", "Recall@50", f"of {rare}"],
            rows,
        ),
        is_wide=True,
    )


def _along(split: str, points: Sequence[TradeOff], chosen: float) -> Chart:
    names = [name for name in points[0].slices if points[0].slices[name] is not None]
    lines = [Series("overall", [(point.dial, point.recall[_RECALL]) for point in points])]
    lines += [
        Series(name, [(point.dial, point.slices[name]) for point in points]) for name in names
    ]
    rows = [
        [f"{point.dial:g}", *(f"{value:.3f}" for value in point.recall.values())]
        + [number(point.slices[name]) for name in names]
        for point in points
    ]
    return Chart(
        f"Recall@50 by slice along the dial ({split})",
        f"The dashed line is the dial that was found on validation, {chosen:g}. The curves are of "
        "sampled queries.",
        Graph(
            lines,
            Axis("weight of the dial"),
            Axis("Recall@50"),
            [Mark("x", chosen, f"chosen: {chosen:g}")],
            height=260,
        ),
        Table("Along the dial", ["Dial", "Recall@10", "Recall@50", *names], rows),
        is_wide=True,
    )
