"""The work of `evaluate`: ranks, measures, and writes figures, rows and the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from feature_store.core.columns import Bools, Floats
from feature_store.core.files import (
    directory_written_atomically,
    write_json,
    write_text,
)
from feature_store.core.manifests import write_manifest, written_as
from pipelines.prepared.reader import Prepared
from pipelines.reports.html import render_page
from pipelines.reports.words import reworded, word_for
from pipelines.statistics.slices import SliceBounds
from recsys.checkpoint.load import load_model
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.data.builder import BatchBuilder
from recsys.evaluation.draw import most_queries
from recsys.evaluation.item_map import write_items
from recsys.evaluation.long_tail import frequency_bins
from recsys.evaluation.methods import Ranked, rank_all
from recsys.evaluation.per_query import PER_QUERY, write_per_query
from recsys.evaluation.repeats import repeats_sentences
from recsys.evaluation.results import ITEMS, METRICS_JSON, MODEL, TOWERS_CURVE, EvaluationResult
from recsys.evaluation.rivals import judged_cutoff, rivals_of, standings_of
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
from recsys.reports.note import run_note
from recsys.reports.run.run_data import Find, RunData
from recsys.stages.champion import champion_verdict
from recsys.stages.evaluated import EvaluationManifest, evaluation_fingerprint
from recsys.stages.fuse import FusionManifest, fuse
from recsys.tracking import open_run

REPORT = "report.html"

_SPLIT = "test"
_IS_OWN = written_as(EvaluationManifest)


def measure_model(config: Config, console: Console) -> EvaluationResult:
    """Measures the trained model, and writes `config.evaluation_dir`.

    Args:
        config: Configuration whose model is trained.
        console: Console to show progress on.
    """
    prepared = Prepared(config.prepared_dir)
    model, trained = load_model(config)
    repeats = prepared.manifest.data.repeats
    query = word_for(prepared.manifest.data, prepared.features)
    task = Task.of(prepared, _SPLIT, most_queries(prepared.num_items))
    for sentence in repeats_sentences(task.counts, _SPLIT, repeats):
        said = reworded(sentence, query)
        console.print(f"evaluate: {said}", highlight=False, soft_wrap=True)
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
    console.print("evaluate: testing the differences to the baselines")
    cutoff = judged_cutoff(int(prepared.is_current_item.sum()))
    all_ranks = {name: each.ranks for name, each in ranked.items()}
    standings = standings_of(MODEL, all_ranks, slices, cutoff)
    result = EvaluationResult(
        **measured.pop(MODEL).model_dump(),
        baselines=measured,
        counts={**task.counts, "items": int(prepared.is_current_item.sum())},
        query=query,
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
            all_ranks,
        ),
        judged_by=f"recall@{cutoff}",
        standings=tuple(standings),
        rivals=tuple(rivals_of(standings)),
        **_fusion_facts(fused, fusion, queries, slices),
    )
    _write(config, prepared, trained, result, queries, fused, ranked, console)
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
    console: Console,
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
        on_map = min(config.evaluation.map_items, int(prepared.is_current_item.sum()))
        console.print(f"evaluate: drawing the map of {on_map:,} items")
        write_items(directory / ITEMS, config, prepared, queries.item_vectors)
        console.print("evaluate: writing examples and the report")
        write_examples(directory / EXAMPLES, prepared, queries, fused, own.top, own.ranks)
        data = RunData(config.tracking.experiment, trained.mlflow_run_id, _files(config, directory))
        champion = champion_verdict(config, result, directory)
        page = evaluation_page(data, prepared, trained.config, trained.best_step, champion)
        write_text(directory / REPORT, render_page(page))
        run = open_run(config, trained.mlflow_run_id)
        if run is not None:  # Else the training was tracked elsewhere.
            run.log([{"step": trained.best_step, **_tracked(result)}], of_model=True)
            run.describe(run_note(result))
            for name in (METRICS_JSON, REPORT, PER_QUERY, ITEMS, EXAMPLES):
                run.save(directory / name, "evaluation")
        manifest = EvaluationManifest(
            fingerprint=evaluation_fingerprint(config, prepared, trained),
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
    """Returns the metrics to track: `test.recall@10`, `test.tail.recall@10` and so on.

    MLflow has them as `test/tail/recall_at_10`; see `recsys.tracked.metric_name`.
    """
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
