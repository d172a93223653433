"""A bundle with channels answers as the evaluation ranks: exactly, where its index is exact."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from pydantic_core import to_json

import serving
from feature_store.core.errors import UserError
from pipelines.prepared.reader import Prepared
from recsys.channels.sources import Sources
from recsys.data.builder import BatchBuilder
from recsys.evaluation.ranking import top_items
from recsys.evaluation.task import known_to_channels
from recsys.fusion.fused import Fused
from recsys.fusion.scorer import fused_scorer
from recsys.fusion.weights import Weights
from recsys.model.encode import encode_items, encode_queries
from serving.index.flat import Flat
from serving.index.hnsw import Hnsw
from serving.index.index import ItemIndex
from serving.recommend.fused.asked import Asked
from serving.recommend.fused.fused_search import FusedSearch
from serving.recommend.memory import MemoryQueries
from serving.recommend.options import RecommendOptions
from serving.server.api import EventsRequest, RecommendRequest
from serving.server.deployment import MAIN, Serving
from serving.server.metrics import ServerMetrics
from serving.server.service import Service
from tests.support.fused.tiny_fusion import WEIGHTS, random_fused
from tests.support.indexes import bags, unit_rows
from tests.support.tiny_bundle import ITEMS, QUERIES, untrained

MANY = 1500


@pytest.fixture(scope="module")
def recommender(tiny_fused):
    return serving.load(tiny_fused.bundle_dir).as_evaluated()


def ids(found):
    return [item.item_id for item in found.items]


def test_answers_are_those_of_the_evaluation(tiny_fused, recommender):
    prepared = Prepared(tiny_fused.prepared_dir)
    model, trained = untrained(tiny_fused)
    builder, cpu = BatchBuilder(prepared, trained.config), torch.device("cpu")
    queries, history = np.arange(QUERIES), prepared.query_state.history("test")
    scorer = fused_scorer(
        Fused.read(tiny_fused.fusion_dir),
        WEIGHTS,
        sources=Sources(history, known_to_channels(prepared, "test"), prepared.own_items),
        query_vectors=encode_queries(model, builder, queries, history, {}, cpu),
        item_vectors=encode_items(model, builder, cpu),
    )
    top = top_items(scorer, num_items=ITEMS, excluded=prepared.excluded("test"), k=ITEMS)
    lines = recommender.recommend_batch([str(q) for q in queries], ITEMS).to_pylist()
    for query in queries:
        expected = [f"i{i}" for i in top[query] if i >= 0]
        found = recommender.recommend(str(query), ITEMS)
        assert ids(found) == expected
        scores = scorer(np.array([query]))(0, ITEMS)[0].numpy()
        expected_scores = scores[top[query][top[query] >= 0]]
        np.testing.assert_allclose([i.score for i in found.items], expected_scores, atol=1e-5)
        assert [x["item_id"] for x in lines if x["query_id"] == str(query)] == expected


def test_the_bundle_has_the_channels_that_count(tiny_fused):
    bundle = serving.load(tiny_fused.bundle_dir).manifest
    assert bundle.fusion.weights == WEIGHTS
    assert {f.split("/")[2] for f in bundle.files if f.startswith("fusion/lists/")} == {
        "co_occurrence",
        "content",
    }


def test_filters_leave_the_best_of_what_they_let_through(recommender):
    everything = ids(recommender.recommend("7", ITEMS))
    allowed = everything[2::3]
    assert ids(recommender.recommend("7", 4, RecommendOptions(allow=allowed))) == allowed[:4]
    denied = RecommendOptions(deny=everything[:3])
    assert ids(recommender.recommend("7", 5, denied)) == everything[3:8]
    assert recommender.recommend("nobody", 3).source == "popularity"
    assert len(ids(recommender.recommend("7", 60, RecommendOptions(exclude_seen=False)))) == ITEMS


def test_the_tail_takes_popularity_off(tiny_fused, recommender):
    fused = Fused.read(tiny_fused.fusion_dir)
    scores = [
        {i.item_id: i.score for i in recommender.recommend("7", ITEMS, options).items}
        for options in (RecommendOptions(), RecommendOptions(tail=0.5), RecommendOptions(tail=1))
    ]
    dials = (WEIGHTS.dial, (WEIGHTS.dial + 1.2) / 2, 1.2)
    for item, score in scores[0].items():
        without = score + dials[0] * fused.dial[int(item[1:])]
        for dial, others in zip(dials, scores, strict=True):
            expected = without - dial * fused.dial[int(item[1:])]
            assert others[item] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UserError, match="tail is 2, expected 0 to 1"):
        recommender.recommend("7", 5, RecommendOptions(tail=2))


def test_a_bundle_without_channels_has_no_tail(exported):
    plain = serving.load(exported)
    with pytest.raises(UserError, match=r"leave it out, or export with ranking\.channels"):
        plain.recommend("7", 5, RecommendOptions(tail=0.5))
    explained = plain.recommend("7", 5, RecommendOptions(explain=True)).items
    assert [i.explanation.towers for i in explained] == [i.score for i in explained]


def test_the_parts_of_an_explanation_are_the_score(tiny_fused, recommender):
    options = RecommendOptions(explain=True, tail=0.3)
    table = recommender.recommend("7", 5, options).to_arrow()
    assert table.column_names == ["rank", "item_id", "title", "score", "because", "shared"]
    assert any(table["because"].to_pylist())
    found = recommender.recommend("7", ITEMS, options)
    history = {item.item_id for item in recommender.liked("7", 50)}
    known = {f"i{i}" for i in bag(known_to_channels(Prepared(tiny_fused.prepared_dir), "test"), 7)}
    is_explained = 0
    for item in found.items:
        parts = item.explanation
        total = parts.towers + sum(parts.channels.values()) + parts.trend + parts.dial
        assert item.score == pytest.approx(total, abs=1e-5)
        assert {each.item_id for each in parts.because} <= history | known
        every = (parts.towers, *parts.channels.values(), parts.trend, parts.dial)
        least = 0.01 * sum(part for part in every if part > 0)
        assert all(each.score >= least for each in (*parts.because, *parts.shared))
        if len(parts.because) in (1, 2):  # All that add more than little are named.
            added = sum(each.score for each in parts.because)
            little = least * len(history | known)
            assert added == pytest.approx(sum(parts.channels.values()), abs=1e-5 + little)
            is_explained += 1
    assert is_explained > 3
    popular = recommender.recommend("nobody", 3, options).items
    assert not any(hasattr(item, "explanation") for item in popular)


def test_an_event_counts_in_channels_at_once(tiny_fused):
    online = MemoryQueries()
    recommender = serving.load(tiny_fused.bundle_dir, online=online)
    options = RecommendOptions(explain=True)
    # Query 0 has no history, so channels say nothing.
    assert not any(i.explanation.channels for i in recommender.recommend("0", ITEMS, options).items)
    online.append([("0", (1, "i9"))])
    after = recommender.recommend("0", ITEMS, options).items
    assert {r.item_id for item in after for r in item.explanation.because} == {"i9"}
    given = recommender.recommend("new", ITEMS, RecommendOptions(explain=True, history=["i9"]))
    for one, other in zip(
        sorted(after, key=lambda i: i.item_id),
        sorted(given.items, key=lambda i: i.item_id),
        strict=True,
    ):
        assert one.explanation.channels == pytest.approx(other.explanation.channels)


def test_an_event_that_the_server_is_told_changes_the_next_answer(tiny_fused):
    online = MemoryQueries()
    serving_now = Serving({MAIN: serving.load(tiny_fused.bundle_dir, online=online)})
    service = Service(lambda: serving_now, ServerMetrics(), online=online)
    asking = RecommendRequest(query_id="0", k=ITEMS, explain=True)
    before = service.recommend(asking).items
    assert not any(item.explanation.channels for item in before)
    service.events(EventsRequest.model_validate({"events": [{"query_id": "0", "item_id": "i9"}]}))
    after = {item.item_id: item.explanation for item in service.recommend(asking).items}
    named = (
        Fused.read(tiny_fused.fusion_dir).lists["co_occurrence"].lists.take(np.array([9])).values
    )
    for item in {f"i{item}" for item in named.tolist()} - {"i9"}:
        assert after[item].channels["co_occurrence"] > 0
        assert [reason.item_id for reason in after[item].because] == ["i9"]


def test_what_is_served_says_why(recommender):
    service = Service.of(recommender)

    def items(**body):
        answer = service.recommend(RecommendRequest(query_id="7", k=2, **body))
        return json.loads(to_json(answer))["items"]

    first = recommender.recommend("7", 1, RecommendOptions(explain=True, tail=0.2)).items[0]
    explanation = items(explain=True, tail=0.2)[0]["explanation"]
    assert explanation["channels"] == pytest.approx(first.explanation.channels)
    assert set(explanation["because"][0]) == {"item_id", "score", "title"}
    assert set(items()[0]) == {"item_id", "score", "title"}
    with pytest.raises(ValidationError, match="tail"):
        RecommendRequest(query_id="7", tail=1.5)


def bag(bags, row):
    return bags.values[bags.offsets[row] : bags.offsets[row + 1]].tolist()


def asked(excluded, allowed=None):
    random = np.random.default_rng(2)
    rows = len(excluded)
    history = bags([random.choice(MANY, 5).tolist() for _ in range(rows)])
    sources = Sources(history, history, bags([[]] * rows))
    return Asked(unit_rows(rows, 9), sources, bags(excluded), allowed)


@pytest.mark.parametrize("dial", [0.0, 0.3])
def test_candidates_suffice(dial):
    """Compares candidates of a graph that finds all neighbours with the scores of all items."""
    weights = Weights(channels=WEIGHTS.channels, rare={"content": 0.2}, dial=dial)
    fused, everything = random_fused(MANY, weights, of_each=12), np.arange(MANY)
    vectors = unit_rows(MANY, 1)
    graph = Hnsw.build(vectors, "Flat")
    graph.set_effort({"ef_search": MANY})
    near, exact = (
        FusedSearch(fused, ItemIndex(kind), everything, everything, 300)
        for kind in (graph, Flat.build(vectors, "Flat"))
    )
    random = np.random.default_rng(4)
    excluded = [random.choice(MANY, size, replace=False).tolist() for size in (0, 3, 200)]
    for allowed in (None, random.random(MANY) < 0.6):
        questions = asked(excluded, allowed)
        found, scores = near.search(questions, 20, weights)
        expected, expected_scores = exact.search(questions, 20, weights)
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
        assert not set(found.values[40:].tolist()) & set(excluded[2])


def test_similar_items_are_those_near_by_vector_or_channel(tiny_fused, recommender):
    fused = Fused.read(tiny_fused.fusion_dir)
    found = recommender.similar_items("i5", ITEMS)
    assert "i5" not in ids(found)
    assert len(found.items) == ITEMS - 1
    items, said = fused.channels(Sources(*[bags([[5]])] * 3), WEIGHTS)
    score = {item.item_id: item.score for item in found.items}
    plain = serving.load(tiny_fused.bundle_dir).as_evaluated()
    plain._fused = None
    cosine = {item.item_id: item.score for item in plain.similar_items("i5", ITEMS).items}
    for item, value in zip(items.values.tolist(), said.tolist(), strict=True):
        if item != 5:
            assert score[f"i{item}"] == pytest.approx(cosine[f"i{item}"] + value, abs=1e-5)
