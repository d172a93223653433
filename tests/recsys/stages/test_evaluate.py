"""The evaluation stage: held-out items, the contents of `metrics.json`, and when it is redone."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipelines.prepared.query_state import QueryState
from pipelines.prepared.reader import Prepared
from recsys.evaluation.metrics import SLICES, metric_names
from recsys.evaluation.repeats import leaves_many_out, repeats_sentences
from recsys.evaluation.results import TOWERS
from recsys.evaluation.task import Task
from recsys.evaluation.validation import validation_metrics
from recsys.stages.evaluate import evaluate
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from recsys.tracking import tracking_uri
from tests.support.bags import bag, jagged, random_bags
from tests.support.planted import planted_config, write_planted_log


def state_of(train, validation, test):
    columns = [jagged(bags) for bags in (train, validation, test)]
    return QueryState(*columns, columns[0], columns[0])


def log_of(state, items=0, history="past", repeats="exclude", own=None):
    """Returns a log; `own` has the item that each query is, by default none."""
    data = SimpleNamespace(history=SimpleNamespace(kind=history), repeats=repeats)
    manifest = SimpleNamespace(data=data)
    own_items = jagged(own or [[]] * len(state))
    log = SimpleNamespace(manifest=manifest, query_state=state, own_items=own_items)
    return SimpleNamespace(
        manifest=manifest,
        query_state=state,
        own_items=own_items,
        excluded=lambda split: Prepared.excluded(log, split),
        is_current_item=np.ones(items, bool),
        num_items=items,
    )


def test_items_that_a_query_already_has_are_not_held_out():
    state = state_of(
        train=[[1, 2], [3], [4], [5]],
        validation=[[3], [4, 5], [], [6]],
        test=[[3, 7, 1], [9], [4], []],
    )
    task = Task.of(log_of(state), "test")
    assert task.queries.tolist() == [0, 1]
    assert [bag(task.held_out, row) for row in range(2)] == [[7], [9]]
    assert [sorted(bag(task.excluded, row)) for row in range(2)] == [[1, 2, 3], [3, 4, 5]]
    assert task.already_seen == 3
    validation = Task.of(log_of(state), "validation")
    assert validation.queries.tolist() == [0, 1, 3]
    assert [sorted(bag(validation.excluded, row)) for row in range(3)] == [[1, 2], [3], [5]]


def test_counts_of_drawn_queries_are_of_these_alone():
    state = state_of(
        train=[[1, 2], [3], [4], [5], [6]],
        validation=[[3], [4, 5], [], [6], []],
        test=[[3, 7, 1], [9], [4], [], [8, 9]],
    )
    parts = [Task.of(log_of(state), "test", most) for most in (1, 2, 3)]
    assert [part.drawn_from for part in parts] == [4, 4, 4]
    drawn = [set(part.queries.tolist()) for part in parts]
    assert drawn[0] <= drawn[1] <= drawn[2]  # Query 2 has nothing to find, and may be drawn.
    for most in (None, 4, 100):
        task = Task.of(log_of(state), "test", most)
        assert task.queries.tolist() == [0, 1, 4]
        assert task.counts == Task.of(log_of(state), "test").counts
        assert "drawn_from" not in task.counts
    seen = {0: 2, 2: 1}
    for part in parts:
        others = sum(seen.get(query, 0) for query in part.queries.tolist())
        assert part.already_seen - others in (0, 1)


def test_items_that_a_query_already_has_are_held_out_where_repeats_are_allowed():
    state = state_of(
        train=[[1, 2], [3], [4], [5]],
        validation=[[3], [4, 5], [], [6]],
        test=[[3, 7, 1], [9], [4], []],
    )
    allowed = log_of(state, repeats="allow", own=[[7], [], [], []])
    task = Task.of(allowed, "test")
    assert [bag(task.held_out, row) for row in range(3)] == [[3, 1], [9], [4]]
    assert [bag(task.excluded, row) for row in range(3)] == [[7], [], []]
    assert sorted(bag(task.known, 0)) == [1, 2, 3]
    counts = {"queries": 3, "held_out": 4, "already_seen": 0, "itself": 1, "repeated": 3}
    assert task.counts == counts
    (repeated, itself) = repeats_sentences(counts, "test", "allow")
    assert repeated.startswith("3 of 4 held-out pairs of the test split (75.0%) are items that")
    assert itself.startswith("1 of 5 held-out pairs of the test split (20.0%) are left out")
    excluded = Task.of(log_of(state, own=[[7], [], [], []]), "test").counts
    assert excluded == {
        "queries": 1,
        "held_out": 1,
        "already_seen": 3,
        "itself": 1,
        "repeated": 0,
    }


@pytest.mark.parametrize(("left_out", "is_named"), [(19, False), (20, True)])
def test_pairs_that_are_left_out_are_said_and_the_setting_where_they_are_many(left_out, is_named):
    counts = {"held_out": 100 - left_out, "already_seen": left_out}
    (sentence,) = repeats_sentences(counts, "validation", "exclude")
    words = f"{left_out} of 100 held-out pairs of the validation split ({left_out}.0%)"
    assert sentence.startswith(f"{words} are left out, because the query had the item before")
    assert ("set data.repeats: allow" in sentence) == is_named == leaves_many_out(counts)
    assert repeats_sentences({"held_out": 7, "already_seen": 0}, "test", "exclude") == []


def test_baselines_are_told_what_the_model_sees():
    state = state_of(train=[[1, 2]], validation=[[3]], test=[[7]])
    told = {kind: Task.of(log_of(state, history=kind), "test") for kind in ("past", "others")}
    assert sorted(bag(told["past"].known, 0)) == [1, 2, 3]
    assert sorted(bag(told["others"].known, 0)) == [1, 2]
    for task in told.values():
        assert sorted(bag(task.excluded, 0)) == [1, 2, 3]


def test_validation_metrics_equal_a_naive_ranking():
    rng = np.random.default_rng(0)
    queries, items = 80, 120
    train, validation = (random_bags(rng, queries, items, most) for most in (30, 8))
    state = state_of(train, validation, [[]] * queries)
    # Integers make many scores equal.
    vectors = rng.integers(-2, 3, (queries, 4)).astype(np.float32)
    catalogue = rng.integers(-2, 3, (items, 4)).astype(np.float32)
    chosen = np.flatnonzero(state.validation.lengths)
    found = validation_metrics(
        vectors[chosen],
        catalogue,
        log_of(state, items),
        chosen,
    )
    recalls, reciprocals, gains = [], [], []
    for query in chosen:
        wanted = set(validation[query]) - set(train[query])
        if not wanted:
            continue
        scores = catalogue @ vectors[query]
        order = sorted(range(items), key=lambda item: (-scores[item], item))
        hits = [item in wanted for item in order if item not in set(train[query])]
        recalls.append(sum(hits[:10]) / len(wanted))
        reciprocals.append(next((1 / (i + 1) for i in range(10) if hits[i]), 0.0))
        discounts = 1 / np.log2(np.arange(2, len(hits) + 2))
        gains.append(discounts[hits].sum() / discounts[: len(wanted)].sum())
    assert len(recalls) < len(chosen)
    assert found["recall@10"] == pytest.approx(np.mean(recalls), rel=1e-12)
    assert found["mrr@10"] == pytest.approx(np.mean(reciprocals), rel=1e-12)
    assert found["ndcg@all"] == pytest.approx(np.mean(gains), rel=1e-12)


def test_validation_without_anything_held_out_has_no_metrics():
    state = state_of([[0]], [[]], [[]])
    found = validation_metrics(
        np.zeros((0, 4), np.float32),
        np.ones((3, 4), np.float32),
        log_of(state, 3),
        np.zeros(0, np.int64),
    )
    assert found == dict.fromkeys([*metric_names(), "ndcg@all"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("planted")
    write_planted_log(directory)
    config = planted_config(directory, directory / "output", training={"epochs": 6})
    prepare(config)
    return config, train(config)


@pytest.mark.slow
def test_a_planted_log_is_evaluated_beside_its_baselines(trained):
    config, manifest = trained
    result = evaluate(config)
    written = json.loads((config.evaluation_dir / "metrics.json").read_text(encoding="utf-8"))
    assert {"overall", "slices", "counts"} <= set(written)
    assert list(written["slices"]) == list(SLICES)
    groups = [written["overall"], *written["slices"].values()]
    for baseline in written["baselines"].values():
        groups += [baseline["overall"], *baseline["slices"].values()]
    figures = {name for metric in metric_names() for name in (metric, f"{metric}_ci")}
    assert [set(group) - {"count"} for group in groups] == [figures] * len(groups)
    assert len(groups) == 5 * len(result.methods)
    low, high = written["overall"]["recall@10_ci"]
    assert low <= written["overall"]["recall@10"] <= high
    counts = [written["slices"][name]["count"] for name in SLICES]
    assert sum(counts) == written["counts"]["held_out"]
    # Queries like one group: features and neighbours know it, popularity does not.
    assert written["overall"]["recall@10"] > 0.95
    assert written["baselines"]["item_knn"]["overall"]["recall@10"] > 0.95
    assert written["baselines"]["ease"]["overall"]["recall@10"] > 0.9
    assert written["baselines"]["als"]["overall"]["recall@10"] > 0.6
    assert written["baselines"]["popularity"]["overall"]["recall@10"] < 0.3
    assert written["baselines"]["random"]["overall"]["recall@10"] < 0.15
    assert (
        written["lists"]["coverage@10"]
        > 0.9
        > written["baselines"]["popularity"]["lists"]["coverage@10"]
    )
    assert sum(part["count"] for part in written["by"]["history_length"].values()) == sum(counts)
    assert result.model_dump(mode="json") == written
    frame = result.to_pandas().set_index(["group", "method"])
    assert len(frame) == len(groups)
    assert frame.loc[("overall", "this model"), "recall@10"] == written["overall"]["recall@10"]
    assert frame.loc[("overall", "this model"), "recall@10_low"] == low
    assert frame.loc[("tail", "item-kNN"), "held_out"] == written["slices"]["tail"]["count"]
    assert "recall@10_low" not in result._repr_html_()

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri(config))
    run = client.get_run(manifest.mlflow_run_id)
    assert run.data.metrics["test/recall_at_10"] == written["overall"]["recall@10"]
    assert "test/popularity/map_at_10" in run.data.metrics
    kept = client.list_artifacts(manifest.mlflow_run_id, "evaluation")
    tables = {"per_query.parquet", "items.parquet", "examples.json"}
    names = {"metrics.json", "report.html", *tables}
    assert {file.path for file in kept} == {f"evaluation/{name}" for name in names}


@pytest.mark.slow
def test_rows_of_queries_add_up_to_the_figures(trained):
    config, _ = trained
    document = config.model_dump(mode="json")
    document["evaluation"]["cutoffs"] = [5, 10, 50]
    document["evaluation"]["slices"] = ["item.group", "query.country", "item_age"]
    result = evaluate(type(config).model_validate(document))
    table = pq.read_table(config.evaluation_dir / "per_query.parquet")
    assert table.num_rows == result.counts["queries"]
    for name, method in result.methods.items():
        for metric in ("recall@5", "ndcg@10", "map@50"):
            mean = np.mean(table[f"{name}.{metric}"].to_numpy())
            assert mean == pytest.approx(method.overall[metric], abs=1e-6)
    row = table.slice(3, 1).to_pylist()[0]
    for item, rank in zip(row["held_out"], row["model.ranks"], strict=True):
        assert rank is None or row["model.items"][rank] == item
    held_out = result.counts["held_out"]
    assert sum(part["count"] for part in result.by["item.group"].values()) == held_out
    assert set(result.by["query.country"]) == {"c0", "c1", "c2", "c3"}
    assert sum(part["count"] for part in result.by["item_age"].values()) == held_out
    evaluate(config)


@pytest.mark.slow
def test_drawn_queries_have_the_figures_that_they_have_among_all(trained, monkeypatch, capsys):
    config, _ = trained
    everything = evaluate(config)
    rows = pq.read_table(config.evaluation_dir / "per_query.parquet").to_pylist()
    for module in ("recsys.stages.measure", "recsys.evaluation.methods"):
        monkeypatch.setattr(f"{module}.most_queries", lambda items: 40)
    document = config.model_dump(mode="json")
    document["evaluation"]["baselines"] = ["popularity", "als"]
    drawn = evaluate(type(config).model_validate(document))
    assert drawn.counts["queries"] == 40
    assert drawn.counts["drawn_from"] == everything.counts["queries"]
    of_drawn = pq.read_table(config.evaluation_dir / "per_query.parquet").to_pylist()
    of_all = {row["query_id"]: row for row in rows}
    for row in of_drawn:
        for name in ("held_out", "model.items", "model.recall@10", "popularity.items"):
            assert row[name] == of_all[row["query_id"]][name]
    mean = np.mean([row["model.recall@10"] for row in of_drawn])
    assert drawn.overall["recall@10"] == pytest.approx(mean, abs=1e-6)
    sentence = "40 users are ranked, drawn by a hash from the"
    assert sentence in " ".join(capsys.readouterr().out.split())
    assert sentence in (config.evaluation_dir / "report.html").read_text()


@pytest.mark.slow
def test_an_evaluation_is_redone_only_when_something_changed(trained):
    config, _ = trained
    first = evaluate(config)
    report = config.evaluation_dir / "report.html"
    before = report.stat().st_mtime_ns
    console = Console(file=io.StringIO(), width=200)
    assert evaluate(config, console=console) == first
    assert "up to date" in console.file.getvalue()
    assert report.stat().st_mtime_ns == before
    document = config.model_dump(mode="json")
    document["evaluation"]["baselines"] = ["popularity"]
    changed = evaluate(type(config).model_validate(document))
    assert report.stat().st_mtime_ns > before
    assert changed.overall == first.overall
    parts = {TOWERS, *first.weights} & first.baselines.keys()
    kept = {name: first.baselines[name] for name in (*parts, "popularity")}
    assert changed.baselines == kept
