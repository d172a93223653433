"""Sections of the report: what lists are like, and the metrics by any slice."""

from html import escape

from recsys.charts import slice_bars
from recsys.list_metrics import LIST_MEASURES
from recsys.report_tables import CLASS_OF_MODEL, cells, table
from recsys.results import METHOD_TITLES, MODEL, SHOWN, EvaluationResult, number

_LIST_TITLES = {
    "coverage": "Coverage",
    "gini": "Gini",
    "novelty": "Novelty (bits)",
    "average_popularity": "Popularity",
    "intra_list_similarity": "Similarity within",
}
_SLICE_TITLES = {"history_length": "Length of the query's history", "item_age": "Age of the item"}
_COMPARED = "recall@50"


def lists_section(result: EvaluationResult, cutoff: int = 10) -> str:
    """What the recommendations of each method are like."""
    rows = []
    for name, method in result.methods.items():
        values = [method.lists.get(f"{measure}@{cutoff}") for measure in LIST_MEASURES]
        shown = "".join(f"<td>{_listed(value)}</td>" for value in values)
        is_model = CLASS_OF_MODEL if name == MODEL else ""
        rows.append(f'<tr{is_model}><th scope="row">{METHOD_TITLES[name]}</th>{shown}</tr>')
    note = (
        f"Of the first {cutoff} items. Coverage: items that anyone is recommended, of all. Gini: 0 "
        "where all items are recommended as often, towards 1 where few are always. Novelty: how "
        "rare an item is in training. Popularity: training events of an item. Similarity: the mean "
        "cosine of two items of a list, by their features."
    )
    shown = table("Recommendations", note, ["Method"], list(_LIST_TITLES.values()), rows)
    return f"<h3>Recommendations</h3>{shown}"


def slices_section(result: EvaluationResult) -> str:
    """By the frequency of items, and by what else the configuration asks for."""
    rows = []
    for group, methods in result.groups().items():
        if not result.pairs(group):
            empty = f'<td class="text" colspan="{1 + len(SHOWN)}">nothing held out</td>'
            rows.append(f'<tr><th scope="row">{group}</th>{empty}</tr>')
            continue
        heading = (
            f'<th scope="rowgroup" rowspan="{len(methods)}">{group}'
            f"<small>{result.pairs(group):,} held out</small></th>"
        )
        for name, figures in methods.items():
            is_model = name == MODEL
            rows.append(
                f"<tr{CLASS_OF_MODEL if is_model else ''}>{heading if is_model else ''}"
                f'<th scope="row">{METHOD_TITLES[name]}</th>{cells(figures, SHOWN)}</tr>'
            )
    note = (
        "Slices are by the item's training events: cold 0, tail 1 to 5, torso to the 80th "
        "percentile of the trained items, head the rest. Recall is the share of the slice's "
        "held-out items that are found; NDCG and MAP are means over the queries that have any."
    )
    bars = "".join(slice_bars(result, name) for name in ("recall@10", "recall@50"))
    shown = table("Metrics by slice", note, ["Slice", "Method"], list(SHOWN.values()), rows)
    further = "".join(_slice_table(result, kind) for kind in result.by)
    return f'<div class="two">{bars}</div>{shown}{further}'


def _slice_table(result: EvaluationResult, kind: str) -> str:
    others = [name for name in result.baselines if name != "random"]
    rows = []
    for value, figures in result.by[kind].items():
        compared = [result.baselines[name].by[kind][value][_COMPARED] for name in others]
        rows.append(
            f'<tr><th scope="row">{escape(value)}<small>{figures["count"]:,} held out</small></th>'
            f"{cells(figures, SHOWN)}{''.join(f'<td>{number(v)}</td>' for v in compared)}</tr>"
        )
    heads = [*SHOWN.values(), *(f"{SHOWN[_COMPARED]} of {METHOD_TITLES[name]}" for name in others)]
    title = _SLICE_TITLES.get(kind, kind)
    note = (
        "Recall of a slice of items is the share of its held-out items that are found; slices of "
        "queries are measured as all are. An item or a query may be in several."
    )
    return f"<h3>{escape(title)}</h3>{table(title, note, ['Slice'], heads, rows)}"


def _listed(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"
