"""The HTML report of an evaluation: one file, without scripts and without the network."""

import json
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from typing import Any

from pipelines.prepared.reader import MutualInformation, Prepared, PreparedManifest
from pipelines.reports.charts import heat_table, line_chart, slice_bars
from pipelines.reports.format import interval, number
from pipelines.reports.page import render_page
from pipelines.reports.parts import CLASS_OF_MODEL, cells, table
from recsys.config.config import Config
from recsys.evaluation.examples import SHOWN_ITEMS, Example
from recsys.evaluation.list_metrics import LIST_METRICS
from recsys.evaluation.results import METHOD_TITLES, MODEL, SHOWN, EvaluationResult
from recsys.reports.diagnostics import diagnostics_sections
from recsys.training.diagnostics import PREFIX

# What the training's lines hold beside losses and validation.
_NO_LOSSES = ("step", "examples_per_second", "loader_wait")
_TITLES = {**SHOWN, "hit_rate@10": "Hit rate@10", "mrr@10": "MRR@10"}


def render_report(
    result: EvaluationResult,
    prepared: Prepared,
    config: Config,
    *,
    best_step: int,
    curves: list[dict[str, float | None]],
    examples: list[Example],
) -> str:
    """The report as HTML.

    Args:
        result: The figures.
        prepared: What was trained on.
        config: As trained.
        best_step: Of the checkpoint that was kept.
        curves: The lines of the training's metrics, each with its `step`.
        examples: To show what is recommended.
    """
    sections = [
        ("results", "Results", _results(result)),
        ("slices", "By slice", slices_section(result)),
        ("training", "Training", _training(curves, best_step)),
        *diagnostics_sections(curves, prepared, config, best_step),
        ("examples", "Examples", _examples(examples, config.data.history.kind)),
        ("data", "Data", _data(prepared.manifest)),
        ("features", "Features", _features(prepared.mutual_information)),
        ("configuration", "Configuration", _configuration(config, result)),
    ]
    counts = result.counts
    return render_page(
        title="Evaluation of a two-tower model",
        subtitle=f"{counts['items']:,} items ranked for {counts['queries']:,} queries of the test "
        f"split ({result.split}); MLflow run {result.mlflow_run_id}",
        warnings=[f"<strong>Warning:</strong> {escape(text)}" for text in result.warnings()],
        sections=sections,
        style=(files("recsys.reports") / "report.css").read_text(encoding="utf-8"),
    )


def _results(result: EvaluationResult) -> str:
    rows = [
        f'<tr{CLASS_OF_MODEL if name == MODEL else ""}><th scope="row">{METHOD_TITLES[name]}</th>'
        f"{cells(method.overall, _TITLES)}</tr>"
        for name, method in result.methods.items()
    ]
    note = (
        "Means over queries; beneath each its 95 % interval, from a bootstrap over queries. Items "
        "that the query is known to have are not ranked."
    )
    shown = table("Metrics", note, ["Method"], list(_TITLES.values()), rows)
    return f"<p>{_summary(result)}</p>{shown}{lists_section(result)}"


def _summary(result: EvaluationResult) -> str:
    """The first metric against each baseline, in a sentence."""
    name, title = "recall@50", SHOWN["recall@50"]
    value = result.overall[name]
    if not isinstance(value, float):
        return "There is nothing to find in the test split."
    parts = []
    for method, measured in result.baselines.items():
        other = measured.overall[name]
        if method != "random" and isinstance(other, float) and other > 0:
            parts.append(f"{value / other:.2f} times that of {METHOD_TITLES[method]}")
    bounds = interval(result.overall[f"{name}_ci"])
    compared = f": {', '.join(parts)}" if parts else ""
    return f"{title} is {number(value)} ({bounds}){compared}."


def _training(curves: list[dict[str, float | None]], best_step: int) -> str:
    """Each loss, and the validation metrics that the tables show."""
    names = dict.fromkeys(name for line in curves for name in line)
    validation = [f"validation.{name}" for name in SHOWN]
    others = ("validation.", PREFIX)
    losses = [n for n in names if n not in _NO_LOSSES and not n.startswith(others)]
    charts = []
    for name in [*losses, *validation]:
        points = [
            (step, value)
            for line in curves
            if (step := line["step"]) is not None and (value := line.get(name)) is not None
        ]
        if points:
            title = name.replace(".", " ") if name in validation else f"{name} loss"
            charts.append(line_chart(title, points, best_step))
    note = f"The dashed line is the checkpoint that was kept, step {best_step:,}."
    return f'<p class="soft">{note}</p><div class="two">{"".join(charts)}</div>'


