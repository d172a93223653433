"""A bundle that somebody else made and sealed runs no code, and reads nothing outside of itself."""

import os
import shutil
import sys

import numpy as np
import pyarrow as pa
import pytest

import serving
from feature_store.core.errors import UserError
from feature_store.core.files import write_array
from feature_store.core.manifests import fingerprint, write_manifest
from serving.bundle.manifest import VERSION, read_manifest, verify
from tests.support.hostile.bundles import pickles, sealed
from tests.support.tiny_bundle import ITEMS, QUERIES


@pytest.fixture
def bundle(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "bundle")


def refusal(bundle):
    with pytest.raises(UserError) as caught:
        serving.load(bundle)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


_unpickled: list[str] = []


@pytest.fixture
def unpickled():
    """Returns a list of what is unpickled from now on; a hook cannot be taken away."""
    if not hasattr(sys, "_hooked_for_pickles"):
        sys._hooked_for_pickles = True
        sys.addaudithook(
            lambda event, arguments: (
                _unpickled.append(str(arguments)) if event == "pickle.find_class" else None
            )
        )
    _unpickled.clear()
    return _unpickled


def test_nothing_is_unpickled_to_answer(exported, unpickled):
    recommender = serving.load(exported)
    assert recommender.recommend("3", 5).items
    assert recommender.recommend("nobody", options=serving.RecommendOptions(history=["i2"])).items
    assert unpickled == []


# Files that a server does not read: for other systems, for people, or for `recsys update`.
NOT_READ = ("item_vectors/", "item_tower/", "items/features", "vocabulary/item", "report", "golden")


@pytest.mark.parametrize("way", ["pickle", "object array", "torch.save", "torch.save of old"])
def test_a_pickle_in_the_place_of_any_file_is_not_run(bundle, tmp_path, way, unpickled):
    marker = tmp_path / "marker"
    content = pickles(marker)[way]
    unpickled.clear()
    for name in read_manifest(bundle).files:
        original = (bundle / name).read_bytes()
        (bundle / name).write_bytes(content)
        sealed(bundle)
        if name.startswith(NOT_READ):
            serving.load(bundle)
        else:
            refusal(bundle)
        (bundle / name).write_bytes(original)
    assert unpickled == []
    assert not marker.exists()


def test_programs_of_earlier_versions_are_not_read(bundle, tmp_path, unpickled):
    """Refuses a bundle of the version that had them, and passes over them in another one."""
    marker = tmp_path / "marker"
    for name in ("query_tower.pt2", "item_tower.pt2"):
        (bundle / name).write_bytes(pickles(marker)["torch.save"])
    unpickled.clear()
    assert serving.load(sealed(bundle)).recommend("3", 5).items
    sentence = f"bundle of version 2, expected {VERSION}; export the model again"
    assert sentence in refusal(sealed(bundle, version=2))
    assert unpickled == []
    assert not marker.exists()


@pytest.mark.parametrize("key", ["items", "queries", "dim", "trained_items"])
@pytest.mark.parametrize("lie", [0, 1, 10**12])
def test_a_manifest_that_lies_about_a_count_is_refused(bundle, key, lie):
    assert "cannot be read: " in refusal(sealed(bundle, **{key: lie}))


