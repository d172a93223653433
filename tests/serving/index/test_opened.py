"""Index files of others are refused unless they have the parts of their kind, and these agree."""

import faiss
import numpy as np
import pytest

from feature_store.core.errors import UserError
from serving.index.index import ItemIndex
from serving.index.kinds import KINDS
from serving.index.vectors import array_at
from tests.support.indexes import DIM, unit_rows

ITEMS = 600


def lists_of(index):
    return faiss.downcast_index(index.base_index)


def with_items_that_there_are_not(index):
    ids = lists_of(index).invlists
    array_at(ids.get_ids(0), ids.list_size(0))[0] = 2**40


def with_fewer_stored_vectors(index):
    faiss.downcast_index(index.refine_index).remove_ids(np.arange(9))


def with_countless_candidates(index):
    index.k_factor = 1e9


def of_another_metric(index):
    lists_of(index).metric_type = faiss.METRIC_L2


@pytest.mark.parametrize(
    "change",
    [
        with_items_that_there_are_not,
        with_fewer_stored_vectors,
        with_countless_candidates,
        of_another_metric,
    ],
)
def test_parts_that_contradict_each_other_are_refused(tmp_path, change):
    kind = KINDS["ivf_pq"].build(unit_rows(ITEMS, 0), "Flat")
    faiss.write_index(kind.index, str(tmp_path / "index"))
    assert len(ItemIndex.read(tmp_path / "index", "ivf_pq")) == ITEMS
    change(kind.index)
    faiss.write_index(kind.index, str(tmp_path / "index"))
    with pytest.raises(UserError, match=r"holds no ivf_pq index; .*|is no index of its kind"):
        ItemIndex.read(tmp_path / "index", "ivf_pq")


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_of_other_classes_is_refused(tmp_path, kind):
    """Refuses inverted lists in a further file, which FAISS would open by its name, too."""
    on_disk = faiss.index_factory(DIM, "IVF4,Flat", faiss.METRIC_INNER_PRODUCT)
    on_disk.train(unit_rows(ITEMS, 0))
    lists = faiss.OnDiskInvertedLists(4, on_disk.code_size, str(tmp_path / "lists"))
    on_disk.replace_invlists(lists)
    on_disk.add(unit_rows(ITEMS, 0))
    other = KINDS["flat" if kind == "hnsw" else "hnsw"].build(unit_rows(ITEMS, 0), "Flat")
    for index in (on_disk, other.index, faiss.IndexFlatL2(DIM)):
        faiss.write_index(index, str(tmp_path / "index"))
        with pytest.raises(UserError, match=f"holds no {kind} index|is no index of its kind"):
            ItemIndex.read(tmp_path / "index", kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_any_bytes_is_refused_or_answers(tmp_path, kind):
    """Changes sizes in the file: what is read then has as many vectors as it says."""
    ItemIndex(KINDS[kind].build(unit_rows(ITEMS, 0), "Flat")).write(tmp_path / "index")
    content = (tmp_path / "index").read_bytes()
    changed = [b"", content[:100], content[: len(content) // 2], content[:-1], b"\xff" * 200]
    for at in range(4, 100, 4):
        changed.append(content[:at] + b"\xff\xff\xff\x7f" + content[at + 4 :])
    for bytes_ in changed:
        (tmp_path / "changed").write_bytes(bytes_)
        try:
            index = ItemIndex.read(tmp_path / "changed", kind)
        except UserError:
            continue
        assert index.vectors_of(np.arange(len(index))).shape == (len(index), index.dim)
