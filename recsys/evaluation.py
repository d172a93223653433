"""The `evaluate` stage: exact full-corpus metrics by slice, beside baselines, and a report."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from feature_store.columns import Floats, Ints, Jagged
from feature_store.storage import (
    directory_written_atomically,
    fingerprint,
    read_manifest,
    write_json,
    write_manifest,
    write_text,
)
from pipelines.popularity import item_slices
from pipelines.prepared import Prepared
from recsys.baselines import Fitted, Training, baselines
from recsys.collate import BatchBuilder
from recsys.config import Config
from recsys.encode import encode_items, encode_queries
from recsys.example_queries import Example, example_queries
from recsys.list_metrics import feature_matrix, list_metrics
from recsys.metrics import CUTOFFS, Measured, Ranks, measure, overall_ratios, ranks_of
from recsys.per_query import PER_QUERY, write_per_query
from recsys.ranking import Scorer, top_items, vector_scorer
from recsys.report import render_report
from recsys.results import METHOD_TITLES, MODEL, EvaluationResult
from recsys.slices import build_slices
from recsys.tracking import open_run

if TYPE_CHECKING:
    from recsys.model import TwoTower
    from recsys.training import TrainManifest

METRICS_JSON = "metrics.json"
REPORT = "report.html"

_SPLIT = "test"


class EvaluationManifest(BaseModel):
    """Marks the evaluation as finished."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    fingerprint: str  # of the training, the prepared data and the settings of the evaluation
    training_fingerprint: str
    schema_fingerprint: str


@dataclass(frozen=True)
class Task:
    """What is to be found, by whom; every column is jagged, with one row a query.

    Attributes:
        queries: [queries] indices of those with something to find.
        held_out: Items to find.
        known: Items that baselines are told of: with histories of others those of training alone,
            which is all that the model sees.
        excluded: Items that are not ranked: those that the query has, and the query itself where
            it is an item.
        history: What it is asked with, oldest first.
        already_seen: Held-out pairs that were left out because the query excludes the item.
    """

    queries: Ints
    held_out: Jagged
    known: Jagged
    excluded: Jagged
    history: Jagged
    already_seen: int

    @classmethod
    def of(cls, prepared: Prepared, split: str) -> "Task":
        """All queries of a split."""
        state, excluded = prepared.query_state, prepared.excluded(split)
        held_out = not_excluded(state.held_out(split), excluded)
        queries = np.flatnonzero(held_out.lengths)
        already_seen = len(state.held_out(split).values) - len(held_out.values)
        is_others = prepared.manifest.data.history.kind == "others"
        known = state.train if is_others else state.known(split)
        return cls(
            queries=queries,
            held_out=held_out.take(queries),
            known=known.take(queries),
            excluded=excluded.take(queries),
            history=state.history(split).take(queries),
            already_seen=already_seen,
        )


def evaluate(config: Config, *, console: Console | None = None) -> EvaluationResult:
    """Measures the trained model on the test split, or returns at once where that is already done.

    Args:
        config: The prepared data and the training must be there.
        console: For progress.

    Returns:
        What `metrics.json` in `config.evaluation_dir` holds, beside `report.html`.

    Raises:
        UserError: There is no trained model, or it is of other data than is prepared.
    """
    # The training loop validates with this module, so it cannot be imported at the top.
    from recsys.training import TrainManifest, load_model

    console = console or Console()
    prepared = Prepared(config.prepared_dir)
    trained = read_manifest(config.train_dir, TrainManifest)
    done = read_manifest(config.evaluation_dir, EvaluationManifest)
    if trained and done and done.fingerprint == _fingerprint(config, prepared, trained):
        console.print(f"evaluate: {config.evaluation_dir} is up to date")
        path = config.evaluation_dir / METRICS_JSON
        return EvaluationResult.model_validate_json(path.read_text(encoding="utf-8"))
    model, trained = load_model(config)
    task = Task.of(prepared, _SPLIT)
    if not len(task.queries):
        console.print(
            f"evaluate: warning: the {_SPLIT} split holds nothing to find, so that there are no "
            "metrics; choose another data.split"
        )
    ranked = _rank_all(config, prepared, model, task, console)
    measured = {name: each.measured for name, each in ranked.items()}
    result = EvaluationResult(
        **measured.pop(MODEL).model_dump(),
        baselines=measured,
        counts={
            "queries": len(task.queries),
            "held_out": len(task.held_out.values),
            "already_seen": task.already_seen,
            "items": int(prepared.is_current_item.sum()),
        },
        split=prepared.manifest.data.split.kind,
        history=prepared.manifest.data.history.kind,
        prepared_fingerprint=prepared.manifest.fingerprint,
        training_fingerprint=trained.fingerprint,
        mlflow_run_id=trained.mlflow_run_id,
    )
    examples = example_queries(
        config,
        prepared,
        queries=task.queries,
        held_out=task.held_out,
        history=task.history,
        top=ranked[MODEL].top,
    )
    _write(config, prepared, trained, result, examples, task, ranked)
    console.print(f"evaluate: wrote {config.evaluation_dir}")
    return result


