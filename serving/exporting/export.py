"""The `export` stage: a sealed bundle of a trained model that passes the gate."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console

from feature_store.core.columns import Floats, Ints, read_columns, take_rows
from feature_store.core.errors import UserError
from feature_store.core.files import (
    directory_written_atomically,
    require_replaceable,
    write_array,
    write_text,
)
from feature_store.core.locks import locked, reading
from feature_store.core.manifests import fingerprint, read_manifest, written_as
from feature_store.core.times import microseconds
from feature_store.encoding.context import NO_TIME, request_table
from pipelines.prepared.reader import Prepared
from pipelines.process import quiet_engines
from pipelines.reports.html import render_page
from pipelines.statistics.popularity import item_slices
from recsys.channels.sources import Sources
from recsys.checkpoint.load import load_model
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.data.builder import BatchBuilder
from recsys.evaluation.task import known_to_channels
from recsys.fusion.fused import Fused
from recsys.model.encode import encode_items, encode_queries
from recsys.model.two_tower import TwoTower
from recsys.stages.fuse import fuse
from recsys.stages.refit import refit
from serving.batch.item_vectors import map_item_vectors, write_item_vectors, write_parts
from serving.bundle.manifest import (
    FUSION,
    INDEX,
    INDEXED,
    ITEM_FEATURES,
    QUERY_VECTORS,
    VERSION,
    BundleManifest,
    DataWindow,
    FusionReport,
    Gate,
    HistoryRule,
    Refit,
    seal,
    verify,
)
from serving.bundle.manifest import read_manifest as read_bundle_manifest
from serving.bundle.report import REPORT, bundle_page
from serving.bundle.tower_files import read_item_tower, read_query_tower
from serving.exporting.candidates import Validation, measure_candidates
from serving.exporting.champion import (
    Judgement,
    evaluated_result,
    judge,
    recorded_metrics,
    require_not_worse,
)
from serving.exporting.content_neighbours import write_content
from serving.exporting.contents import write_contents
from serving.exporting.gate import (
    difference,
    require_finite,
    require_recall,
)
from serving.exporting.golden import FusedRequests, golden_queries, require_served_golden
from serving.exporting.towers import write_trained_towers
from serving.index.build import build_index, require_inner_product
from serving.index.index import ItemIndex
from serving.index.recall import recall_by_slice
from serving.recommend.golden import Golden, require_golden, write_golden
from serving.recommend.load import open_bundle, read_snapshot
from serving.registry.registry import register
from serving.server.app import create_app
from serving.server.service import Service

_IS_OWN = written_as(BundleManifest)
_CPU = torch.device("cpu")

# Items and queries that the gate compares and measures with, drawn anew for each training, and
# queries of these that are asked through every path.
_SAMPLE = 1000
_GOLDEN = 20


@dataclass(frozen=True)
class _Trained:
    """The trained model with its configuration and data.

    Attributes:
        config: Configuration of the export.
        manifest: Manifest of its training.
        prepared: Data that it was trained on.
        model: Model without its losses.
        fused: Channels and weights; None: the model ranks alone.
        evaluated: Manifest of the evaluated training, which is another one after a refit.
        held_out: Data that the evaluated training was validated on.
    """

    config: Config
    manifest: TrainManifest
    prepared: Prepared
    model: TwoTower
    fused: Fused | None
    evaluated: TrainManifest
    held_out: Prepared

    def sample(self, total: int) -> Ints:
        """Draws the rows of the gate's sample, ascending."""
        random = np.random.default_rng(int(self.manifest.fingerprint, 16))
        return np.sort(random.choice(total, min(total, _SAMPLE), replace=False))


def export(config: Config, *, console: Console | None = None) -> BundleManifest:
    """Writes the bundle of the trained model, or returns at once where that is already there.

    Nothing is written, and an earlier bundle stays, unless the gate is passed: the evaluated model
    not worse than the champion, all vectors finite, exported and trained towers equal, and the
    index good enough. With `config.refits` the model is
    trained once more before, on all events, and the snapshot of queries reaches to the last one.
    Otherwise the snapshot is what the test was made with: their history before it, and their items
    of training and validation; beside it are their items of the test, for these are no answers any
    more.

    Args:
        config: Configuration whose training is finished.
        console: Console of progress.

    Returns:
        The manifest of `config.bundle_dir`.

    Raises:
        UserError: There is no finished training, the gate is not passed, or the bundle's directory
            holds something else.
    """
    console = console or Console()
    require_replaceable(config.bundle_dir, _IS_OWN)
    inputs = (config.prepared_dir, config.train_dir, config.evaluation_dir)
    with reading(*inputs, config.bundle_dir):
        bundle = _up_to_date(config)
        if bundle is not None:
            console.print(f"export: {config.bundle_dir} is up to date")
            _register(config, bundle, console)
            return bundle
    judgement = _judged(config, console)
    served = refit(config, console=console) if config.refits else config
    with (
        reading(*inputs, served.prepared_dir, served.train_dir),
        locked(config.bundle_dir),  # Another process may have written it meanwhile.
    ):
        bundle = _up_to_date(config) or _export(config, served, judgement, console)
        _register(config, bundle, console)
        return bundle


