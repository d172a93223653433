"""The HTML report of an evaluation: one file, without scripts and without the network."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from feature_store.columns import Ints, Jagged
from pipelines.prepared import MutualInformation, Prepared, PreparedManifest
from recsys.charts import heat_table, line_chart, slice_bars
from recsys.config import Config
from recsys.metrics import METRICS, Figures
from recsys.results import METHOD_TITLES, MODEL, SHOWN, EvaluationResult, interval, number
from recsys.titles import item_titles

_EXAMPLES, _SHOWN_ITEMS = 6, 10
# What the training's lines hold beside losses and validation.
_NO_LOSSES = ("step", "examples_per_second")
_CLASS_OF_MODEL = ' class="model"'
_TITLES = {**SHOWN, "hit_rate@10": "Hit rate@10", "mrr@10": "MRR@10"}


@dataclass(frozen=True)
class Example:
    """One query, in words.

    Attributes:
        query: Its id.
        liked: The latest items that it is known to have, latest first where there is an order.
        recommended: The first items of its ranking, and whether each was held out.
        held_out: How many items were to be found.
    """

    query: str
    liked: list[str]
    recommended: list[tuple[str, bool]]
    held_out: int


def example_queries(
    config: Config,
    prepared: Prepared,
    *,
    queries: Ints,
    held_out: Jagged,
    history: Jagged,
    top: Ints,
) -> list[Example]:
    """A few queries, evenly spaced, so that they are not chosen by how well they are answered.

    Args:
        config: Says where the items' titles are.
        prepared: Of the ids.
        queries: [queries] indices of the evaluated queries.
        held_out: [queries] items to find.
        history: [queries] items, oldest first.
        top: [queries, k] ranked items, best first, -1 where there are fewer.
    """
    ids = prepared.item_encoder.ids.tokens
    titles = item_titles(config, prepared)
    names = ids if titles is None else titles
    query_ids = prepared.query_encoder.ids.tokens
    places = np.unique(np.linspace(0, len(queries) - 1, min(_EXAMPLES, len(queries))).astype(int))
    examples = []
    for place in places:
        wanted = set(held_out.take(np.array([place])).values.tolist())
        known = history.take(np.array([place])).values[::-1][:_SHOWN_ITEMS]
        ranked = [item for item in top[place, :_SHOWN_ITEMS].tolist() if item >= 0]
        examples.append(
            Example(
                query=query_ids[int(queries[place])].as_py(),
                liked=[names[item].as_py() for item in known.tolist()],
                recommended=[(names[item].as_py(), item in wanted) for item in ranked],
                held_out=len(wanted),
            )
        )
    return examples


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
        ("slices", "By slice", _slices(result)),
        ("training", "Training", _training(curves, best_step)),
        ("examples", "Examples", _examples(examples, config.data.history.kind)),
        ("data", "Data", _data(prepared.manifest)),
        ("features", "Features", _features(prepared.mutual_information)),
        ("configuration", "Configuration", _configuration(config, result)),
    ]
    page = Template((files("recsys") / "report.html").read_text(encoding="utf-8"))
    return page.substitute(
        title="Evaluation of a two-tower model",
        subtitle=escape(
            f"{result.counts['items']:,} items ranked for {result.counts['queries']:,} queries of "
            f"the test split ({result.split}); MLflow run {result.mlflow_run_id}"
        ),
        navigation="".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in sections),
        warnings="".join(
            f'<p class="warning" role="note"><strong>Warning:</strong> {escape(warning)}</p>'
            for warning in result.warnings()
        ),
        sections="\n".join(
            f'<section id="{key}" aria-labelledby="{key}-title">'
            f'<h2 id="{key}-title">{title}</h2>{body}</section>'
            for key, title, body in sections
        ),
    )


def _results(result: EvaluationResult) -> str:
    rows = [
        f'<tr{_CLASS_OF_MODEL if name == MODEL else ""}><th scope="row">{METHOD_TITLES[name]}</th>'
        f"{_cells(method.overall, METRICS)}</tr>"
        for name, method in result.methods.items()
    ]
    note = (
        "Means over queries; beneath each its 95 % interval, from a bootstrap over queries. Items "
        "that the query is known to have are not ranked."
    )
    headings = ["Method", *(_TITLES[name] for name in METRICS)]
    return f"<p>{_summary(result)}</p>" + _table("Metrics", note, headings, rows)


def _summary(result: EvaluationResult) -> str:
    """The first metric against each baseline, in a sentence."""
    name, title = "recall@50", SHOWN["recall@50"]
    value = result.overall[name]
    if not isinstance(value, float):
        return "There is nothing to find in the test split."
    parts = []
    for method, measured in result.baselines.items():
        other = measured.overall[name]
        if isinstance(other, float) and other > 0:
            parts.append(f"{value / other:.2f} times that of {METHOD_TITLES[method]}")
    bounds = interval(result.overall[f"{name}_ci"])
    compared = f": {' and '.join(parts)}" if parts else ""
    return f"{title} is {number(value)} ({bounds}){compared}."


def _slices(result: EvaluationResult) -> str:
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
                f"<tr{_CLASS_OF_MODEL if is_model else ''}>{heading if is_model else ''}"
                f'<th scope="row">{METHOD_TITLES[name]}</th>{_cells(figures, SHOWN)}</tr>'
            )
    note = (
        "Slices are by the item's training events: cold 0, tail 1 to 5, torso to the 80th "
        "percentile of the trained items, head the rest. Recall is the share of the slice's "
        "held-out items that are found; NDCG and MAP are means over the queries that have any."
    )
    bars = "".join(slice_bars(result, name) for name in ("recall@10", "recall@50"))
    table = _table("Metrics by slice", note, ["Slice", "Method", *SHOWN.values()], rows)
    return f'<div class="two">{bars}</div>{table}'


def _cells(figures: Figures, metrics: Iterable[str]) -> str:
    """Each metric over its interval."""
    return "".join(
        f"<td>{number(figures[name])}<small>{interval(figures[f'{name}_ci'])}</small></td>"
        for name in metrics
    )


def _table(name: str, note: str, headings: Iterable[str], rows: Iterable[str]) -> str:
    """Scrolls sideways on a small screen, by keyboard too."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    return (
        f'<p class="soft">{escape(note)}</p>'
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(name)}">'
        f'<table aria-label="{escape(name)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _training(curves: list[dict[str, float | None]], best_step: int) -> str:
    """Each loss, and the validation metrics that the tables show."""
    names = dict.fromkeys(name for line in curves for name in line)
    validation = [f"validation.{name}" for name in SHOWN]
    losses = [n for n in names if n not in _NO_LOSSES and not n.startswith("validation.")]
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
            f'{example.held_out} held-out items found</h3><div class="two">'
            f"<div><p class='soft'>{liked}</p><ul>{known or '<li>nothing yet</li>'}</ul></div>"
            f"<div><p class='soft'>Recommended</p><ol>{ranked}</ol></div></div></div>"
        )
    note = (
        "Evenly spaced over the evaluated queries, not chosen by result. "
        f"Up to {_SHOWN_ITEMS} items each."
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
    first, last = manifest.first_event, manifest.last_event
    body += _definitions(
        {
            "Events from": first or "no time in the log",
            "Events to": last or "no time in the log",
            "Prepared as of": manifest.as_of,
            "Sources": ", ".join(f"{t}: {len(f):,} files" for t, f in manifest.sources.items()),
        },
        "wide",
    )
    if not rejected:
        return body
    rows = [
        f'<tr><th scope="row">{escape(reason)}</th><td>{count:,}</td></tr>'
        for reason, count in sorted(counts.rejected.items(), key=lambda pair: -pair[1])
    ]
    return body + _table(
        "Rejected rows",
        "Rows that were put aside, with the reason.",
        ["Table and reason", "Rows"],
        rows,
    )


def _features(information: MutualInformation) -> str:
    note = (
        "Mutual information between item features, in nats; on the diagonal their entropy. The "
        "shade is the normalised value, which divides by the smaller entropy: features of one dark "
        "block tell the same, and are masked together by correlated feature masking."
    )
    return f'<p class="soft">{escape(note)}</p>{heat_table(information)}'


def _configuration(config: Config, result: EvaluationResult) -> str:
    training = config.training
    summary = {
        "Split": config.data.split.kind,
        "History": f"{config.data.history.kind}, up to {config.data.history.max_length} items",
        "Item features": ", ".join(f"{f.name} ({f.kind})" for f in config.features.item),
        "Query features": ", ".join(f"{f.name} ({f.kind})" for f in config.features.query)
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
