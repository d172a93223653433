"""Look-ups of items find what the vocabulary would, whatever their hashes are."""

import numpy as np
import pyarrow as pa
import pytest

from feature_store.core.files import write_array
from feature_store.encoding.vocabulary import Vocabulary
from pipelines.prepare.catalogue import item_index
from pipelines.prepare.catalogue.item_index import load_item_index, write_item_index

IDS = ["b", "a", None, "ü", "z", "c"]
CURRENT = [True, True, False, True, False, True]


@pytest.mark.parametrize("is_unlucky", [False, True], ids=["hashes", "one hash for all"])
def test_items_of_this_run_are_found(tmp_path, monkeypatch, is_unlucky):
    if is_unlucky:
        monkeypatch.setattr(item_index, "keys_of", lambda ids: np.zeros(len(ids), np.uint64))
    index = _index(tmp_path, IDS, CURRENT)
    wanted = pa.array(["c", "unknown", "z", "a", "ü", "", "b"])
    found = index.find(wanted, item_index.keys_of(wanted))
    assert found.tolist() == [5, -1, -1, 1, 3, -1, 0]
    rank = index.rank_of(found)
    assert rank[[1, 2, 5]].tolist() == [-1, -1, -1]
    assert wanted.take(np.argsort(rank)[3:]).to_pylist() == ["a", "b", "c", "ü"]


def test_an_empty_catalogue_has_no_items(tmp_path):
    index = _index(tmp_path, [], [])
    wanted = pa.array(["a"])
    assert index.rank_of(index.find(wanted, item_index.keys_of(wanted))).tolist() == [-1]


def _index(directory, ids, current):
    vocabulary = Vocabulary(
        pa.array(ids, pa.string()), pa.array(np.ones(len(ids), np.int64)), first_row=0
    )
    vocabulary.save(directory / "ids.parquet")
    write_array(directory / "current.npy", np.array(current, bool))
    write_item_index(directory, vocabulary)
    load_item_index.cache_clear()
    return load_item_index(directory, directory / "ids.parquet", directory / "current.npy")