def validation_metrics(
    query_vectors: Floats, item_vectors: Floats, prepared: Prepared, queries: Ints
) -> dict[str, float | None]:
    """Ranks the whole corpus for the queries' validation items.

    Args:
        query_vectors: [queries, dim].
        item_vectors: [items, dim].
        prepared: The prepared data.
        queries: [queries] indices.

    Returns:
        The metrics of `recsys.metrics.METRICS`; None where nothing is held out.

    Raises:
        UserError: A vector is not finite.
    """
    excluded = prepared.excluded("validation").take(queries)
    held_out = not_excluded(prepared.query_state.validation.take(queries), excluded)
    top = _top(vector_scorer(query_vectors, item_vectors), prepared, excluded, max(CUTOFFS))
    return overall_ratios(ranks_of(held_out, top)).values()


def not_excluded(held_out: Jagged, excluded: Jagged) -> Jagged:
    """Held-out items that can be found: those that the same query does not exclude."""
    width = 1 + max(held_out.values.max(initial=0), excluded.values.max(initial=0))
    keys, seen = (
        column.row_of_value() * np.int64(width) + column.values for column in (held_out, excluded)
    )
    return held_out.keep(~np.isin(keys, seen))


@dataclass(frozen=True)
class Ranked:
    """What a method recommends, and what that is worth.

    Attributes:
        top: [queries, depth] items, best first; -1 where there are fewer.
        ranks: Of the held-out items.
        measured: The figures.
    """

    top: Ints
    ranks: Ranks
    measured: Measured


def _rank_all(
    config: Config, prepared: Prepared, model: "TwoTower", task: Task, console: Console
) -> dict[str, Ranked]:
    """Of the model and the baselines, by name."""
    settings = config.evaluation
    console.print(
        f"evaluate: ranking {prepared.num_items:,} items for {len(task.queries):,} queries"
    )
    methods, left_out = _methods(config, prepared, model, task)
    for sentence in left_out:
        console.print(f"evaluate: {sentence}")
    slices = item_slices(prepared.item_frequency)
    further = build_slices(
        settings.slices,
        prepared,
        queries=task.queries,
        held_out=task.held_out,
        history=task.history,
        most_values=settings.slice_values,
    )
    features = feature_matrix(prepared)
    found: dict[str, Ranked] = {}
    for name, build in methods.items():
        started = time.monotonic()
        top = _top(build(), prepared, task.excluded, max(settings.cutoffs))
        ranks = ranks_of(task.held_out, top)
        measured = measure(
            ranks,
            slices,
            bootstrap_samples=settings.bootstrap_samples,
            cutoffs=settings.cutoffs,
            by_item=further.items,
            by_query=further.queries,
        )
        lists: dict[str, float | None] = {}
        for cutoff in settings.cutoffs:
            lists |= list_metrics(
                top, prepared.item_frequency, prepared.is_current_item, features, cutoff
            )
        found[name] = Ranked(top, ranks, measured.model_copy(update={"lists": lists}))
        seconds = time.monotonic() - started
        console.print(f"evaluate: {METHOD_TITLES[name]} ranked in {seconds:.1f} s")
    return found


