"""Recall and exposure by how often training has seen items."""

import math
from collections.abc import Mapping, Sequence

from pipelines.reports.format import shown
from pipelines.reports.parts import Chart, Section, Table, Text
from pipelines.reports.plots import Axis, Graph, Series
from recsys.evaluation.long_tail import FrequencyBin
from recsys.evaluation.results import METHOD_TITLES, MODEL, EvaluationResult
from recsys.evaluation.rivals import FEW_PAIRS
from recsys.reports.results import NO_EVALUATION
from recsys.reports.run.run_data import RunData

_EVENTS = "training events of the item (held-out pairs)"
# Quantile of the normal distribution for a 95 % interval.
_QUANTILE = 1.96


def tail_section(run: RunData, against: RunData | None = None) -> Section:
    """Returns who is found, and who is shown, from rare to frequent items.

    Args:
        run: Run to show.
        against: Run to show beside it.
    """
    result = run.result
    if result is None or not result.long_tail:
        return Section("tail", "Long tail", [NO_EVALUATION])
    if result.is_small:
        text = "All items are among the first 50, whose figures would tell nothing; see the slices."
        return Section("tail", "Long tail", [Text(text)])
    return Section("tail", "Long tail", [_recall(result, against), _exposure(result)])


def _recall(result: EvaluationResult, against: RunData | None) -> Chart:
    bins = [each for each in result.long_tail if each.pairs]
    names = [_events(each) for each in bins]
    methods = [method for method in result.compared if method != "random"]
    recall = {METHOD_TITLES[m]: [each.recall.get(m) for each in bins] for m in methods}
    if against is not None and against.result is not None:
        other = {_events(each): each.recall.get(MODEL) for each in against.result.long_tail}
        recall[f"run {against.name}"] = [other.get(name) for name in names]
    rows = [
        [name, f"{each.items:,}", f"{each.pairs:,}", *(shown(v[at]) for v in recall.values())]
        for at, (name, each) in enumerate(zip(names, bins, strict=True))
    ]
    return Chart(
        "Recall@50 by training events of an item",
        "Share of held-out pairs that is found, from items that training never saw on the left to "
        "the most frequent ones on the right; higher is better. Whiskers are 95 % intervals of "
        f"this model; grey points have fewer than {FEW_PAIRS} pairs and allow no conclusion. Look "
        "for a baseline above the whiskers on the left.",
        _graph([_counted(each) for each in bins], recall, Axis("Recall@50"), bins),
        Table("Recall@50 of held-out pairs", ["Events", "Items", "Pairs", *recall], rows, own=[3]),
        is_wide=True,
    )


def _exposure(result: EvaluationResult) -> Chart:
    bins = result.long_tail
    items, pairs = sum(b.items for b in bins) or 1, sum(b.pairs for b in bins) or 1
    shares = {
        "items": [each.items / items for each in bins],
        "held-out pairs": [each.pairs / pairs for each in bins],
        "the model's lists": [each.shown[MODEL] for each in bins],
        "popularity's lists": [each.shown["popularity"] for each in bins],
    }
    names = [_events(each) for each in bins]
    rows = [
        [name, *(f"{values[at]:.1%}" for values in shares.values())]
        for at, name in enumerate(names)
    ]
    return Chart(
        "Who is shown: shares by training events of an item",
        "Shares of the items, of the held-out pairs, and of the first 50 positions of all lists. "
        "Lists that are fair to rare items follow the held-out pairs.",
        _graph([_counted(each) for each in bins], shares, Axis("share", scale="share")),
        Table("Shares", ["Events", *shares], rows),
        is_wide=True,
    )


def _graph(
    names: list[str],
    values: Mapping[str, Sequence[float | None]],
    y: Axis,
    bins: Sequence[FrequencyBin] = (),
) -> Graph:
    """Returns curves over the bins, with the pairs and the interval of each point where asked."""
    few = [each.pairs < FEW_PAIRS for each in bins]
    series = []
    for name, each in values.items():
        is_own = bool(bins) and name == METHOD_TITLES[MODEL]
        series.append(
            Series(
                name,
                [(float(at), value) for at, value in enumerate(each)],
                labels=[
                    f"{name}: {shown(v)}\n{at} pairs" for v, at in zip(each, names, strict=True)
                ]
                if bins
                else (),
                bounds=[_interval(v, b.pairs) for v, b in zip(each, bins, strict=True)]
                if is_own
                else (),
                faint=few,
            )
        )
    return Graph(series, Axis(_EVENTS, categories=names), y, height=260)


def _interval(share: float | None, pairs: int) -> tuple[float, float] | None:
    """Returns the 95 % interval of a share of pairs (Wilson 1927), as if these were independent."""
    if share is None or not pairs:
        return None
    square = _QUANTILE**2
    middle = (share + square / (2 * pairs)) / (1 + square / pairs)
    inner = share * (1 - share) / pairs + square / (4 * pairs**2)
    half = _QUANTILE / (1 + square / pairs) * math.sqrt(inner)
    return max(0.0, middle - half), min(1.0, middle + half)


def _counted(each: FrequencyBin) -> str:
    """Returns the events with the pairs, of which thousands are rounded: ticks are short."""
    pairs = f"{each.pairs / 1000:.3g}k" if each.pairs >= 1000 else str(each.pairs)
    return f"{_events(each)} ({pairs})"


def _events(each: FrequencyBin) -> str:
    """Returns the training events of the items of a bin, such as `4-7`."""
    return f"{each.low}" if each.low == each.high else f"{each.low}-{each.high}"
