"""The `export` stage: a trained model to a sealed bundle, if it passes the gate."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console

from feature_store.columns import Floats, Ints, read_columns, write_columns
from feature_store.errors import UserError
from feature_store.storage import (
    MANIFEST,
    directory_written_atomically,
    fingerprint,
    read_manifest,
    write_array,
    write_atomically,
    write_parquet,
    write_text,
)
from pipelines.prepared import Prepared
from recsys.collate import BatchBuilder
from recsys.config import Config
from recsys.encode import encode_items, encode_queries
from recsys.evaluation import METRICS_JSON
from recsys.model import TwoTower
from recsys.results import EvaluationResult
from recsys.tracking import open_run
from recsys.training import TrainManifest, load_model
from serving.bundle import read_snapshot
from serving.index import build_index
from serving.programs import TowerProgram, take_rows
from serving.seal import (
    INDEX,
    ITEM_FEATURES,
    ITEM_TITLES,
    ITEM_TOWER,
    ITEM_VECTORS,
    QUERY_FEATURES,
    QUERY_LATEST,
    QUERY_STATE,
    QUERY_TOWER,
    SCHEMA,
    VERSION,
    VOCABULARY,
    BundleManifest,
    DataWindow,
    Gate,
    seal,
    verify,
)
from serving.towers import visible_item_columns, write_towers

_CPU = torch.device("cpu")

# The gate compares and measures on so many items and queries, drawn anew for each training.
_SAMPLE = 1000
_MAX_DIFFERENCE = 1e-4

# Of one Parquet file of vectors.
_PART_ROWS = 500_000


@dataclass(frozen=True)
class _Trained:
    """What a bundle is made of."""

    config: Config
    manifest: TrainManifest
    prepared: Prepared
    model: TwoTower

    def sample(self, total: int) -> Ints:
        """Sorted rows of the gate's sample."""
        random = np.random.default_rng(int(self.manifest.fingerprint, 16))
        return np.sort(random.choice(total, min(total, _SAMPLE), replace=False))


def export(config: Config, *, console: Console | None = None) -> BundleManifest:
    """Writes the bundle of the trained model, or returns at once where that is already there.

    Nothing is written, and an earlier bundle stays, unless the gate is passed: all vectors finite,
    exported and trained towers equal, and the index good enough. The snapshot of queries is what
    the test was made with: their history before it, and their items of training and validation.

    Args:
        config: Its training must be done.
        console: For progress.

    Returns:
        The manifest of `config.bundle_dir`; see `serving.seal`.

    Raises:
        UserError: There is no finished training, or the gate is not passed.
    """
    console = console or Console()
    done = _intact(config.bundle_dir)
    finished = read_manifest(config.train_dir, TrainManifest)
    if done and finished and done.fingerprint == _fingerprint(config, finished):
        console.print(f"export: {config.bundle_dir} is up to date")
        return done
    model, manifest = load_model(config)
    trained = _Trained(config, manifest, Prepared(config.prepared_dir), model)
    with directory_written_atomically(config.bundle_dir) as directory:
        bundle = _write(directory, trained)
        _track(config, directory, bundle)
    index = bundle.index
    console.print(
        f"export: {bundle.items} items and {bundle.queries} queries to {config.bundle_dir}; "
        f"{index.kind} index, recall@100 {index.recall:.4f}"
    )
    return bundle


def _intact(directory: Path) -> BundleManifest | None:
    try:
        return verify(directory)
    except UserError:
        return None


def _fingerprint(config: Config, trained: TrainManifest) -> str:
    """Of all that a bundle depends on; a repeated training has another run."""
    settings = config.export.model_dump(mode="json")
    return fingerprint([VERSION, trained.fingerprint, trained.mlflow_run_id, settings])


def _write(directory: Path, trained: _Trained) -> BundleManifest:
    """Fills the directory, and takes it through the gate."""
    # TorchRec asks whether it is traced, in a way that torch warns of.
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
    prepared = trained.prepared
    builder = BatchBuilder(prepared, trained.manifest.config)
    vectors = encode_items(trained.model, builder, _CPU)
    _require_finite(vectors, "item")
    _write_features(directory, trained)
    write_towers(directory, trained.model, prepared)
    indexed = np.flatnonzero(prepared.is_current_item)
    ids = prepared.item_encoder.ids.tokens.take(pa.array(indexed))
    _write_vectors(directory, ids, vectors[indexed])
    query_vectors, gate = _compare_towers(directory, trained, builder, vectors)
    index, report = build_index(
        vectors[indexed], query_vectors, min_recall=trained.config.export.min_ann_recall
    )
    index.write(directory / INDEX)
    log = prepared.manifest
    return seal(
        directory,
        BundleManifest(
            fingerprint=_fingerprint(trained.config, trained.manifest),
            schema_fingerprint=log.schema_fingerprint,
            training_fingerprint=trained.manifest.fingerprint,
            mlflow_run_id=trained.manifest.mlflow_run_id,
            items=len(indexed),
            queries=prepared.num_queries,
            dim=trained.model.dim,
            data_window=DataWindow(
                first_event=log.first_event, last_event=log.last_event, as_of=log.as_of
            ),
            metrics=_metrics(trained),
            index=report,
            gate=gate,
        ),
    )


