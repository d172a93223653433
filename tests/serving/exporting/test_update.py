"""Items come and go between two trainings."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import serving
from feature_store.core.errors import UserError
from pipelines.logs.tables import open_source, read_piece
from serving.exporting.update import update
from serving.index.index import ItemIndex
from serving.recommend.memory import MemoryQueries
from serving.recommend.options import RecommendOptions
from tests.support.tiny_bundle import ITEMS, export_untrained, write_prepared


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    made = write_prepared(tmp_path_factory.mktemp("tiny"))
    with pytest.MonkeyPatch.context() as patch:
        export_untrained(made, patch)
    return made


@pytest.fixture
def new_items(config, tmp_path):
    """Copies of some items that have no events, under new ids."""
    source = open_source(f"{config.output}/items.parquet", "items")
    raw = read_piece(source.pieces[0], source.schema.names).to_pylist()
    rows = [{**raw[item], "item_id": f"new {item}"} for item in (52, 55)]
    path = tmp_path / "new.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def ids(found):
    return [item.item_id for item in found.items]


def test_new_items_are_found_as_those_that_are_like_them(config, new_items, tmp_path):
    output = tmp_path / "updated"
    manifest = update(config.bundle_dir, output, items=new_items, removed=["i3", "i58"])
    assert manifest.items == ITEMS
    before, after = serving.load(config.bundle_dir), serving.load(output)
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


def test_an_event_with_a_new_item_is_seen_but_is_no_history_yet(config, new_items, tmp_path):
    update(config.bundle_dir, tmp_path / "updated", items=new_items)
    online = MemoryQueries()
    recommender = serving.load(tmp_path / "updated", online=online)
    vector = recommender.encode(["5"])
    online.append([("5", (1, "new 52"))])
    np.testing.assert_allclose(recommender.encode(["5"]), vector, atol=1e-6)
    assert "new 52" not in ids(recommender.recommend("5", 1000))


def test_the_old_bundle_stays_and_may_be_replaced(config, new_items, tmp_path):
    served = tmp_path / "served"
    shutil.copytree(config.bundle_dir, served)
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
def test_bad_changes_are_one_sentence_and_nothing_is_written(
    config, tmp_path, table, removed, words
):
    path = None
    if table is not None:
        path = tmp_path / "new.parquet"
        pq.write_table(pa.table(table), path)
    with pytest.raises(UserError, match=words):
        update(config.bundle_dir, tmp_path / "updated", items=path, removed=removed)
    assert not (tmp_path / "updated").exists()
