"""A bundle written from a trained model, taken through the gate, and sealed."""

from pathlib import Path

import numpy as np
from rich.console import Console

from feature_store.core.columns import Ints
from feature_store.core.files import directory_written_atomically, write_array, write_text
from feature_store.core.manifests import read_manifest, written_as
from pipelines.prepared.reader import Prepared
from pipelines.process import quiet_engines
from pipelines.reports.html import render_page
from pipelines.reports.words import plural_of, word_for
from pipelines.statistics.slices import item_slices
from recsys.checkpoint.load import load_model
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.data.builder import BatchBuilder
from recsys.fusion.fused import Fused
from recsys.stages.fuse import fuse
from serving.bundle.manifest import (
    FUSION,
    INDEX,
    INDEXED,
    BundleManifest,
    DataWindow,
    FusionReport,
    Gate,
    HistoryRule,
    seal,
)
from serving.bundle.report import REPORT, bundle_page
from serving.exporting.answers import golden_answers
from serving.exporting.candidates import Validation, measure_candidates
from serving.exporting.champion import Judgement, evaluated_result, recorded_metrics
from serving.exporting.content_neighbours import write_content
from serving.exporting.contents import write_contents
from serving.exporting.fingerprint import bundle_fingerprint
from serving.exporting.gate import require_recall
from serving.exporting.golden import require_served_golden
from serving.exporting.towers import write_trained_towers
from serving.exporting.trained import Trained
from serving.exporting.vectors import (
    compare_items,
    compare_queries,
    item_vectors,
    write_query_vectors,
)
from serving.index.build import build_index, require_inner_product
from serving.index.index import ItemIndex
from serving.index.recall import recall_by_slice
from serving.recommend.golden import require_golden, write_golden
from serving.recommend.load import open_bundle
from serving.server.app import create_app
from serving.server.service import Service

_IS_OWN = written_as(BundleManifest)


def write_bundle(
    config: Config, served: Config, judgement: Judgement | None, console: Console
) -> BundleManifest:
    """Writes the bundle of the model below the output of `served`, or nothing.

    Args:
        config: Configuration of the evaluated model.
        served: Configuration of the model to write: the evaluated one, or its refit.
        judgement: Comparison with the champion; None: there was none.
        console: Console of progress.

    Returns:
        The manifest of `config.bundle_dir`.

    Raises:
        UserError: The gate is not passed.
    """
    model, manifest = load_model(served)
    fused = None
    if config.ranking.channels:
        if served is config:
            fuse(config, console=console)
        fused = Fused.read(served.fusion_dir)
    evaluated = read_manifest(config.train_dir, TrainManifest)
    assert evaluated is not None
    prepared, held_out = Prepared(served.prepared_dir), Prepared(config.prepared_dir)
    trained = Trained(config, manifest, prepared, model, fused, evaluated, held_out)
    console.print("export: exporting the towers, building the index and checking both")
    with directory_written_atomically(config.bundle_dir, _IS_OWN) as directory:
        bundle = _write(directory, trained, judgement)
    index, queries = bundle.index, plural_of(bundle.query)
    console.print(
        f"export: {bundle.items:,} items and {bundle.queries:,} {queries} to {config.bundle_dir}; "
        f"{index.kind} index, recall@100 {index.recall:.4f}"
    )
    if bundle.fusion is not None and bundle.fusion.warning is not None:
        console.print(f"export: {bundle.fusion.warning}")
    return bundle


def _write(directory: Path, trained: Trained, judgement: Judgement | None) -> BundleManifest:
    """Fills the directory, and takes it through the gate."""
    quiet_engines()
    prepared, config = trained.prepared, trained.config
    builder = BatchBuilder(prepared, trained.manifest.config)
    write_contents(directory, config, prepared)
    write_trained_towers(directory, trained.model, trained.manifest.config.model, prepared)
    indexed = np.flatnonzero(prepared.is_current_item)
    write_array(directory / INDEXED, indexed)
    vectors = item_vectors(directory, trained, builder, indexed)
    item_difference = compare_items(directory, trained, builder, vectors, indexed)
    queries, query_difference = compare_queries(directory, trained, builder)
    write_query_vectors(directory, trained, builder)
    index, report = build_index(vectors, queries, config.export)
    require_inner_product(index, vectors)
    index.write(directory / INDEX)
    slices = {n: is_in[indexed] for n, is_in in item_slices(prepared.item_frequency).items()}
    by_slice = recall_by_slice(index, vectors, queries, slices)
    require_recall(by_slice, config.export.min_slice_recall)
    fusion = _write_fusion(directory, trained, builder, index, indexed)
    golden = golden_answers(directory, trained, builder, index, indexed)
    write_golden(directory, golden)
    evaluated = trained.evaluated
    metrics, slices_of_test = recorded_metrics(config, evaluated)
    log, latest = prepared.manifest, prepared.latest_before_test()
    manifest = BundleManifest(
        fingerprint=bundle_fingerprint(config, evaluated),
        schema_fingerprint=log.schema_fingerprint,
        training_fingerprint=evaluated.fingerprint,
        mlflow_run_id=evaluated.mlflow_run_id,
        refit=trained.refit(),
        items=len(indexed),
        queries=prepared.num_queries,
        query=word_for(log.data, prepared.features),
        dim=trained.model.dim,
        data_window=DataWindow(
            first_event=log.first_event,
            last_event=log.last_event,
            histories_to=latest.isoformat() if latest is not None else None,
            as_of=log.as_of,
        ),
        metrics=metrics,
        slices=slices_of_test,
        history=HistoryRule(
            max_length=log.data.history.max_length, is_distinct=log.data.history.distinct
        ),
        repeats=log.data.repeats,
        trained_items=prepared.num_items,
        index=report,
        gate=Gate(
            item_difference=item_difference,
            query_difference=query_difference,
            recall_by_slice=by_slice,
            champion=judgement.champion if judgement is not None else None,
            changes=judgement.comparison.changes("recall@50") if judgement is not None else {},
        ),
        fusion=fusion,
    )
    page = bundle_page(
        manifest,
        config.export.min_ann_recall,
        evaluated_result(config, evaluated),
        judgement.comparison if judgement is not None else None,
    )
    write_text(directory / REPORT, render_page(page))
    sealed = seal(directory, manifest)
    recommender = open_bundle(directory, sealed)
    require_golden(recommender, golden)
    app = create_app(Service.of(recommender.as_evaluated()))
    require_served_golden(app, golden, is_exact=recommender.is_exact)
    return sealed


def _write_fusion(
    directory: Path, trained: Trained, builder: BatchBuilder, index: ItemIndex, indexed: Ints
) -> FusionReport | None:
    """Writes the channels that count, and measures what candidates cost; None without channels."""
    if trained.fused is None:
        return None
    needed = trained.fused.needed()
    needed.save(directory / FUSION)
    write_content(directory, trained.prepared, needed)
    if index.kind.is_exact:
        weights = trained.fused.info.weights
        return FusionReport(weights=weights, candidates=0, exact_recall=None, recall=None)
    # A refit has seen these events in training, and still shows what candidates cost.
    validation = Validation.draw(trained.held_out, trained.model, builder)
    return measure_candidates(trained.prepared, validation, trained.fused, index, indexed)
