"""The answers of a loaded bundle beyond a known query's best items."""

from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

import serving
from feature_store.core.errors import UserError
from pipelines.prepared.reader import Prepared
from serving.recommend.memory import MemoryQueries
from serving.recommend.online import OnlineState
from serving.recommend.options import RecommendOptions
from tests.support.tiny_bundle import ITEMS, QUERIES

GROUP = {"group": ["g2"]}


@pytest.fixture(scope="module")
def recommender(tiny):
    return serving.load(tiny.bundle_dir)


@pytest.fixture(scope="module")
def vectors(tiny):
    table = pq.read_table(tiny.bundle_dir / "item_vectors")
    matrix = np.stack(table["vector"].to_numpy())
    return dict(zip(table["item_id"].to_pylist(), matrix, strict=True))


def ids(found):
    return [item.item_id for item in found.items]


def in_group(item_id):
    return int(item_id[1:]) % 6 == 2 and int(item_id[1:]) % 11 != 0


def test_filters_leave_the_best_of_what_they_let_through(recommender):
    for query in map(str, range(QUERIES)):
        everything = ids(recommender.recommend(query, ITEMS))
        expected = [i for i in everything if in_group(i)]
        assert ids(recommender.recommend(query, ITEMS, RecommendOptions(where=GROUP))) == expected
        allowed = everything[1::3]
        assert ids(recommender.recommend(query, 2, RecommendOptions(allow=allowed))) == allowed[:2]
        both = RecommendOptions(where=GROUP, allow=allowed, deny=expected[:1])
        expected = [i for i in expected[1:] if i in allowed]
        assert ids(recommender.recommend(query, ITEMS, both)) == expected
        denied = RecommendOptions(deny=[*everything[:3], "nothing"])
        assert ids(recommender.recommend(query, 4, denied)) == everything[3:7]


def test_several_values_are_any_of_them_and_several_features_all(recommender):
    either = RecommendOptions(where={"group": ["g1", "g2"]}, exclude_seen=False)
    found = {int(i[1:]) for i in ids(recommender.recommend("3", ITEMS, either))}
    assert found == {i for i in range(ITEMS) if i % 6 in (1, 2) and i % 11}
    both = RecommendOptions(where={"group": ["g1"], "tags": ["t2"]}, exclude_seen=False)
    found = {int(i[1:]) for i in ids(recommender.recommend("3", ITEMS, both))}
    assert found == {i for i in range(ITEMS) if i % 6 == 1 and i % 11 and i % 4 == 3}


def test_a_range_and_a_value_are_conditions_as_lists_are(recommender):
    where = {"group": "g2", "year": {"gt": 1952, "le": 1970}}
    found = ids(recommender.recommend("3", ITEMS, RecommendOptions(where=where)))
    everything = ids(recommender.recommend("3", ITEMS))
    assert found == [i for i in everything if in_group(i) and int(i[1:]) in (8, 14)]
    assert found


def test_what_nothing_has_and_no_feature_are_errors(recommender):
    for value, nearest in [("unheard", "expected one of"), ("G1", "the nearest is 'g1'")]:
        with pytest.raises(UserError, match=f"filter by 'group': no item has '{value}'; {nearest}"):
            recommender.recommend("3", 5, RecommendOptions(where={"group": ["g1", value]}))
    assert ids(recommender.recommend("3", 5, RecommendOptions(where={"group": []}))) == []
    assert ids(recommender.recommend("3", 5, RecommendOptions(allow=[]))) == []
    assert ids(recommender.recommend("nobody", 5, RecommendOptions(allow=["i1"]))) == ["i1"]
    with pytest.raises(UserError, match=r"expected some of group, tags, year; did you mean 'year'"):
        recommender.recommend("3", 5, RecommendOptions(where={"years": ["1951"]}))
    with pytest.raises(UserError, match=r"group, tags, year; see export\.filters"):
        recommender.recommend("3", 5, RecommendOptions(where={"title": ["x"]}))
    assert recommender.filterable == ("group", "tags", "year")


def test_seen_items_are_answers_where_that_is_asked(tiny, recommender):
    seen = Prepared(tiny.prepared_dir).excluded("test")
    found = ids(recommender.recommend("1", ITEMS, RecommendOptions(exclude_seen=False)))
    assert len(found) == ITEMS
    assert len(ids(recommender.recommend("1", ITEMS))) == ITEMS - len(
        set(seen.values[seen.offsets[1] : seen.offsets[2]].tolist())
    )


def test_similar_items_are_the_nearest_others(recommender, vectors):
    for item in ("i0", "i17", "i59"):
        scores = {other: float(v @ vectors[item]) for other, v in vectors.items() if other != item}
        found = recommender.similar_items(item, 10)
        assert found.item_id == item
        assert ids(found) == sorted(scores, key=lambda i: -scores[i])[:10]
        assert [i.score for i in found.items] == pytest.approx(
            [scores[i] for i in ids(found)], abs=1e-6
        )
    filtered = recommender.similar_items("i2", ITEMS, RecommendOptions(where=GROUP))
    assert sorted(ids(filtered)) == sorted(i for i in vectors if in_group(i) and i != "i2")
    with pytest.raises(UserError, match="the catalogue has no item 'nothing'"):
        recommender.similar_items("nothing")
    with pytest.raises(UserError, match="k is 0"):
        recommender.similar_items("i2", 0)


