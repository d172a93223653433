"""The model beside its baselines."""

import math

from pipelines.reports.format import Figures, Value, as_sentence, interval, number
from pipelines.reports.parts import Cell, Chart, Part, Row, Section, Table, Text
from pipelines.reports.plots import Bars, Heat
from recsys.comparison.report import METRIC_TITLES
from recsys.evaluation.list_metrics import LIST_METRICS
from recsys.evaluation.results import METHOD_TITLES, MODEL, SHOWN, TOWERS, EvaluationResult
from recsys.evaluation.rivals import FEW_PAIRS, LEVEL, Standing
from recsys.reports.run.run_data import RunData

# Digits of p from which on a shade is not darker.
MOST_CERTAIN = 3.0
# How to read the tables of lists.
_OF_LISTS = (
    "What the lists are like, whether or not they are right. Coverage: share of all items that "
    "anyone is recommended. Gini: 0 where all items are recommended as often, towards 1 where few "
    "are always. Novelty: how rare an item is in training. Popularity: training events of an item. "
    "Similarity: mean cosine of two items of a list, by their features."
)
NO_EVALUATION = Text("This run has no evaluation: run `recsys evaluate` on its configuration.")
# Titles that say which direction means what.
_LIST_TITLES = {
    "coverage": "Coverage (higher: wider)",
    "gini": "Gini (lower: more even)",
    "novelty": "Novelty in bits (higher: rarer)",
    "average_popularity": "Popularity (lower: rarer)",
    "intra_list_similarity": "Similarity within (lower: more varied)",
}


def results_section(run: RunData) -> Section:
    """Returns warnings, the verdict, and the tables of metrics and of lists."""
    result = run.result
    if result is None:
        return Section("results", "Results", [NO_EVALUATION])
    counts = result.counts
    parts: list[Part] = [Text(f"Warning: {text}.", "warning") for text in result.warnings()]
    notes = "".join(f" {as_sentence(text)}" for text in result.notes())
    parts += [
        Text(_summary(result), "strong"),
        Text(
            f"{counts['items']:,} items ranked for {counts['queries']:,} queries of the test split "
            f"({result.split}), with {counts['held_out']:,} items to find.{notes}"
        ),
        _chart(result),
        *_standings(result),
        _methods(result),
        *_lists(result),
    ]
    return Section("results", "Results", parts)


def metric_cells(figures: Figures, metrics: list[str]) -> list[Cell]:
    """Returns each metric above its interval."""
    return [Cell(number(figures[name]), [interval(figures[f"{name}_ci"])]) for name in metrics]


def best_baseline(result: EvaluationResult) -> str:
    """Returns the name of the baseline with the highest recall; parts of the model are none."""
    others = [name for name in result.compared if name not in (MODEL, TOWERS)]
    return max(
        others, key=lambda name: known(result.baselines[name].overall[result.judged_by]) or 0.0
    )


def known(value: Value) -> float | None:
    """Returns a metric where it could be measured."""
    return value if isinstance(value, float) else None


def spread(value: Value) -> tuple[float, float] | None:
    """Returns an interval where it could be measured."""
    return value if isinstance(value, tuple) else None


def _summary(result: EvaluationResult) -> str:
    """Returns the first metric against each baseline, in a sentence."""
    name, title = result.judged_by, SHOWN[result.judged_by]
    value = result.overall[name]
    if not isinstance(value, float):
        return "The test split has no held-out items."
    ratios = []
    for method, measured in result.compared.items():
        other = measured.overall[name]
        if method not in (MODEL, "random") and isinstance(other, float) and other > 0:
            ratios.append(f"{value / other:.2f} times that of {METHOD_TITLES[method]}")
    bounds = interval(result.overall[f"{name}_ci"])
    compared = f": {', '.join(ratios)}" if ratios else ""
    return f"{title} is {number(value)} ({bounds}){compared}."


def _chart(result: EvaluationResult) -> Chart:
    series = {
        METHOD_TITLES[name]: [known(method.overall[metric]) for metric in SHOWN]
        for name, method in result.compared.items()
        if name != "random"
    }
    bounds = {
        METHOD_TITLES[name]: [spread(method.overall[f"{metric}_ci"]) for metric in SHOWN]
        for name, method in result.compared.items()
        if name != "random"
    }
    return Chart(
        "The model and its baselines",
        "Longer is better. Whiskers are 95 % intervals: where this model's and another's overlap, "
        "the heat map below tells whether the difference is chance. Look for a simple method that "
        "reaches as far.",
        Bars(list(SHOWN.values()), series, "mean over queries", bounds=bounds),
        is_wide=True,
    )