def _up_to_date(config: Config) -> BundleManifest | None:
    """Returns the manifest of the bundle where it is exactly this one, and intact."""
    finished = read_manifest(config.train_dir, TrainManifest)
    with suppress(UserError):
        bundle = read_bundle_manifest(config.bundle_dir)
        is_done = finished is not None and bundle.fingerprint == _fingerprint(config, finished)
        if is_done and bundle.repeats == config.data.repeats:
            return verify(config.bundle_dir)
    return None


def _judged(config: Config, console: Console) -> Judgement | None:
    """Compares the evaluated model with the champion, before anything is spent on a worse one."""
    evaluated = read_manifest(config.train_dir, TrainManifest)
    if evaluated is None:
        raise UserError(f"{config.train_dir} holds no trained model; run `recsys train` first.")
    say = partial(console.print, "export:", highlight=False, soft_wrap=True)
    judgement = judge(config, evaluated, say)
    require_not_worse(judgement)
    if judgement is not None:
        say(f"compared with the champion (A): {judgement.sentence()}")
    return judgement


def _export(
    config: Config, served: Config, judgement: Judgement | None, console: Console
) -> BundleManifest:
    """Exports the model below the output of `served`: the evaluated one, or its refit."""
    model, manifest = load_model(served)
    fused = None
    if config.ranking.channels:
        if served is config:
            fuse(config, console=console)
        fused = Fused.read(served.fusion_dir)
    evaluated = read_manifest(config.train_dir, TrainManifest)
    assert evaluated is not None
    prepared, held_out = Prepared(served.prepared_dir), Prepared(config.prepared_dir)
    trained = _Trained(config, manifest, prepared, model, fused, evaluated, held_out)
    with directory_written_atomically(config.bundle_dir, _IS_OWN) as directory:
        bundle = _write(directory, trained, judgement)
    index = bundle.index
    console.print(
        f"export: {bundle.items} items and {bundle.queries} queries to {config.bundle_dir}; "
        f"{index.kind} index, recall@100 {index.recall:.4f}"
    )
    if bundle.fusion is not None and bundle.fusion.warning is not None:
        console.print(f"export: {bundle.fusion.warning}")
    return bundle


def _register(config: Config, bundle: BundleManifest, console: Console) -> None:
    """Registers a bundle unless it is; a run that was killed before makes up for it."""
    registered = register(config, bundle, config.bundle_dir)
    if registered is not None:
        console.print(f"export: {registered.sentence()}")


def _fingerprint(config: Config, trained: TrainManifest) -> str:
    """Computes the fingerprint of a bundle's sources; a repeated training has another run.

    Args:
        config: Configuration of the export.
        trained: Evaluated training, of which the refit is a function.
    """
    settings = [each.model_dump(mode="json") for each in (config.export, config.ranking)]
    return fingerprint(
        [VERSION, trained.fingerprint, trained.mlflow_run_id, config.refits, settings]
    )


