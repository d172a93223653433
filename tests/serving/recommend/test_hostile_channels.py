"""A bundle is refused where its channels, which somebody else made and sealed, are none."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import serving
from feature_store.core.columns import Dense, read_columns, write_columns
from feature_store.core.errors import UserError
from feature_store.core.files import write_array
from serving.bundle.manifest import read_manifest, seal
from serving.server.build import ServerSettings, build
from tests.serving.server.test_server import recommend, request
from tests.support.hostile.bundles import pickles, sealed
from tests.support.servers import running
from tests.support.tiny_bundle import ITEMS

LISTS = "fusion/lists/content"
# Arrays that are read for `recsys update` alone.
NOT_READ = "item_tower/"
OF_ITEMS = ("fusion/rarity", "fusion/dial", "fusion/trend")


@pytest.fixture
def bundle(tiny_fused, tmp_path):
    return shutil.copytree(tiny_fused.bundle_dir, tmp_path / "bundle")


def refusal(bundle):
    with pytest.raises(UserError) as caught:
        serving.load(sealed(bundle))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def others(name, array):
    """Returns arrays that are none of what the file `name` holds."""
    several = [array[:-1], array.reshape(-1, 1), array[:0], np.array(1, array.dtype)]
    several += [array.astype(kind) for kind in (np.complex64, np.bool_, "U8", "M8[us]")]
    if name.endswith(("offsets", "items")):
        unsigned = array.astype(np.uint64)
        unsigned[len(array) // 2] = 2**64 - 5
        return [*several, unsigned, array.astype(np.float64), changed(array, -1), -array]
    numbers = (np.nan, np.inf, -np.inf, 3e38)
    return [*several, array.astype(np.int64), *(changed(array, number) for number in numbers)]


def changed(array, value):
    array = array.copy()
    array[len(array) // 2] = value
    return array


@pytest.mark.parametrize(
    "name", [*OF_ITEMS, *(f"{LISTS}/{name}" for name in ("offsets", "items", "scores"))]
)
def test_arrays_of_channels_that_are_none_are_refused(bundle, name):
    path = bundle / f"{name}.npy"
    for array in others(name, np.load(path)):
        write_array(path, array)
        assert "cannot be read: " in refusal(bundle)


@pytest.mark.parametrize("name", ["weights", "offsets"])
def test_weights_of_content_that_are_none_are_refused(bundle, name):
    path = bundle / "fusion/content" / f"{name}.npy"
    array = np.load(path)
    wrong = [array[:-1], array.reshape(-1, 1), array[:0], array.astype("U8"), array.astype(bool)]
    if name == "offsets":
        wrong += [array.astype(np.uint64)]
    else:
        wrong += [array.astype(np.complex64), changed(array, np.nan), changed(array, np.inf)]
    for each in wrong:
        write_array(path, each)
        assert "cannot be read: " in refusal(bundle)


def replaced(columns, name, column):
    """Returns the columns with another one, in the same order."""
    return {each: column if each == name else columns[each] for each in columns}


def other_contents(columns):
    """Returns contents of items that are none, by what is wrong with them."""
    group = columns["group"]
    dense = next(name for name, column in columns.items() if isinstance(column, Dense))
    number, rows = columns[dense], np.arange(ITEMS)
    few = {name: column.take(rows[:-1]) for name, column in columns.items()}
    yield "fewer items", few
    yield (
        "no row of a table",
        replaced(columns, "group", replace(group, values=changed(group.values, 10**6))),
    )
    yield "below 0", replaced(columns, "group", replace(group, values=changed(group.values, -1)))
    yield "another kind", replaced(columns, "group", number)
    yield "no tokens", replaced(columns, dense, group)
    values = np.concatenate([number.values, number.values], axis=1)
    yield "too wide", replaced(columns, dense, replace(number, values=values))
    yield "nothing", {}
    for value in (np.nan, np.inf):
        present = np.ones(ITEMS, bool)
        yield "not finite", replaced(columns, dense, Dense(changed(number.values, value), present))


def test_contents_of_items_that_are_none_are_refused(bundle):
    path = bundle / "items/features.arrow"
    for _, columns in other_contents(read_columns(path)):
        write_columns(path, columns)
        assert "cannot be read: " in refusal(bundle)
    for content in (b"", b"ARROW1\0\0", path.read_bytes()[:-30]):
        path.write_bytes(content)
        assert "cannot be read: " in refusal(bundle)


def test_a_server_tells_of_them_without_a_path(bundle):
    path = bundle / "fusion/content/weights.npy"
    write_array(path, np.load(path)[:-1])
    body = {"query_id": "3", "explain": True}
    with running(build(ServerSettings(sealed(bundle), reload_seconds=0))) as port:
        assert recommend(port, {"query_id": "3"})[0] == 200
        status, failed = recommend(port, body)
        assert status == 500
        ready, fault = request(port, "GET", "/readyz")
    assert ready == 503
    assert fault["error"].startswith("the bundle cannot be read: content holds no weights")
    assert str(bundle.parent) not in f"{failed}{fault}"


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [("offsets", 3, 0), ("offsets", 0, 1), ("offsets", -1, 2**40), ("items", 0, ITEMS)],
)
def test_lists_that_lead_to_nothing_are_refused(bundle, name, index, value):
    path = bundle / LISTS / f"{name}.npy"
    array = np.load(path)
    array[index] = value
    write_array(path, array)
    assert "cannot be read: " in refusal(bundle)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x05\x00{0:1}"])
def test_a_file_that_is_no_array_is_refused(bundle, content):
    for name in read_manifest(bundle).files:
        if name.endswith(".npy") and not name.startswith(NOT_READ):
            original = (bundle / name).read_bytes()
            (bundle / name).write_bytes(content)
            refusal(bundle)
            (bundle / name).write_bytes(original)


def test_pickles_of_channels_are_not_run(bundle, tmp_path):
    for content in pickles(tmp_path / "marker").values():
        (bundle / LISTS / "scores.npy").write_bytes(content)
        refusal(bundle)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("part", ["model", "trend", "dial", "channels", "rare"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1", "1e300", "1e999", '"x"', "null"])
def test_weights_that_weigh_nothing_are_refused(bundle, part, number):
    path = bundle / "fusion/fusion.json"
    document = json.loads(path.read_text())
    of_channels = part in ("channels", "rare")
    document["weights"][part] = {"content": "HERE"} if of_channels else "HERE"
    path.write_text(json.dumps(document).replace('"HERE"', number))
    assert "fusion.json cannot be read: " in refusal(bundle)


@pytest.mark.parametrize("lists", ["../../outside", "/etc", "", ".", "a/b", "\0", "x" * 5000])
def test_lists_outside_of_a_bundle_are_not_read(bundle, tmp_path, lists):
    shutil.copytree(bundle / LISTS, bundle.parent / "outside")
    path = bundle / "fusion/fusion.json"
    document = json.loads(path.read_text())
    document["channels"]["content"]["lists"] = lists
    path.write_text(json.dumps(document))
    assert "channels.content.lists" in refusal(bundle)


@pytest.mark.parametrize("part", ["channels", "rare"])
def test_a_weight_of_no_channel_is_refused(bundle, part):
    path = bundle / "fusion/fusion.json"
    document = json.loads(path.read_text())
    document["weights"][part]["links"] = 0.5
    path.write_text(json.dumps(document))
    assert "'links', which is no channel of it" in refusal(bundle)


def test_fewer_candidates_than_none_are_refused(bundle):
    manifest = read_manifest(bundle)
    fusion = manifest.fusion.model_copy(update={"candidates": -1})
    seal(bundle, manifest.model_copy(update={"fusion": fusion}))
    with pytest.raises(UserError, match="is not a bundle's manifest"):
        serving.load(bundle)
