"""The `evaluate` stage: exact full-corpus metrics by slice, beside baselines, and a report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from feature_store.core.columns import Bools, Floats
from feature_store.core.documents import read_record
from feature_store.core.files import (
    directory_written_atomically,
    require_replaceable,
    write_json,
    write_text,
)
from feature_store.core.locks import locked, reading
from feature_store.core.manifests import fingerprint, read_manifest, write_manifest, written_as
from feature_store.core.settings import Frozen
from pipelines.prepared.reader import Prepared
from pipelines.reports.html import render_page
from pipelines.statistics.slices import SliceBounds
from recsys.checkpoint.load import load_model
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.data.builder import BatchBuilder
from recsys.evaluation.draw import most_queries
from recsys.evaluation.item_map import ITEMS, write_items
from recsys.evaluation.long_tail import frequency_bins
from recsys.evaluation.methods import Ranked, rank_all
from recsys.evaluation.per_query import PER_QUERY, write_per_query
from recsys.evaluation.repeats import repeats_sentences
from recsys.evaluation.results import METRICS_JSON, MODEL, TOWERS_CURVE, EvaluationResult
from recsys.evaluation.rivals import rivals_of, standings_of
from recsys.evaluation.task import Task
from recsys.fusion.curve import trade_off
from recsys.fusion.examples import EXAMPLES, write_examples
from recsys.fusion.fused import Fused
from recsys.fusion.queries import FusedQueries, methods_of
from recsys.fusion.sample import draw_sample
from recsys.fusion.weights import Weights
from recsys.model.encode import encode_items, encode_queries
from recsys.model.two_tower import TwoTower
from recsys.reports.evaluation import evaluation_page
from recsys.reports.run.run_data import Find, RunData
from recsys.stages.fuse import FusionManifest, fuse
from recsys.tracking import open_run

REPORT = "report.html"

_SPLIT = "test"


class EvaluationManifest(Frozen):
    """Marks the evaluation as finished."""

    version: int = 1
    fingerprint: str  # of the training, the prepared data and the settings of the evaluation
    training_fingerprint: str
    schema_fingerprint: str


_IS_OWN = written_as(EvaluationManifest)


def evaluate(config: Config, *, console: Console | None = None) -> EvaluationResult:
    """Measures the trained model on the test split, or returns at once where that is already done.

    Args:
        config: Configuration whose data is prepared and whose model is trained.
        console: Console to show progress on.

    Returns:
        What `metrics.json` in `config.evaluation_dir` holds, beside `report.html`.

    Raises:
        UserError: There is no trained model, or it is of other data than is prepared.
    """
    console = console or Console()
    require_replaceable(config.evaluation_dir, _IS_OWN)
    with reading(config.prepared_dir, config.train_dir):
        if (done := _up_to_date(config, console)) is not None:
            return done
        with locked(config.evaluation_dir):  # Another process may have written it meanwhile.
            return _up_to_date(config, console) or _evaluate(config, console)


def _up_to_date(config: Config, console: Console) -> EvaluationResult | None:
    """Returns the result where exactly this is already measured."""
    prepared = Prepared(config.prepared_dir)
    prepared.require_repeats(config.data.repeats)
    trained = read_manifest(config.train_dir, TrainManifest)
    done = read_manifest(config.evaluation_dir, EvaluationManifest)
    if trained and done and done.fingerprint == _fingerprint(config, prepared, trained):
        console.print(f"evaluate: {config.evaluation_dir} is up to date")
        path = config.evaluation_dir / METRICS_JSON
        return read_record(path, EvaluationResult)
    return None


def _evaluate(config: Config, console: Console) -> EvaluationResult:
    prepared = Prepared(config.prepared_dir)
    model, trained = load_model(config)
    repeats = prepared.manifest.data.repeats
    task = Task.of(prepared, _SPLIT, most_queries(prepared.num_items))
    for sentence in repeats_sentences(task.counts, _SPLIT, repeats):
        console.print(f"evaluate: {sentence}", highlight=False, soft_wrap=True)
    if not len(task.queries):
        console.print(
            f"evaluate: warning: the {_SPLIT} split has no held-out items, so there are no "
            "metrics; choose another data.split"
        )
    query_vectors, item_vectors = _vectors(config, prepared, model, task)
    fusion = fuse(config, console=console) if config.ranking.channels else None
    fused = Fused.read(config.fusion_dir) if fusion is not None else None
    queries = FusedQueries.of(prepared, task, query_vectors, item_vectors)
    ranked = rank_all(config, prepared, methods_of(fused, queries), task, console)
    measured = {name: each.measured for name, each in ranked.items()}
    bounds = SliceBounds.of(prepared.item_frequency)
    slices = bounds.members(prepared.item_frequency)
    standings = standings_of(MODEL, {name: each.ranks for name, each in ranked.items()}, slices)
    result = EvaluationResult(
        **measured.pop(MODEL).model_dump(),
        baselines=measured,
        counts={**task.counts, "items": int(prepared.is_current_item.sum())},
        slice_bounds=bounds,
        split=prepared.manifest.data.split.kind,
        history=prepared.manifest.data.history.kind,
        repeats=repeats,
        prepared_fingerprint=prepared.manifest.fingerprint,
        training_fingerprint=trained.fingerprint,
        mlflow_run_id=trained.mlflow_run_id,
        long_tail=frequency_bins(
            prepared.item_frequency,
            prepared.is_current_item,
            {name: each.top for name, each in ranked.items()},
            {name: each.ranks for name, each in ranked.items()},
        ),
        standings=tuple(standings),
        rivals=tuple(rivals_of(standings)),
        **_fusion_facts(fused, fusion, queries, slices),
    )
    _write(config, prepared, trained, result, queries, fused, ranked)
    console.print(f"evaluate: wrote {config.evaluation_dir}")
    return result


def _vectors(
    config: Config, prepared: Prepared, model: TwoTower, task: Task
) -> tuple[Floats, Floats]:
    """Returns the vectors of the task's queries and of all items."""
    builder, cpu = BatchBuilder(prepared, config), torch.device("cpu")
    context = prepared.context_of(task.queries, task.split)
    queries = encode_queries(model, builder, task.queries, task.history, context, cpu)
    return queries, encode_items(model, builder, cpu)


