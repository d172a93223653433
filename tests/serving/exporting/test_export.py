"""The bundle says what the trained model says, or is not written."""

import subprocess
import sys
from collections import defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

import serving
from feature_store.core.errors import UserError
from feature_store.core.files import write_json
from feature_store.core.manifests import sha256_of
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.data.builder import BatchBuilder
from recsys.evaluation.results import EvaluationResult
from recsys.model.encode import encode_items, encode_queries
from recsys.stages.champion import champion_run
from serving.exporting import bundling, golden
from serving.exporting import export as exporting
from tests.support.planted import planted_config, write_planted_log
from tests.support.tiny_bundle import (
    ITEMS,
    NEVER_TRAINED,
    QUERIES,
    export_untrained,
    untrained,
    write_prepared,
)

CPU = torch.device("cpu")


def exact_top(query, items, excluded, k=10):
    """Finds the k best items by a full sort, and every item's score; excluded ones have none."""
    scores = items.astype(np.float64) @ query
    scores[excluded] = -np.inf
    order = np.lexsort((np.arange(len(items)), -scores))
    return order[:k][np.isfinite(scores[order[:k]])], scores


def assert_answers_are_exact(config: Config, model, trained_config, queries):
    prepared = Prepared(config.prepared_dir)
    state = prepared.query_state
    builder = BatchBuilder(prepared, trained_config)
    items = encode_items(model, builder, CPU)
    vectors = encode_queries(model, builder, queries, state.history("test").take(queries), {}, CPU)
    recommender = serving.load(config.bundle_dir)
    index_of = {name: i for i, name in enumerate(prepared.item_encoder.ids.tokens.to_pylist())}
    query_ids = [prepared.query_encoder.ids.tokens[int(q)].as_py() for q in queries]
    batch = defaultdict(list)
    for line in recommender.recommend_batch(query_ids, 10).to_pylist():
        batch[line["query_id"]].append(line)
    excluded = state.known("test").beside(state.test).take(queries)
    for row, query_id in enumerate(query_ids):
        seen = excluded.values[excluded.offsets[row] : excluded.offsets[row + 1]]
        top, scores = exact_top(vectors[row], items, seen)
        found = recommender.recommend(query_id, 10)
        assert not found.fallback
        indices = [index_of[item.item_id] for item in found.items]
        assert len(indices) == len(top)
        for expected, index, item in zip(top, indices, found.items, strict=True):
            assert item.score == pytest.approx(scores[index], abs=1e-5)
            assert expected == index or abs(scores[expected] - scores[index]) < 1e-6
        lines = batch[query_id]
        assert [line["item_id"] for line in lines] == [item.item_id for item in found.items]
        assert [line["rank"] for line in lines] == list(range(1, len(lines) + 1))
        scores_alone = [item.score for item in found.items]
        assert [line["score"] for line in lines] == pytest.approx(scores_alone, abs=1e-6)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    config = write_prepared(tmp_path_factory.mktemp("tiny"))
    with pytest.MonkeyPatch.context() as patch:
        manifest = export_untrained(config, patch)
    return config, manifest


def test_every_querys_answer_is_the_models_exact_top_ten(exported):
    config, _ = exported
    model, manifest = untrained(config)
    assert_answers_are_exact(config, model, manifest.config, np.arange(QUERIES))


def test_a_graphs_answers_are_exact_where_the_gate_asks_for_all(tmp_path, monkeypatch):
    config = write_prepared(tmp_path, export={"min_ann_recall": 1.0, "index": "hnsw"})
    assert export_untrained(config, monkeypatch).index.kind == "hnsw"
    model, manifest = untrained(config)
    assert_answers_are_exact(config, model, manifest.config, np.arange(QUERIES))


def test_exported_towers_equal_the_models(exported):
    config, manifest = exported
    model, trained = untrained(config)
    prepared = Prepared(config.prepared_dir)
    builder = BatchBuilder(prepared, trained.config)
    recommender = serving.load(config.bundle_dir)
    queries = np.arange(QUERIES)
    history = prepared.query_state.history("test")
    expected = encode_queries(model, builder, queries, history, {}, CPU)
    found = recommender.encode([str(q) for q in queries])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    one_by_one = [recommender.encode([str(q)])[0] for q in queries]
    np.testing.assert_allclose(one_by_one, expected, atol=1e-6)
    assert manifest.gate.item_difference < 1e-6
    assert manifest.gate.query_difference < 1e-6
    table = pq.read_table(config.bundle_dir / "item_vectors")
    assert table["item_id"].to_pylist() == [f"i{i}" for i in range(ITEMS)]
    vectors = np.stack(table["vector"].to_numpy())
    np.testing.assert_array_equal(vectors, encode_items(model, builder, CPU))