def test_batches_are_tables_of_the_single_answers(recommender):
    queries = ["3", "nobody", "7", "3"]
    lines = recommender.recommend_batch(queries, 4, RecommendOptions(where=GROUP)).to_pylist()
    expected = [
        {"query_id": q, "rank": r, "item_id": i.item_id, "score": i.score, "fallback": f.fallback}
        for q in queries
        for f in [recommender.recommend(q, 4, RecommendOptions(where=GROUP))]
        for r, i in enumerate(f.items, start=1)
    ]
    for line, wanted in zip(lines, expected, strict=True):
        assert line == {**wanted, "score": pytest.approx(wanted["score"], abs=1e-6)}
    assert recommender.recommend_batch([], 3).num_rows == 0


def test_answers_are_tables(recommender):
    found = recommender.recommend("3", 4)
    assert found.to_arrow().to_pylist() == [
        {"rank": rank, "item_id": each.item_id, "title": each.title, "score": each.score}
        for rank, each in enumerate(found.items, start=1)
    ]
    assert found.to_pandas()["item_id"].tolist() == ids(found)
    assert found._repr_html_().count("<tr>") == 5
    similar = recommender.similar_items("i2", 3)
    assert similar.to_arrow()["item_id"].to_pylist() == ids(similar)
    assert recommender.recommend("3", 4, RecommendOptions(allow=[])).to_arrow().num_rows == 0


def test_given_features_take_the_place_of_known_ones(recommender):
    # Query 6 is 6 years old and of country c0; query 9 is 9 and of c0.
    options = RecommendOptions(features={"age": 9, "country": "c0"}, history=["i1"])
    six, nine = (recommender.encode([q], options)[0] for q in ("new", "newer"))
    np.testing.assert_array_equal(six, nine)
    other = recommender.encode(["new"], RecommendOptions(features={"age": 9}, history=["i1"]))[0]
    assert np.abs(other - six).max() > 1e-4
    found = recommender.recommend("new", 5, options)
    assert not found.fallback
    assert found.source == "model"
    assert "i1" not in ids(recommender.recommend("new", ITEMS, options))
    for features, words in [
        ({"age": "old"}, "feature 'age' is 'old'; expected a number"),
        ({"aeg": 3}, "feature has no 'aeg', expected some of age, country; did you mean 'age'"),
        ({"query_id": "3"}, "feature 'query_id' is the id that is asked for"),
    ]:
        with pytest.raises(UserError, match=words):
            recommender.recommend("new", 5, RecommendOptions(features=features))


def test_a_given_history_is_the_known_one_in_its_place(tiny, recommender):
    history = Prepared(tiny.prepared_dir).query_state.history("test")
    known = [f"i{i}" for i in history.values[history.offsets[5] : history.offsets[6]].tolist()]
    expected = recommender.encode(["5"])
    np.testing.assert_allclose(
        recommender.encode(["5"], RecommendOptions(history=[*known, "unheard"])),
        expected,
        atol=1e-6,
    )
    other = recommender.encode(["5"], RecommendOptions(history=["i40"]))
    assert np.abs(other - expected).max() > 1e-4


def test_an_event_is_in_the_next_answer(tiny):
    online = MemoryQueries()
    recommender = serving.load(tiny.bundle_dir, online=online)
    before = recommender.recommend("4", 5)
    first = ids(before)[0]
    online.append([("4", (1, first))])
    after = recommender.recommend("4", ITEMS)
    assert first not in ids(after)
    assert [i.item_id for i in recommender.liked("4", 1)] == [first]
    # The history is what it would be, had the bundle known the event.
    known = [i.item_id for i in recommender.liked("4", 50)][::-1]
    plain = serving.load(tiny.bundle_dir)
    np.testing.assert_allclose(
        recommender.encode(["4"]), plain.encode(["4"], RecommendOptions(history=known)), atol=1e-6
    )
    # Someone new is not blank any more.
    assert recommender.recommend("new", 5).source == "popularity"
    online.append([("new", (2, "i7"))])
    answer = recommender.recommend("new", 5)
    assert answer.source == "model"
    assert not answer.fallback
    # Others are as before, in one batch with them.
    lines = recommender.recommend_batch(["9", "new"], 3).to_pylist()
    alone = [i.item_id for q in ("9", "new") for i in recommender.recommend(q, 3).items]
    assert [line["item_id"] for line in lines] == alone


def test_a_store_overrides_history_and_features(tiny):
    class Store:
        def states(self, query_ids):
            return [OnlineState([(5, "i3"), (9, "i4")], is_whole=True) for _ in query_ids]

    recommender = serving.load(tiny.bundle_dir, online=Store())
    assert [i.item_id for i in recommender.liked("4", 50)] == ["i4", "i3"]
    assert not {"i3", "i4"} & set(ids(recommender.recommend("4", ITEMS)))


def test_a_history_keeps_to_its_length(tiny):
    recommender = serving.load(tiny.bundle_dir, online=MemoryQueries())
    most = recommender.manifest.history.max_length
    many = [f"i{i % ITEMS}" for i in range(most + 30)]
    vector = recommender.encode(["x"], RecommendOptions(history=many))
    np.testing.assert_array_equal(
        vector, recommender.encode(["x"], RecommendOptions(history=many[-most:]))
    )


def test_the_golden_answers_are_asked_at_a_fixed_time(recommender):
    at = datetime(2024, 1, 1, tzinfo=UTC)
    assert ids(recommender.recommend("3", 5, RecommendOptions(at=at))) == ids(
        recommender.recommend("3", 5)
    )