def _top(scorer: Scorer, prepared: Prepared, excluded: Jagged, depth: int) -> Ints:
    """[queries, depth] items, best first."""
    return top_items(
        scorer,
        num_items=prepared.num_items,
        excluded=excluded,
        k=depth,
        is_candidate=prepared.is_current_item,
    )


def _methods(
    config: Config, prepared: Prepared, model: "TwoTower", task: Task
) -> tuple[dict[str, Callable[[], Scorer]], list[str]]:
    cpu = torch.device("cpu")

    def two_tower() -> Scorer:
        builder = BatchBuilder(prepared, config)
        context = prepared.context_of(task.queries, _SPLIT)
        queries = encode_queries(model, builder, task.queries, task.history, context, cpu)
        return vector_scorer(queries, encode_items(model, builder, cpu))

    def fitted_baseline(fit: Callable[[Training], Fitted]) -> Callable[[], Scorer]:
        return lambda: fit(training).scorer(task.known)

    training = Training(
        prepared.query_state.train, prepared.item_frequency, _validation_of(config, prepared)
    )
    chosen, left_out = baselines(config.evaluation, prepared.num_items)
    methods: dict[str, Callable[[], Scorer]] = {MODEL: two_tower}
    return methods | {name: fitted_baseline(fit) for name, fit in chosen.items()}, left_out


def _validation_of(config: Config, prepared: Prepared) -> Callable[[Fitted], float]:
    """Measures a baseline as a training is measured; 0 where nothing is held out."""

    def validate(fitted: Fitted) -> float:
        task = Task.of(prepared, "validation")
        top = _top(fitted.scorer(task.known), prepared, task.excluded, max(CUTOFFS))
        values = overall_ratios(ranks_of(task.held_out, top)).values()
        return values[config.evaluation.select_by] or 0.0

    return validate


def _write(
    config: Config,
    prepared: Prepared,
    trained: "TrainManifest",
    result: EvaluationResult,
    examples: list[Example],
    task: Task,
    ranked: Mapping[str, Ranked],
) -> None:
    """Writes the directory, and adds it to the training's run."""
    lines = (config.train_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    report = render_report(
        result,
        prepared,
        trained.config,
        best_step=trained.best_step,
        curves=[json.loads(line) for line in lines],
        examples=examples,
    )
    with directory_written_atomically(config.evaluation_dir) as directory:
        write_text(directory / REPORT, report)
        write_json(directory / METRICS_JSON, result.model_dump(mode="json"))
        write_per_query(
            directory / PER_QUERY,
            prepared,
            queries=task.queries,
            held_out=task.held_out,
            history=task.history,
            top={name: each.top for name, each in ranked.items()},
            ranks={name: each.ranks for name, each in ranked.items()},
            cutoffs=config.evaluation.cutoffs,
        )
        run = open_run(config, trained.mlflow_run_id)
        if run is not None:  # Else the training was tracked elsewhere.
            run.log([{"step": trained.best_step, **_tracked(result)}])
            run.save(directory / METRICS_JSON, "evaluation")
            run.save(directory / REPORT, "evaluation")
            run.save(directory / PER_QUERY, "evaluation")
        manifest = EvaluationManifest(
            fingerprint=_fingerprint(config, prepared, trained),
            training_fingerprint=trained.fingerprint,
            schema_fingerprint=trained.schema_fingerprint,
        )
        write_manifest(directory, manifest)


def _tracked(result: EvaluationResult) -> dict[str, float]:
    """`test.recall@10`, `test.tail.recall@10`, `test.popularity.recall@10` and so on."""
    groups: dict[str, Mapping[str, object]] = {
        "test": {**result.overall, **result.lists},
        **{f"test.{name}": figures for name, figures in result.slices.items()},
        **{f"test.{name}": method.overall for name, method in result.baselines.items()},
    }
    return {
        f"{group}.{name}": value
        for group, figures in groups.items()
        for name, value in figures.items()
        if isinstance(value, float)
    }


def _fingerprint(config: Config, prepared: Prepared, trained: "TrainManifest") -> str:
    """Of all that the evaluation depends on; a repeated training has another run."""
    settings = config.evaluation.model_dump(mode="json", exclude={"select_by"})
    parts = (trained.fingerprint, trained.mlflow_run_id, prepared.manifest.fingerprint)
    return fingerprint([*parts, settings])