def _write(directory: Path, trained: _Trained, judgement: Judgement | None) -> BundleManifest:
    """Fills the directory, and takes it through the gate."""
    quiet_engines()
    prepared, config = trained.prepared, trained.config
    builder = BatchBuilder(prepared, trained.manifest.config)
    write_contents(directory, config, prepared)
    write_trained_towers(directory, trained.model, trained.manifest.config.model, prepared)
    indexed = np.flatnonzero(prepared.is_current_item)
    write_array(directory / INDEXED, indexed)
    vectors = _item_vectors(directory, trained, builder, indexed)
    item_difference = _compare_items(directory, trained, builder, vectors, indexed)
    queries, query_difference = _compare_queries(directory, trained, builder)
    _write_query_vectors(directory, trained, builder)
    index, report = build_index(vectors, queries, config.export)
    require_inner_product(index, vectors)
    index.write(directory / INDEX)
    slices = {n: is_in[indexed] for n, is_in in item_slices(prepared.item_frequency).items()}
    by_slice = recall_by_slice(index, vectors, queries, slices)
    require_recall(by_slice, config.export.min_slice_recall)
    fusion = _write_fusion(directory, trained, builder, index, indexed)
    golden = _golden(directory, trained, builder, index, indexed)
    write_golden(directory, golden)
    evaluated = trained.evaluated
    metrics, slices_of_test = recorded_metrics(config, evaluated)
    log, latest = prepared.manifest, prepared.latest_before_test()
    manifest = BundleManifest(
        fingerprint=_fingerprint(config, evaluated),
        schema_fingerprint=log.schema_fingerprint,
        training_fingerprint=evaluated.fingerprint,
        mlflow_run_id=evaluated.mlflow_run_id,
        refit=_refit(trained),
        items=len(indexed),
        queries=prepared.num_queries,
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


def _refit(trained: _Trained) -> Refit | None:
    if trained.manifest.fingerprint == trained.evaluated.fingerprint:
        return None
    return Refit(
        training_fingerprint=trained.manifest.fingerprint,
        mlflow_run_id=trained.manifest.mlflow_run_id,
        steps=trained.manifest.steps,
        events=trained.prepared.manifest.counts.train,
        evaluated_events=trained.held_out.manifest.counts.train,
    )


def _item_vectors(
    directory: Path, trained: _Trained, builder: BatchBuilder, indexed: Ints
) -> Floats:
    """Computes the vectors of indexed items, [positions, dim], and writes them for others."""
    actors = trained.config.export.vector_actors
    if actors is not None:
        write_item_vectors(directory, actors=actors)
        file = directory / "vectors.npy"
        vectors = map_item_vectors(directory, file)
        file.unlink()  # It stays mapped, for as long as this process runs.
        return vectors
    vectors = encode_items(trained.model, builder, _CPU, indexed)
    require_finite(vectors, "item")
    ids = trained.prepared.item_encoder.ids.tokens.take(pa.array(indexed))
    write_parts(directory, ids, vectors)
    return vectors


def _compare_items(
    directory: Path, trained: _Trained, builder: BatchBuilder, vectors: Floats, indexed: Ints
) -> float:
    """Runs the written tower on the written features, and returns the largest difference."""
    positions = trained.sample(len(indexed))
    items = indexed[positions]
    expected = encode_items(trained.model, builder, _CPU, items)
    columns = take_rows(read_columns(directory / ITEM_FEATURES), items)
    exported = read_item_tower(directory, trained.prepared.features)(columns, len(items))
    return max(
        difference(exported, expected, "item"), difference(vectors[positions], expected, "item")
    )


def _compare_queries(
    directory: Path, trained: _Trained, builder: BatchBuilder
) -> tuple[Floats, float]:
    """Runs the written tower on the written snapshot.

    Returns:
        Vectors of the sample by the trained model, and the largest difference from these.
    """
    schema = trained.prepared.features
    queries = trained.sample(trained.prepared.num_queries)
    snapshot = read_snapshot(directory)
    history = snapshot.history.take(queries)
    context = trained.prepared.context_of(queries, "test")
    expected = encode_queries(trained.model, builder, queries, history, context, _CPU)
    require_finite(expected, "query")
    tower = read_query_tower(directory, schema)
    exported = tower(take_rows(snapshot.columns, queries), len(queries), history, context)
    return expected, difference(exported, expected, "query")


def _write_query_vectors(directory: Path, trained: _Trained, builder: BatchBuilder) -> None:
    """Writes vectors of the snapshot's queries, for answers without the tower."""
    prepared = trained.prepared
    if prepared.features.context:
        return
    queries = np.arange(prepared.num_queries)
    history = read_snapshot(directory).history
    vectors = encode_queries(trained.model, builder, queries, history, {}, _CPU)
    require_finite(vectors, "query")
    write_array(directory / QUERY_VECTORS, vectors)


def _write_fusion(
    directory: Path, trained: _Trained, builder: BatchBuilder, index: ItemIndex, indexed: Ints
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


def _golden(
    directory: Path, trained: _Trained, builder: BatchBuilder, index: ItemIndex, indexed: Ints
) -> list[Golden]:
    """Computes answers of the trained model itself.

    Args:
        directory: Bundle, with the snapshot.
        trained: Trained model.
        builder: Builder of its batches.
        index: Index of the bundle.
        indexed: Item at each position of the index.
    """
    prepared = trained.prepared
    sample = trained.sample(prepared.num_queries)
    names = prepared.query_encoder.ids.tokens
    queries = sample[:: max(1, len(sample) // _GOLDEN)]
    queries = queries[names.take(pa.array(queries)).is_valid().to_numpy(zero_copy_only=False)]
    snapshot = read_snapshot(directory)
    at = datetime.fromisoformat(prepared.manifest.as_of)
    encoder = prepared.context_encoder
    latest = np.full(len(queries), NO_TIME)
    if snapshot.latest is not None:
        latest = snapshot.latest[queries]
    raw = request_table(encoder.features, {}, microseconds(at), latest)
    history = snapshot.history.take(queries)
    known = known_to_channels(prepared, "test").take(queries)
    sources = Sources(history, known, prepared.own_items.take(queries))
    vectors = encode_queries(trained.model, builder, queries, history, encoder.encode(raw), _CPU)
    return golden_queries(
        [(name, at) for name in names.take(pa.array(queries)).to_pylist()],
        vectors,
        snapshot.evaluated(queries, prepared.manifest.data.repeats),
        index,
        indexed,
        prepared.item_encoder.ids.tokens,
        None if trained.fused is None else FusedRequests(trained.fused, sources),
    )