def _examples(examples: list[Example], history: str) -> str:
    if not examples:
        return "<p>No query has anything to find.</p>"
    liked = "Liked, latest first" if history == "past" else "Liked"
    parts = []
    for example in examples:
        hits = sum(is_hit for _, is_hit in example.recommended)
        known = "".join(f"<li>{escape(title)}</li>" for title in example.liked)
        ranked = "".join(
            f'<li class="hit">{escape(title)} ✓ held out</li>'
            if is_hit
            else f"<li>{escape(title)}</li>"
            for title, is_hit in example.recommended
        )
        parts.append(
            f'<div class="example"><h3>Query {escape(example.query)}: {hits} of '
            f'{example.held_out} held-out items in the first {SHOWN_ITEMS}</h3><div class="two">'
            f"<div><p class='soft'>{liked}</p><ul>{known or '<li>nothing yet</li>'}</ul></div>"
            f"<div><p class='soft'>Recommended</p><ol>{ranked}</ol></div></div></div>"
        )
    note = (
        "Evenly spaced over the evaluated queries, not chosen by result. "
        f"Up to {SHOWN_ITEMS} items each."
    )
    return f'<p class="soft">{note}</p>{"".join(parts)}'


def _data(manifest: PreparedManifest) -> str:
    counts = manifest.counts
    rejected = sum(counts.rejected.values())
    tiles = {
        "Events read": counts.events_read,
        "Training events": counts.train,
        "Validation events": counts.validation,
        "Test events": counts.test,
        "Queries": counts.queries,
        "Items": counts.items,
        "Items in training": counts.items_in_training,
        "Rows rejected": rejected,
    }
    body = _definitions({name: f"{value:,}" for name, value in tiles.items()}, "tiles")
    body += _definitions(
        {
            "Events from": _minute(manifest.first_event),
            "Events to": _minute(manifest.last_event),
            "Prepared as of": _minute(manifest.as_of),
            "Files": ", ".join(f"{len(f):,} of {table}" for table, f in manifest.sources.items()),
        },
        "wide",
    )
    if not rejected:
        return body
    rows = [
        f'<tr><th scope="row">{escape(reason)}</th><td>{count:,}</td></tr>'
        for reason, count in sorted(counts.rejected.items(), key=lambda pair: -pair[1])
    ]
    return body + table(
        "Rejected rows",
        "Rows that were put aside, with the reason.",
        ["Table and reason"],
        ["Rows"],
        rows,
    )


def _minute(time: str | None) -> str:
    """`2024-05-06 07:08 UTC`."""
    if time is None:
        return "no time in the log"
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _features(information: MutualInformation) -> str:
    note = (
        "Mutual information between item features, in nats; on the diagonal their entropy. The "
        "shade is the normalised value, which divides by the smaller entropy: features of one dark "
        "block tell the same, and are masked together by correlated feature masking."
    )
    matrices = information.items
    shown = heat_table(
        "Mutual information", information.features, matrices.raw, matrices.normalised
    )
    return f'<p class="soft">{escape(note)}</p>{shown}'


def _configuration(config: Config, result: EvaluationResult) -> str:
    training = config.training
    summary = {
        "Split": config.data.split.kind,
        "History": f"{config.data.history.kind}, up to {config.data.history.max_length} items",
        "Item features": ", ".join(f"{f.name} ({f.kind})" for f in config.features.item),
        "Query features": ", ".join(f"{f.name} ({f.kind})" for f in config.features.query)
        or "none",
        "Context features": ", ".join(f"{f.name} ({f.kind})" for f in config.features.context)
        or "none",
        "Vectors": f"{config.model.dim} numbers",
        "Self-supervision": config.ssl.method,
        "Training": f"{training.epochs} epochs at most, batches of {training.batch_size:,}, seed "
        f"{training.seed}",
        "Prepared data": result.prepared_fingerprint,
        "Training fingerprint": result.training_fingerprint,
    }
    whole: dict[str, Any] = config.model_dump(mode="json")
    return (
        _definitions(summary, "wide")
        + "<details><summary>The whole configuration</summary>"
        + f"<pre tabindex='0'>{escape(json.dumps(whole, indent=2, ensure_ascii=False))}</pre>"
        + "</details>"
    )


def _definitions(pairs: dict[str, str], kind: str) -> str:
    inner = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in pairs.items()
    )
    return f'<dl class="{kind}">{inner}</dl>'


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
        values = [method.lists.get(f"{measure}@{cutoff}") for measure in LIST_METRICS]
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
