"""A small prepared directory and an untrained model of it, to export without any engine."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from feature_store.core.columns import Jagged, write_columns
from feature_store.core.manifests import write_manifest
from feature_store.encoding.context import NO_TIME
from feature_store.encoding.encoder import NO_IDS, SideEncoder
from feature_store.encoding.fitting import fit_scaling, fit_vocabulary, partial_counts
from feature_store.encoding.vocabulary import Vocabulary
from feature_store.kinds import AnyFeature, TimeFeature
from feature_store.schema import FeatureGroup
from pipelines.prepared.manifest import (
    Counts,
    InformationMatrices,
    MutualInformation,
    PreparedManifest,
)
from pipelines.prepared.reader import Prepared, QueryState
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.config.load import parse_config
from recsys.model.two_tower import TwoTower, build_model
from serving.bundle.manifest import BundleManifest
from serving.exporting import bundling, champion
from serving.exporting import export as exporting

ITEMS, QUERIES = 60, 25
NEVER_TRAINED = 50  # Items from here on have no training event.
# Time of each query's latest event, microseconds since 1970; query 0 has none.
LATEST = np.where(np.arange(QUERIES), 1_600_000_000_000_000 + np.arange(QUERIES) * 10**9, NO_TIME)


def write_prepared(directory: Path, **sections: dict) -> Config:
    """Writes `prepared/` and the raw items under the directory."""
    items, queries = _raw_items(), _raw_queries()
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(items, directory / "items.parquet")
    config = _config(directory, **sections)
    target = config.prepared_dir
    encoders = {
        "item": fitted_encoder(config.features.item, "item", items),
        "query": fitted_encoder(config.features.query, "query", queries),
    }
    ranks = pa.array([str(q % 4) for q in range(QUERIES)])
    context = fitted_encoder(
        config.features.context, "context", raw_context().append_column("rank", ranks)
    )
    for encoder in (*encoders.values(), context):
        encoder.save(target / "vocabulary")
    encoded = context.encode(raw_context())
    for split in ("validation", "test") if encoded else ():
        columns = {f"context.{name}": column for name, column in encoded.items()}
        write_columns(target / "queries" / f"context-{split}.arrow", columns)
    if any(isinstance(f, TimeFeature) and f.part == "recency" for f in config.features.context):
        np.save(target / "queries" / "latest.npy", LATEST)
    write_columns(target / "items" / "features.arrow", encoders["item"].encode(items))
    write_columns(target / "queries" / "features.arrow", encoders["query"].encode(queries))
    state = _state()
    state.save(target / "queries" / "state.arrow")
    (target / "statistics").mkdir()
    frequency = np.bincount(state.train.values, minlength=ITEMS) + 1
    frequency[NEVER_TRAINED:] = 0
    pq.write_table(pa.table({"train": frequency}), target / "statistics" / "item_frequency.parquet")
    size = len(config.features.item)
    square = tuple(tuple(float(v) for v in row) for row in np.eye(size))
    names = tuple(feature.name for feature in config.features.item)
    matrices = InformationMatrices(raw=square, normalised=square, corrected=square)
    information = MutualInformation(features=names, items=matrices, interactions=matrices)
    path = target / "statistics" / "mutual_information.json"
    path.write_text(information.model_dump_json())
    write_manifest(
        target,
        PreparedManifest(
            fingerprint="0123456789abcdef",
            schema_fingerprint=config.features.fingerprint(),
            data=config.data,
            features=config.features,
            sources={},
            as_of="2021-01-01T00:00:00+00:00",
            first_event="2020-01-01T00:00:00+00:00",
            last_event="2020-12-31T00:00:00+00:00",
            counts=Counts(
                events_read=0,
                train=1,
                validation=1,
                test=1,
                items=ITEMS,
                queries=QUERIES,
                items_in_training=NEVER_TRAINED,
                rejected={},
            ),
        ),
    )
    return config


def untrained(config: Config, seed: int = 0) -> tuple[TwoTower, TrainManifest]:
    """Returns what `load_model` would, had training left the parameters as they began."""
    torch.manual_seed(seed)
    prepared = Prepared(config.prepared_dir)
    manifest = TrainManifest(
        fingerprint=f"{seed:016x}",
        prepared_fingerprint=prepared.manifest.fingerprint,
        schema_fingerprint=prepared.manifest.schema_fingerprint,
        config=config,
        steps=1,
        best_step=1,
        validation={"recall@10": 0.25},
        seconds=1.0,
        mlflow_uri="",
        mlflow_run_id=f"run{seed}",
        started_from=None,
    )
    return build_model(prepared, config.model).eval(), manifest


def export_untrained(
    config: Config, patch: pytest.MonkeyPatch, seed: int = 0, model: TwoTower | None = None
) -> BundleManifest:
    """Exports without a checkpoint and without MLflow."""
    made, manifest = untrained(config, seed)
    for each in (exporting, bundling):
        patch.setattr(each, "read_manifest", lambda *_: manifest)
    patch.setattr(bundling, "load_model", lambda _: (model or made, manifest))
    patch.setattr(champion, "champion_manifest", lambda *_: None)
    patch.setattr(exporting, "register", lambda *_: None)
    return exporting.export(config)


def _config(directory: Path, **sections: dict) -> Config:
    document: dict = {
        "output": str(directory),
        "data": {"events": "unused", "items": str(directory / "items.parquet")},
        "features": {
            "item": [
                {"name": "item_id", "kind": "id", "dim": 8},
                {"name": "group", "kind": "categorical", "dim": 4},
                {"name": "year", "kind": "numeric", "dim": 4},
                {"name": "tags", "kind": "multi_valued", "dim": 4},
                {"name": "title", "kind": "text", "dim": 4, "hash_buckets": 16},
                {"name": "picture", "kind": "vector", "dim": 4, "length": 3},
            ],
            "query": [
                {"name": "query_id", "kind": "id", "dim": 8},
                {"name": "age", "kind": "numeric", "dim": 4},
                {"name": "country", "kind": "categorical", "dim": 4},
            ],
        },
        "ranking": {"channels": []},
        "model": {
            "dim": 16,
            "item_tower": [32],
            "query_tower": [32],
            "history": [{"kind": "mean"}, {"kind": "last"}],
            "dropout": 0.2,
        },
    }
    for name, keys in sections.items():
        document[name] = {**document.get(name, {}), **keys}
    return parse_config(document)


def _raw_items() -> pa.Table:
    random = np.random.default_rng(0)
    pictures = [random.normal(size=3).tolist() if i % 7 else None for i in range(ITEMS)]
    return pa.table(
        {
            "item_id": [f"i{i}" for i in range(ITEMS)],
            "group": [f"g{i % 6}" if i % 11 else None for i in range(ITEMS)],
            "year": pa.array([None if i % 5 == 0 else 1950 + i for i in range(ITEMS)], pa.int64()),
            "tags": [[f"t{j}" for j in range(i % 4)] for i in range(ITEMS)],
            "title": [f"The film of number {i}" if i % 13 else "" for i in range(ITEMS)],
            "picture": pa.array(pictures, pa.list_(pa.float64(), 3)),
        }
    )


def _raw_queries() -> pa.Table:
    return pa.table(
        {
            "query_id": [str(q) for q in range(QUERIES)],
            "age": pa.array([None if q % 4 == 0 else q for q in range(QUERIES)], pa.int64()),
            "country": [f"c{q % 3}" if q % 5 else None for q in range(QUERIES)],
        }
    )


def raw_context() -> pa.Table:
    """Makes each query's context, some of it absent, as a request may give it."""
    return pa.table(
        {
            "device": [f"d{q % 3}" if q % 5 else None for q in range(QUERIES)],
            "load": pa.array([None if q % 4 == 0 else 1.5 * q for q in range(QUERIES)]),
            "pages": [[f"p{j}" for j in range(q % 3)] for q in range(QUERIES)],
            "vector": pa.array(
                [[q, 1, 2] if q % 6 else None for q in range(QUERIES)], pa.list_(pa.float64())
            ),
        }
    )