def _standings(result: EvaluationResult) -> list[Chart]:
    """Returns a heat map of all methods by slice; none of evaluations that did not test them."""
    of_metric = {(e.method, e.group): e for e in result.standings if e.metric == result.judged_by}
    groups = [name for name in result.groups() if result.pairs(name)]
    if not of_metric or not groups:
        return []
    few = [result.pairs(group) < FEW_PAIRS for group in groups]
    values, texts = [], []
    for name, method in result.methods.items():
        shades = [_shade(of_metric.get((name, group))) for group in groups]
        figures = [method.overall if g == "overall" else method.slices[g] for g in groups]
        marks = ["" if not shade else " ▲" if shade > 0 else " ▼" for shade in shades]
        if name == MODEL:
            dead = [_is_dead(each[result.judged_by], result) for each in figures]
            shades = [-MOST_CERTAIN if each else 0.0 for each in dead]
            marks = [" ✗" if each else "" for each in dead]
        values.append(shades)
        texts.append(
            [f"{number(f[result.judged_by])}{mark}" for f, mark in zip(figures, marks, strict=True)]
        )
    better = sum(value > 0 for row in values for value in row)
    return [
        Chart(
            "All methods by slice, against this model",
            f"{SHOWN[result.judged_by]}, in brackets the held-out pairs. ▲ finds more than this "
            "model and ▼ less, by a paired permutation test of this comparison alone at 5 %; the "
            f"shade is darker the smaller p is. Grey: fewer than {FEW_PAIRS} pairs, which allow no "
            f"conclusion. ✗: this model finds less than chance would, {result.chance:.3f}. Look "
            f"for ▲ and ✗: {better or 'none'} of the cells {'are' if better > 1 else 'is'} ▲.",
            Heat(
                [METHOD_TITLES[name] for name in result.methods],
                [
                    f"{'all' if group == 'overall' else group} ({result.pairs(group):,})"
                    for group in groups
                ],
                values,
                texts,
                largest=MOST_CERTAIN,
                faint=[few] * len(result.methods),
            ),
            is_wide=True,
        )
    ]


def _shade(standing: Standing | None) -> float:
    """Returns the shade of a method; 0 where chance may explain the difference."""
    return 0.0 if standing is None else certainty(standing.p, standing.value - standing.model)


def certainty(p: float | None, difference: float) -> float:
    """Returns -log10 p with the sign of a difference; 0 where chance may explain it."""
    if p is None or p >= LEVEL:
        return 0.0
    return math.copysign(min(MOST_CERTAIN, -math.log10(p)), difference)


def _is_dead(recall: Value, result: EvaluationResult) -> bool:
    """Tells whether less is found than by lists drawn at random."""
    return isinstance(recall, float) and recall < result.chance


def _methods(result: EvaluationResult) -> Table:
    rows = [
        Row(
            [METHOD_TITLES[name], *metric_cells(method.overall, list(METRIC_TITLES))],
            is_strong=name == MODEL,
        )
        for name, method in result.methods.items()
    ]
    known = "are not ranked" if result.repeats == "exclude" else "are ranked like all others"
    return Table(
        "Metrics",
        ["Method", *METRIC_TITLES.values()],
        rows,
        note="Higher is better. Means over queries; below each its 95 % interval, from a bootstrap "
        f"over queries. Items that the query is known to have {known}. Where two intervals "
        "overlap, `recsys compare` tells whether the difference is chance.",
    )


def _lists(result: EvaluationResult) -> list[Table]:
    """Returns what the lists are like at each cutoff; the first table says how to read them."""
    cutoffs = dict.fromkeys(name.partition("@")[2] for name in result.lists)
    notes = [_OF_LISTS, *[""] * len(cutoffs)]
    return [_lists_at(result, each, note) for each, note in zip(cutoffs, notes, strict=False)]


def _lists_at(result: EvaluationResult, cutoff: str, note: str) -> Table:
    rows = [
        Row(
            [
                METHOD_TITLES[name],
                *(_listed(method.lists.get(f"{metric}@{cutoff}")) for metric in LIST_METRICS),
            ],
            is_strong=name == MODEL,
        )
        for name, method in result.methods.items()
    ]
    return Table(
        f"Lists of the first {cutoff} items",
        ["Method", *_LIST_TITLES.values()],
        rows,
        note=note,
    )


def _listed(value: float | None) -> str:
    """Returns about three significant digits; 0.5 and 0.05 have as many decimals."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{1 if abs(value) >= 10 else 3}f}"