def test_the_id_of_an_item_that_was_never_trained_has_no_influence(exported, tmp_path):
    config, _ = exported
    model, _ = untrained(config)
    with torch.no_grad():
        table = model.tables.embedding_bags["item/item_id"].weight
        table[NEVER_TRAINED:] += 100.0
    changed = config.model_copy(update={"output": str(tmp_path)})
    (tmp_path / "prepared").symlink_to(config.prepared_dir)
    with pytest.MonkeyPatch.context() as patch:
        export_untrained(changed, patch, model=model)
    query_ids = [str(q) for q in range(QUERIES)]
    before, after = serving.load(config.bundle_dir), serving.load(changed.bundle_dir)
    assert before.recommend_batch(query_ids, 20).equals(after.recommend_batch(query_ids, 20))


def test_an_unknown_query_is_answered_by_popularity(exported):
    config, _ = exported
    recommender = serving.load(config.bundle_dir)
    found = recommender.recommend("nobody", 5)
    assert found.fallback
    assert found.source == "popularity"
    frequency = Prepared(config.prepared_dir).item_frequency
    top = np.argsort(-frequency, kind="stable")[:5]
    assert [item.item_id for item in found.items] == [f"i{i}" for i in top]
    shares = frequency[top] / frequency.sum()
    assert [item.score for item in found.items] == pytest.approx(shares)
    model, _ = untrained(config)
    default = model.item_inputs.default
    inputs = torch.cat([model.query_inputs.default, default, default])
    with torch.no_grad():
        expected = model.query_tower(inputs[None]).numpy()
    np.testing.assert_allclose(recommender.encode(["nobody"]), expected, atol=1e-6)
    assert recommender.liked("nobody") == ()


def test_seen_items_are_left_out_and_what_is_left_is_given(exported):
    config, _ = exported
    recommender = serving.load(config.bundle_dir)
    assert {item.item_id for item in recommender.recommend("1", 10).items} == {"i0", "i1", "i2"}
    state = Prepared(config.prepared_dir).query_state
    excluded = state.known("test").beside(state.test)
    for query in range(QUERIES):
        seen = excluded.values[excluded.offsets[query] : excluded.offsets[query + 1]]
        found = recommender.recommend(str(query), 1000).items
        assert {i.item_id for i in found} == {f"i{i}" for i in range(ITEMS)} - {
            f"i{i}" for i in seen
        }
        scores = [item.score for item in found]
        assert scores == sorted(scores, reverse=True)


def test_liked_is_the_latest_history_with_titles(exported):
    config, _ = exported
    recommender = serving.load(config.bundle_dir)
    history = Prepared(config.prepared_dir).query_state.test_history
    expected = history.values[history.offsets[7] : history.offsets[8]][::-1][:3]
    liked = recommender.liked("7", 3)
    assert [item.item_id for item in liked] == [f"i{i}" for i in expected]
    for index, item in zip(expected, liked, strict=True):
        # A film without a title is called by its id.
        assert item.title == (f"The film of number {index}" if index % 13 else f"i{index}")
    assert recommender.liked("0", 3) == ()


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_k_has_bounds(exported, k):
    recommender = serving.load(exported[0].bundle_dir)
    with pytest.raises(UserError, match=f"k is {k}, expected 1 to 1000"):
        recommender.recommend("1", k)
    with pytest.raises(UserError, match=f"k is {k}, expected 1 to 1000"):
        recommender.recommend_batch([], k)


def test_a_batch_of_no_queries_is_an_empty_table(exported):
    table = serving.load(exported[0].bundle_dir).recommend_batch([], 3)
    assert table.column_names == ["query_id", "rank", "item_id", "score", "fallback"]
    assert table.num_rows == 0


def test_an_export_that_is_done_is_not_done_again(exported, monkeypatch):
    config, manifest = exported
    monkeypatch.setattr(bundling, "_write", lambda *_: pytest.fail("it was written again"))
    assert export_untrained(config, monkeypatch) == manifest


def test_a_damaged_bundle_is_exported_again(tmp_path, monkeypatch):
    config = write_prepared(tmp_path)
    manifest = export_untrained(config, monkeypatch)
    (config.bundle_dir / "index.faiss").unlink()
    assert export_untrained(config, monkeypatch).fingerprint == manifest.fingerprint
    serving.load(config.bundle_dir)


def test_other_settings_are_another_bundle(tmp_path, monkeypatch):
    config = write_prepared(tmp_path)
    first = export_untrained(config, monkeypatch)
    other = config.model_copy(
        update={"export": config.export.model_copy(update={"min_ann_recall": 0.5})}
    )
    assert export_untrained(other, monkeypatch).fingerprint != first.fingerprint
    second = export_untrained(config, monkeypatch, seed=1)
    assert second.training_fingerprint != first.training_fingerprint


