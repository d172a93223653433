"""Items come and go between two trainings."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import serving
from feature_store.core.errors import UserError
from pipelines.logs.tables import open_source, read_piece
from pipelines.prepared.reader import Prepared
from recsys.channels.content import content_matrix, content_space
from recsys.fusion.fused import Fused
from recsys.fusion.weights import Weights
from serving.exporting.update import update
from serving.index.index import ItemIndex
from serving.recommend.memory import MemoryQueries
from serving.recommend.options import RecommendOptions
from tests.support.fused.tiny_fusion import export_fused, random_fused, write_fused_prepared
from tests.support.tiny_bundle import ITEMS, export_untrained, write_prepared


@pytest.fixture
def new_items(tiny, tmp_path):
    """Copies of some items that have no events, under new ids."""
    source = open_source(f"{tiny.output}/items.parquet", "items")
    raw = read_piece(source.pieces[0], source.schema.names).to_pylist()
    rows = [{**raw[item], "item_id": f"new {item}"} for item in (52, 55)]
    path = tmp_path / "new.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def ids(found):
    return [item.item_id for item in found.items]


def test_new_items_are_found_as_those_that_are_like_them(tiny, new_items, tmp_path):
    output = tmp_path / "updated"
    manifest = update(tiny.bundle_dir, output, items=new_items, removed=["i3", "i58"])
    assert manifest.items == ITEMS
    before, after = serving.load(tiny.bundle_dir), serving.load(output)
    assert manifest.fingerprint != before.manifest.fingerprint
    for query in ("0", "5", "9"):
        scores = {i.item_id: i.score for i in after.recommend(query, 1000).items}
        old = {i.item_id: i.score for i in before.recommend(query, 1000).items}
        twins = {"new 52": "i52", "new 55": "i55"}
        for item, score in scores.items():
            twin = twins.get(item, item)
            if twin in old:
                assert score == pytest.approx(old[twin], abs=1e-5)
        assert set(scores) - set(twins) == set(old) - {"i3", "i58"}
        assert set(twins) <= set(scores)
    assert ids(after.similar_items("new 52", 1)) == ["i52"]
    assert after.recommend("5", 1000).items[0].title is not None
    # Filters and answers by popularity know of the change, too.
    group = ids(
        after.recommend("5", 1000, RecommendOptions(where={"group": ["g4"]}, exclude_seen=False))
    )
    assert "new 52" in group
    assert "i58" not in group
    popular = ids(after.recommend("nobody", 1000))
    assert set(popular[-12:]) >= {"new 52", "new 55"}
    assert "i3" not in popular
    vectors = pq.read_table(output / "item_vectors")
    assert vectors["item_id"].to_pylist()[-2:] == ["new 52", "new 55"]


def test_an_event_with_a_new_item_is_seen_but_is_no_history_yet(tiny, new_items, tmp_path):
    update(tiny.bundle_dir, tmp_path / "updated", items=new_items)
    online = MemoryQueries()
    recommender = serving.load(tmp_path / "updated", online=online)
    vector = recommender.encode(["5"])
    online.append([("5", (1, "new 52"))])
    np.testing.assert_allclose(recommender.encode(["5"]), vector, atol=1e-6)
    assert "new 52" not in ids(recommender.recommend("5", 1000))


def test_the_old_bundle_stays_and_may_be_replaced(tiny, new_items, tmp_path):
    served = tmp_path / "served"
    shutil.copytree(tiny.bundle_dir, served)
    old = serving.load(served)
    answer = old.recommend("5", 5)
    update(served, served, items=new_items)
    assert old.recommend("5", 5) == answer  # The old files are still mapped.
    assert serving.load(served).manifest.items == ITEMS + 2
    update(served, served, removed=["new 52"])
    assert serving.load(served).manifest.items == ITEMS + 1


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_an_index_that_cannot_be_extended_is_built_anew(kind, tmp_path, monkeypatch, capsys):
    config = write_prepared(tmp_path, export={"index": kind})
    export_untrained(config, monkeypatch)
    update(config.bundle_dir, tmp_path / "updated", removed=[f"i{i}" for i in range(30)])
    index = ItemIndex.read(tmp_path / "updated" / "index.faiss", kind)
    assert (index.kind.name, len(index)) == (kind, ITEMS - 30)
    said = capsys.readouterr().out
    assert ("extended" if kind == "flat" else "built anew") in said
    left = {f"i{i}" for i in range(30, ITEMS)}
    assert set(ids(serving.load(tmp_path / "updated").recommend("nobody", 1000))) == left


@pytest.mark.parametrize(
    ("table", "removed", "words"),
    [
        ({"item_id": ["i5"]}, (), "item 'i5' is in the bundle already"),
        ({"item_id": ["a", "a"]}, (), "same id"),
        ({"item_id": ["a", None]}, (), "has no id"),
        ({"id": ["a"]}, (), "has no column 'item_id', but id"),
        (None, ("i5", "nothing"), "no item 'nothing' to remove"),
    ],
)
def test_bad_changes_are_one_sentence_and_nothing_is_written(tiny, tmp_path, table, removed, words):
    path = None
    if table is not None:
        path = tmp_path / "new.parquet"
        pq.write_table(pa.table(table), path)
    with pytest.raises(UserError, match=words):
        update(tiny.bundle_dir, tmp_path / "updated", items=path, removed=removed)
    assert not (tmp_path / "updated").exists()


def test_a_new_item_is_found_by_those_who_had_items_of_its_content(
    tiny_by_content, new_items, tmp_path, capsys
):
    output = tmp_path / "updated"
    update(tiny_by_content.bundle_dir, output, items=new_items, removed=["i3"])
    assert "2 of the 2 new items have neighbours by content" in capsys.readouterr().out
    before, after = (serving.load(path) for path in (tiny_by_content.bundle_dir, output))
    options = RecommendOptions(explain=True, history=["i52"])
    first = after.recommend("nobody", 1, options).items[0]
    assert first.item_id == "new 52"
    assert [reason.item_id for reason in first.explanation.because] == ["i52"]
    assert ids(after.similar_items("new 52", 1)) == ["i52"]
    assert ids(after.similar_items("i52", 1)) == ["new 52"]
    # An event of the new item finds those that are like it, as one of its twin did before.
    online = MemoryQueries()
    online.append([("0", (1, "new 55"))])
    found = serving.load(output, online=online).recommend("0", 60, RecommendOptions(explain=True))
    assert found.items[0].item_id == "i55"
    # All that was there is scored as before.
    others = {i.item_id: i.score for i in before.recommend("5", 60).items}
    for item in after.recommend("5", 60).items:
        if not item.item_id.startswith("new"):
            assert item.score == pytest.approx(others[item.item_id], abs=1e-5)


def test_neighbours_of_new_items_are_the_nearest_of_the_training(
    tiny_by_content, new_items, tmp_path
):
    update(tiny_by_content.bundle_dir, tmp_path / "once", items=new_items, removed=["i7"])
    twice = pa.table({"item_id": ["third"], "group": ["g4"], "tags": [["t0", "t1"]]})
    pq.write_table(twice, tmp_path / "third.parquet")
    update(tmp_path / "once", tmp_path / "twice", items=tmp_path / "third.parquet")
    prepared = Prepared(tiny_by_content.prepared_dir)
    is_left = np.arange(ITEMS) != 7
    matrix = content_matrix(content_space(prepared), prepared.item_columns, is_left)
    lists = Fused.read(tmp_path / "twice" / "fusion").lists["content"]
    cosines = (matrix @ matrix.T).toarray()
    for new, twin in ((ITEMS, 52), (ITEMS + 1, 55)):
        start, stop = lists.lists.offsets[new : new + 2]
        found = lists.scores[start:stop]
        np.testing.assert_allclose(np.sort(found), np.sort(cosines[twin])[-6:], rtol=1e-5)
        np.testing.assert_allclose(found, cosines[twin][lists.lists.values[start:stop]], rtol=1e-5)
    start, stop = lists.lists.offsets[ITEMS + 2 :]
    assert lists.lists.values[start:stop].max() < ITEMS
    assert stop - start == 6


def test_new_items_without_a_channel_of_content_are_told(
    tiny_by_content, new_items, tmp_path, capsys
):
    made = write_fused_prepared(tmp_path / "other")
    links = Weights(channels={"co_occurrence": 1.0})
    with pytest.MonkeyPatch.context() as patch:
        export_fused(made, patch, lambda _: random_fused(ITEMS, links))
    assert not (made.bundle_dir / "fusion" / "content").exists()
    update(made.bundle_dir, tmp_path / "updated", items=new_items)
    assert "new items are in no channel until the next training" in capsys.readouterr().out
    assert "new 52" in ids(serving.load(tmp_path / "updated").recommend("5", 100))
