"""The weights of the fused ranking, and the trade-off along the popularity dial."""

from pipelines.reports.format import number
from pipelines.reports.parts import Chart, Part, Section, Table, Text
from pipelines.reports.plots import Axis, Graph, Series
from recsys.evaluation.results import METHOD_TITLES, TOWERS, EvaluationResult, TradeOff
from recsys.fusion.weights import OF_RARE
from recsys.reports.run.run_data import RunData

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
    parts += [_curve(split, points) for split, points in result.trade_off.items()]
    return Section("ranking", "Ranking", parts)


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
            number(alone.overall["recall@50"]) if alone is not None else "",
            number(alone.slices["tail"]["recall@50"]) if alone is not None else "",
        ]
        rows.append([_title(name), f"{weight:g}", *figures])
    return Table(
        "Parts of the score",
        ["Part", "Weight", "Recall@50 alone", "of tail items"],
        rows,
        note="Channels are scaled to 1 at the query's best item; the towers' part is a cosine.",
    )


def _title(part: str) -> str:
    name = part.removesuffix(OF_RARE)
    return _TITLES[name] + part.removeprefix(name)


def _curve(split: str, points: tuple[TradeOff, ...]) -> Chart:
    names = [name for name in points[0].slices if points[0].slices[name] is not None]
    lines = [Series("overall", [(point.dial, point.recall["recall@50"]) for point in points])]
    lines += [
        Series(name, [(point.dial, point.slices[name]) for point in points]) for name in names
    ]
    rows = [
        [f"{point.dial:g}", *(f"{value:.3f}" for value in point.recall.values())]
        + [number(point.slices[name]) for name in names]
        for point in points
    ]
    first, last = points[0], points[-1]
    return Chart(
        f"What the popularity dial trades ({split})",
        f"From dial {first.dial:g} to {last.dial:g}, Recall@50 goes from "
        f"{first.recall['recall@50']:.3f} to {last.recall['recall@50']:.3f}, that of tail items "
        f"from {number(first.slices['tail'])} to {number(last.slices['tail'])}.",
        Graph(lines, Axis("weight of the dial"), Axis("Recall@50"), height=260),
        Table("Along the dial", ["Dial", "Recall@10", "Recall@50", *names], rows),
        is_wide=True,
    )