def test_test_metrics_are_those_of_the_same_training(tmp_path, monkeypatch):
    config = write_prepared(tmp_path)
    _, trained = untrained(config)
    result = EvaluationResult(
        overall={"recall@10": 0.5, "recall@10_ci": (0.4, 0.6), "ndcg@10": None},
        slices={"tail": {"recall@10": 0.5, "recall@10_ci": (0.4, 0.6), "count": 3}},
        counts={},
        baselines={},
        split="leave_last_out",
        history="past",
        prepared_fingerprint=trained.prepared_fingerprint,
        training_fingerprint=trained.fingerprint,
        mlflow_run_id=trained.mlflow_run_id,
    )
    config.evaluation_dir.mkdir()
    write_json(config.evaluation_dir / "metrics.json", result.model_dump(mode="json"))
    manifest = export_untrained(config, monkeypatch)
    figures = {"recall@10": 0.5, "recall@10_low": 0.4, "recall@10_high": 0.6}
    assert manifest.metrics == {"validation": {"recall@10": 0.25}, "test": figures}
    assert manifest.slices == {"tail": {**figures, "count": 3}}
    assert set(export_untrained(config, monkeypatch, seed=1).metrics) == {"validation"}


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        ("item_nan", "item vectors are not finite"),
        ("query_nan", "query vectors are not finite"),
        ("program", "exported item tower's vectors differ"),
        ("slice", "the index finds 0.9000 of the tail items"),
        ("golden", "the exported path answers the golden query"),
    ],
)
def test_a_bundle_that_fails_its_gate_leaves_the_earlier_one(
    exported, monkeypatch, break_it, sentence
):
    config, _ = exported
    before = {p: sha256_of(p) for p in config.bundle_dir.rglob("*") if p.is_file()}
    model, _ = untrained(config, 1)
    with torch.no_grad():
        if break_it == "item_nan":
            model.tables.embedding_bags["item/group"].weight[2] = torch.nan
        elif break_it == "query_nan":
            model.query_inputs.default[:] = torch.nan
        elif break_it == "program":
            monkeypatch.setattr(
                "serving.exporting.towers.visible_item_columns", lambda p: p.item_columns
            )
            monkeypatch.setattr(
                "serving.exporting.contents.visible_item_columns", lambda p: p.item_columns
            )
        elif break_it == "slice":
            monkeypatch.setattr(bundling, "recall_by_slice", lambda *_: {"head": 1, "tail": 0.9})
        else:
            monkeypatch.setattr(golden, "exact_answers", lambda q, *_: [(("i1",), (0.5,))] * len(q))
    with pytest.raises(UserError, match=sentence):
        export_untrained(config, monkeypatch, seed=1, model=model)
    assert before == {p: sha256_of(p) for p in config.bundle_dir.rglob("*") if p.is_file()}
    assert not list(config.bundle_dir.parent.glob(".*"))


def test_answering_needs_no_engine(exported):
    heavy = ("torchrec", "fbgemm_gpu", "ray", "mlflow", "feast")
    code = (
        "import sys, serving, serving.server.app, serving.server.launch, serving.server.service\n"
        f"recommender = serving.load({str(exported[0].bundle_dir)!r})\n"
        "assert len(recommender.recommend('3', 5).items) == 5\n"
        "serving.server.app.create_app(serving.server.service.Service.of(recommender))\n"
        f"assert not [m for m in sys.modules if m.split('.')[0] in {heavy}]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_features_of_one_side_alone_and_no_titles(tmp_path, monkeypatch):
    features = {"item": [{"name": "item_id", "kind": "id", "dim": 8}], "query": []}
    config = write_prepared(tmp_path, features=features, ssl={"method": "none"})
    export_untrained(config, monkeypatch)
    model, manifest = untrained(config)
    assert_answers_are_exact(config, model, manifest.config, np.arange(QUERIES))


@pytest.mark.slow
def test_a_trained_models_bundle_answers_every_test_query_as_the_trainer_does(tmp_path):
    from recsys.checkpoint.load import load_model
    from recsys.stages.prepare import prepare
    from recsys.stages.train import train

    write_planted_log(tmp_path / "log")
    config = planted_config(tmp_path / "log", tmp_path / "run", training={"epochs": 3})
    prepare(config)
    train(config)
    manifest = exporting.export(config, console=Console(quiet=True))
    model, trained = load_model(config)
    state = Prepared(config.prepared_dir).query_state
    queries = np.flatnonzero(state.test.lengths)
    assert len(queries) > 100
    assert_answers_are_exact(config, model, trained.config, queries)

    from recsys.tracking import open_run

    run = open_run(config, manifest.mlflow_run_id)
    assert run is not None
    assert [a.path for a in run._client.list_artifacts(manifest.mlflow_run_id, "bundle")] == [
        f"bundle/{manifest.seal}"
    ]
    champion = run._client.get_model_version_by_alias(config.tracking.experiment, "champion")
    assert champion.run_id == manifest.mlflow_run_id
    assert champion_run(config) == champion.run_id