def _write_features(directory: Path, trained: _Trained) -> None:
    prepared = trained.prepared
    write_text(directory / SCHEMA, prepared.features.model_dump_json(indent=2) + "\n")
    for encoder in (prepared.item_encoder, prepared.query_encoder, prepared.context_encoder):
        encoder.save(directory / VOCABULARY)
    write_columns(directory / ITEM_FEATURES, visible_item_columns(prepared))
    write_columns(directory / QUERY_FEATURES, prepared.query_columns)
    state = prepared.query_state
    write_columns(
        directory / QUERY_STATE,
        {"history": state.history("test"), "excluded": prepared.excluded("test")},
    )
    if prepared.latest_event is not None:
        write_array(directory / QUERY_LATEST, prepared.latest_event)
    titles = _titles(trained)
    if titles is not None:
        _write_titles(directory / ITEM_TITLES, titles)


def _titles(trained: _Trained) -> pa.Array | None:
    from recsys.titles import item_titles

    return item_titles(trained.config, trained.prepared)


def _write_titles(path: Path, titles: pa.Array) -> None:
    table = pa.table({"title": titles})

    def write(temporary: Path) -> None:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows))

    write_atomically(path, write)


def _write_vectors(directory: Path, ids: pa.Array, vectors: Floats) -> None:
    for part, start in enumerate(range(0, len(vectors), _PART_ROWS)):
        block = vectors[start : start + _PART_ROWS]
        column = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), block.shape[1])
        write_parquet(
            directory / ITEM_VECTORS / f"part-{part:05d}.parquet",
            pa.table({"item_id": ids[start : start + _PART_ROWS], "vector": column}),
        )


def _compare_towers(
    directory: Path, trained: _Trained, builder: BatchBuilder, item_vectors: Floats
) -> tuple[Floats, Gate]:
    """Runs the written programs on the written features; also gives the sampled query vectors."""
    schema = trained.prepared.features
    items = trained.sample(trained.prepared.num_items)
    columns = take_rows(read_columns(directory / ITEM_FEATURES), items)
    found = TowerProgram(directory / ITEM_TOWER, schema.item)(columns, len(items))
    item_difference = _difference(found, item_vectors[items], "item")

    queries = trained.sample(trained.prepared.num_queries)
    snapshot = read_snapshot(directory)
    history = snapshot.history.take(queries)
    context = trained.prepared.context_of(queries, "test")
    expected = encode_queries(trained.model, builder, queries, history, context, _CPU)
    _require_finite(expected, "query")
    tower = TowerProgram(directory / QUERY_TOWER, schema.query, schema.context)
    found = tower(take_rows(snapshot.columns, queries), len(queries), history, context)
    query_difference = _difference(found, expected, "query")
    return expected, Gate(item_difference=item_difference, query_difference=query_difference)


def _difference(found: Floats, expected: Floats, side: str) -> float:
    difference = float(np.abs(found - expected).max(initial=0.0))
    if not difference <= _MAX_DIFFERENCE:
        raise UserError(
            f"the exported {side} tower's vectors differ by {difference:.2g} from the trained "
            f"one's, expected at most {_MAX_DIFFERENCE}: nothing was exported; train again, and "
            "report it if it stays."
        )
    return difference


def _require_finite(vectors: Floats, side: str) -> None:
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise UserError(
            f"{bad} of {len(vectors)} {side} vectors are not finite: nothing was exported; lower "
            "training.sparse_learning_rate or training.dense_learning_rate and train again."
        )


def _metrics(trained: _Trained) -> dict[str, dict[str, float]]:
    """Of the validation, and of the test where an evaluation of this very training is there."""
    metrics = {"validation": trained.manifest.validation}
    path = trained.config.evaluation_dir / METRICS_JSON
    if path.exists():
        result = EvaluationResult.model_validate_json(path.read_text(encoding="utf-8"))
        if result.mlflow_run_id == trained.manifest.mlflow_run_id:
            figures = result.overall.items()
            metrics["test"] = {n: v for n, v in figures if isinstance(v, int | float)}
    return metrics


def _track(config: Config, directory: Path, bundle: BundleManifest) -> None:
    run = open_run(config, bundle.mlflow_run_id)
    if run is not None:  # Else the training was tracked elsewhere.
        run.save(directory / MANIFEST, "bundle")
        run.tag(**{"recsys.bundle": str(config.bundle_dir.resolve())})