def _fusion_facts(
    fused: Fused | None,
    fusion: FusionManifest | None,
    queries: FusedQueries,
    slices: Mapping[str, Bools],
) -> dict[str, Any]:
    """Returns the fields of the result that tell about the fused ranking; none without one."""
    if fused is None or fusion is None:
        return {}
    curves = {"validation": fusion.trade_off}
    if len(queries.task.queries):
        sample = draw_sample(fused, queries)
        curves["test"] = trade_off(sample, slices, fusion.weights)
        curves[TOWERS_CURVE] = trade_off(sample, slices, Weights())
    return {
        "weights": fusion.weights.by_part(list(fused.info.channels)),
        "left_out": fusion.left_out,
        "trade_off": curves,
    }


def _write(
    config: Config,
    prepared: Prepared,
    trained: TrainManifest,
    result: EvaluationResult,
    queries: FusedQueries,
    fused: Fused | None,
    ranked: Mapping[str, Ranked],
) -> None:
    """Writes the directory, and adds it to the training's run."""
    task, own = queries.task, ranked[MODEL]
    with directory_written_atomically(config.evaluation_dir, _IS_OWN) as directory:
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
        write_items(directory / ITEMS, config, prepared, queries.item_vectors)
        write_examples(directory / EXAMPLES, prepared, queries, fused, own.top, own.ranks)
        data = RunData(config.tracking.experiment, trained.mlflow_run_id, _files(config, directory))
        page = evaluation_page(data, prepared, trained.config, trained.best_step)
        write_text(directory / REPORT, render_page(page))
        run = open_run(config, trained.mlflow_run_id)
        if run is not None:  # Else the training was tracked elsewhere.
            run.log([{"step": trained.best_step, **_tracked(result)}])
            for name in (METRICS_JSON, REPORT, PER_QUERY, ITEMS, EXAMPLES):
                run.save(directory / name, "evaluation")
        manifest = EvaluationManifest(
            fingerprint=_fingerprint(config, prepared, trained),
            training_fingerprint=trained.fingerprint,
            schema_fingerprint=trained.schema_fingerprint,
        )
        write_manifest(directory, manifest)


def _files(config: Config, evaluation: Path) -> Find:
    """Finds the files of a run before MLflow has them."""
    folders = {
        "evaluation": evaluation,
        "data": config.prepared_dir / "statistics",
        "diagnostics": config.train_dir / "diagnostics",
    }

    def find(name: str) -> Path | None:
        folder, _, rest = name.rpartition("/")
        path = folders.get(folder, config.train_dir) / rest
        return path if path.is_file() else None

    return find


def _tracked(result: EvaluationResult) -> dict[str, float]:
    """Returns the metrics to track: `test.recall@10`, `test.tail.recall@10` and so on."""
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


def _fingerprint(config: Config, prepared: Prepared, trained: TrainManifest) -> str:
    """Identifies an evaluation by all that it depends on; a repeated training has another run."""
    settings = config.evaluation.model_dump(mode="json", exclude={"select_by", "ranking_tasks"})
    parts = (trained.fingerprint, trained.mlflow_run_id, prepared.manifest.fingerprint)
    bounds = SliceBounds.of(prepared.item_frequency).marks()
    return fingerprint([*parts, settings, config.ranking.model_dump(mode="json"), *bounds])
