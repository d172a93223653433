"""A bundle that is not what was exported is refused, with one sentence that names the file."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import serving
from feature_store.core.errors import UserError
from feature_store.encoding.vocabulary import Vocabulary
from serving.bundle.manifest import VERSION, verify
from serving.recommend.load import read_snapshot
from tests.support.tiny_bundle import ITEMS, QUERIES, export_untrained, write_prepared

TOWER_FILES = ("tensors.json", "probe.npy")


@pytest.fixture(scope="module")
def two_bundles(tmp_path_factory):
    """Exports two trainings on the same data."""
    paths = []
    for seed in (0, 1):
        config = write_prepared(tmp_path_factory.mktemp(f"seed{seed}"))
        with pytest.MonkeyPatch.context() as patch:
            export_untrained(config, patch, seed=seed)
        paths.append(config.bundle_dir)
    return paths


@pytest.fixture
def bundle(two_bundles, tmp_path):
    return shutil.copytree(two_bundles[0], tmp_path / "bundle")


def refusal(bundle):
    with pytest.raises(UserError) as caught:
        serving.load(bundle)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_a_copied_bundle_answers(bundle, two_bundles):
    assert serving.load(bundle).recommend("3") == serving.load(two_bundles[0]).recommend("3")
    assert serving.load(str(bundle)).recommend("3") != serving.load(two_bundles[1]).recommend("3")


def test_items_that_are_gone_are_never_recommended(tmp_path, monkeypatch):
    config = write_prepared(tmp_path)
    path = config.prepared_dir / "vocabulary" / "item_id.parquet"
    before = Vocabulary.load(path)
    gone = [0, 7, 40]
    tokens = [None if i in gone else token for i, token in enumerate(before.tokens.to_pylist())]
    counts = [0 if i in gone else 1 for i in range(ITEMS)]
    Vocabulary(pa.array(tokens), pa.array(counts), 0).save(path)
    assert export_untrained(config, monkeypatch).items == ITEMS - len(gone)
    recommender = serving.load(config.bundle_dir)
    exact = {str(query): recommender.encode([str(query)])[0] for query in range(QUERIES)}
    vectors = pq.read_table(config.bundle_dir / "item_vectors")
    matrix = np.array(vectors["vector"].to_pylist())
    snapshot = read_snapshot(config.bundle_dir)
    excluded = snapshot.known.beside(snapshot.later)
    for row, (query, vector) in enumerate(exact.items()):
        found = [item.item_id for item in recommender.recommend(query, ITEMS).items]
        known = excluded.take(np.array([row])).values.tolist()
        expected = {tokens[i] for i in range(ITEMS) if i not in known and i not in gone}
        assert set(found) == expected
        scores = dict(zip(vectors["item_id"].to_pylist(), matrix @ vector, strict=True))
        assert [scores[item] for item in found] == sorted((scores[i] for i in found), reverse=True)


def test_the_layout_is_the_documented_one(bundle):
    manifest = verify(bundle)
    assert set(manifest.files) == {
        "schema.json",
        "towers.json",
        *(f"{side}_tower/{name}" for side in ("item", "query") for name in TOWER_FILES),
        *(f"item_tower/{number:03d}.npy" for number in range(13)),
        *(f"query_tower/{number:03d}.npy" for number in range(12)),
        "index.faiss",
        "item_vectors/part-00000.parquet",
        "golden.json",
        "report.html",
        *(
            f"ids/{side}{file}"
            for side in ("item", "query")
            for file in (".arrow", ".digests.npy", ".rows.npy")
        ),
        "items/features.arrow",
        "items/filters/group.arrow",
        "items/filters/tags.arrow",
        "items/filters/year.arrow",
        "items/frequency.npy",
        "items/indexed.npy",
        "items/titles.arrow",
        "queries/features.arrow",
        "queries/state.arrow",
        "queries/vectors.npy",
        *(f"vocabulary/{side}_id.parquet" for side in ("item", "query")),
        *(f"vocabulary/{group}.scaling.json" for group in ("item", "query", "context")),
        *(f"vocabulary/{name}.parquet" for name in ("item.group", "item.tags", "query.country")),
    }


def test_a_flipped_byte_of_any_file_is_found(bundle):
    for name in verify(bundle).files:
        path = bundle / name
        original = path.read_bytes()
        middle = len(original) // 2
        path.write_bytes(original[:middle] + bytes([original[middle] ^ 1]) + original[middle + 1 :])
        assert f"{name} of the bundle" in refusal(bundle)
        path.write_bytes(original)
    serving.load(bundle)


def test_a_missing_file_is_named(bundle):
    (bundle / "queries" / "state.arrow").unlink()
    assert "lacks queries/state.arrow" in refusal(bundle)


def test_a_file_of_another_bundle_is_refused(bundle, two_bundles):
    shutil.copy(two_bundles[1] / "query_tower" / "000.npy", bundle / "query_tower" / "000.npy")
    assert "query_tower/000.npy of the bundle" in refusal(bundle)


def test_a_file_that_does_not_belong_is_refused(bundle):
    shutil.copy(bundle / "index.faiss", bundle / "items" / "index.faiss")
    assert "does not belong to it: items/index.faiss" in refusal(bundle)


def test_the_manifest_of_another_bundle_is_refused(bundle, two_bundles):
    shutil.copy(two_bundles[1] / "manifest.json", bundle / "manifest.json")
    assert "of the bundle" in refusal(bundle)


def test_an_edited_manifest_is_refused(bundle):
    path = bundle / "manifest.json"
    document = json.loads(path.read_text())
    document["metrics"]["validation"]["recall@10"] = 0.99
    path.write_text(json.dumps(document))
    assert "manifest.json was changed after the export" in refusal(bundle)


def test_another_version_is_refused(bundle):
    path = bundle / "manifest.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "version": VERSION + 1, "news": True}))
    assert f"bundle of version {VERSION + 1}, expected {VERSION}" in refusal(bundle)


@pytest.mark.parametrize("text", ["", "[]", "{}", f'{{"version": {VERSION}}}', "\udc80"])
def test_a_broken_manifest_is_refused(bundle, text):
    (bundle / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert "manifest.json is not a bundle's manifest" in refusal(bundle)


def test_what_is_no_bundle_is_refused(tmp_path):
    assert "nowhere is not a bundle" in refusal(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert "file is not a bundle" in refusal(tmp_path / "file")