ARRAYS = {
    "items/indexed.npy": [
        np.arange(ITEMS - 1),
        np.arange(ITEMS) + 1,
        np.arange(ITEMS)[::-1],
        np.arange(ITEMS) - 1,
        np.arange(ITEMS, dtype=np.float64),
        np.arange(ITEMS).reshape(2, -1),
    ],
    "items/frequency.npy": [np.zeros(3, np.int64), np.zeros(ITEMS), np.int64(7)],
    "ids/item.rows.npy": [np.full(ITEMS, ITEMS), np.full(ITEMS, -1), np.zeros(2, np.int64)],
    "ids/query.digests.npy": [np.zeros(QUERIES), np.zeros(2, np.uint64)],
    "queries/vectors.npy": [np.zeros((QUERIES, 3), np.float32), np.zeros((1, 16), np.float32)],
    "queries/latest.npy": [np.zeros(3, np.int64)],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_do_not_fit_the_others_are_refused(bundle, name):
    for array in ARRAYS[name]:
        write_array(bundle / name, np.asarray(array))
        assert "cannot be read: " in refusal(sealed(bundle))


@pytest.mark.parametrize("name", ["ids/item", "ids/query", "items/titles", "items/filters/group"])
@pytest.mark.parametrize("offset", [2**30, -5, 0])
def test_offsets_that_lead_out_of_a_file_are_refused(bundle, name, offset):
    table = table_of(bundle, f"{name}.arrow")
    _, offsets, _ = table.column(0).chunk(0).buffers()
    first = np.frombuffer(offsets, np.int32)[:5]
    changed = first.copy()
    changed[3] = offset
    path = bundle / f"{name}.arrow"
    content = path.read_bytes()
    assert content.count(first.tobytes()) == 1
    path.write_bytes(content.replace(first.tobytes(), changed.tobytes()))
    assert "cannot be read: " in refusal(sealed(bundle))


def table_of(bundle, name):
    with pa.memory_map(str(bundle / name)) as source:
        return pa.ipc.open_file(source).read_all()


def write_table(bundle, name, table):
    (bundle / name).unlink()
    with pa.OSFile(str(bundle / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)


@pytest.mark.parametrize("column", ["history", "known", "later", "own"])
def test_states_with_items_that_there_are_not_are_refused(bundle, column):
    table = table_of(bundle, "queries/state.arrow").to_pydict()
    table[column][3] = [ITEMS]
    kind = pa.large_list(pa.int32())
    changed = pa.table({name: pa.array(rows, kind) for name, rows in table.items()})
    write_table(bundle, "queries/state.arrow", changed)
    assert "has an item that is not one of" in refusal(sealed(bundle))


@pytest.mark.parametrize("change", ["fewer", "renamed", "other kind", "shorter"])
def test_features_that_are_not_those_of_the_schema_are_refused(bundle, change):
    table = table_of(bundle, "queries/features.arrow")
    if change == "fewer":
        table = table.select(table.column_names[:-1])
    elif change == "renamed":
        table = table.rename_columns(["x", *table.column_names[1:]])
    elif change == "other kind":
        table = table.set_column(0, table.column_names[0], pa.array([1.0] * len(table)))
    else:
        table = table.slice(0, 4)
    write_table(bundle, "queries/features.arrow", table)
    assert "cannot be read: " in refusal(sealed(bundle))


def as_link(bundle, elsewhere):
    shutil.move(bundle / "golden.json", elsewhere)
    (bundle / "golden.json").symlink_to(elsewhere)


def as_broken_link(bundle, elsewhere):
    (bundle / "golden.json").unlink()
    (bundle / "golden.json").symlink_to(elsewhere)


def as_linked_directory(bundle, elsewhere):
    shutil.move(bundle / "items", elsewhere)
    (bundle / "items").symlink_to(elsewhere)


def as_additional_directory(bundle, elsewhere):
    elsewhere.mkdir()
    (bundle / "more").symlink_to(elsewhere)


def as_pipe(bundle, elsewhere):
    (bundle / "golden.json").unlink()
    os.mkfifo(bundle / "golden.json")


@pytest.mark.parametrize(
    "put", [as_link, as_broken_link, as_linked_directory, as_additional_directory, as_pipe]
)
def test_a_link_inside_a_bundle_is_refused(bundle, tmp_path, put):
    put(bundle, tmp_path / "elsewhere")
    assert "is a link or no file; copy the bundle with the files themselves" in refusal(bundle)


def test_a_link_to_a_bundle_is_followed(bundle, tmp_path):
    (tmp_path / "current").symlink_to(bundle)
    assert serving.load(tmp_path / "current").recommend("3", 5).items


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "items/../golden.json"])
def test_a_file_outside_is_not_a_part(bundle, tmp_path, name):
    (tmp_path / "outside").write_text("")
    manifest = verify(bundle)
    document = manifest.model_copy(update={"files": {**manifest.files, name: 64 * "0"}})
    seal = fingerprint(document.model_dump(mode="json", exclude={"seal"}))
    write_manifest(bundle, document.model_copy(update={"seal": seal}))
    assert f"lacks {name}" in refusal(bundle)