def fitted_encoder(
    features: Sequence[AnyFeature], side: FeatureGroup, table: pa.Table
) -> SideEncoder:
    """Fits an encoder to a table."""
    ids = table[f"{side}_id"].combine_chunks() if side != "context" else NO_IDS.tokens
    vocabularies, scalings = {}, {}
    for feature in features:
        if feature.name not in table.column_names or isinstance(feature, TimeFeature):
            continue
        if feature.has_vocabulary:
            counts = partial_counts(feature, table[feature.name])
            vocabularies[feature.name] = fit_vocabulary(feature, [counts])
        elif not feature.is_sparse:
            counts = partial_counts(feature, table[feature.name])
            scalings[feature.name] = fit_scaling(feature, [counts])
    catalogue = Vocabulary(ids, pa.array(np.ones(len(ids), np.int64)), 0)
    return SideEncoder(side, features, catalogue, vocabularies, scalings)


def _state() -> QueryState:
    """Makes states: query 0 has had nothing, query 1 all but three items, the others a few."""
    random = np.random.default_rng(1)
    train: list = [[], np.arange(3, ITEMS)]
    train += [random.choice(NEVER_TRAINED, 6, replace=False) for _ in range(2, QUERIES)]
    validation = [random.choice(ITEMS, 1) if q >= 2 else [] for q in range(QUERIES)]
    test = [random.choice(ITEMS, 2, replace=False) if q >= 2 else [] for q in range(QUERIES)]
    history = [[*train[q][-8:], *validation[q]] for q in range(QUERIES)]
    return QueryState(
        _jagged(train), _jagged(validation), _jagged(test), _jagged(train), _jagged(history)
    )


def _jagged(rows: list) -> Jagged:
    lengths = np.array([len(row) for row in rows], np.int64)
    return Jagged.from_lengths(np.concatenate(rows).astype(np.int32), lengths)
