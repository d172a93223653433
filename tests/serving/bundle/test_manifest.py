"""Bundles that other versions wrote are read, or refused with what to do."""

import json

import pytest

import serving
from feature_store.core.errors import UserError
from feature_store.core.manifests import fingerprint
from tests.support.tiny_bundle import export_untrained, write_prepared


def rewrite_index(directory, change):
    """Changes the index's entry of a sealed manifest, and seals it again."""
    path = directory / "manifest.json"
    document = json.loads(path.read_text())
    change(document["index"])
    del document["seal"]
    path.write_text(json.dumps({**document, "seal": fingerprint(document)}))


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_bundle_with_the_search_parameters_of_all_kinds_is_read(kind, tmp_path, monkeypatch):
    """Checks bundles that have the parameters of all kinds, null for other kinds."""
    config = write_prepared(tmp_path, export={"index": kind})
    report = export_untrained(config, monkeypatch).index
    answer = serving.load(config.bundle_dir).recommend("5", 5)

    def add_parameters(index):
        for point in (index["chosen"], *index["curve"]):
            for name in ("ef_search", "nprobe", "refine_factor"):
                point.setdefault(name, None)

    rewrite_index(config.bundle_dir, add_parameters)
    recommender = serving.load(config.bundle_dir)
    assert recommender.manifest.index.chosen.effort == report.chosen.effort
    assert recommender.recommend("5", 5).items == answer.items


def test_a_bundle_of_a_kind_that_this_version_lacks_is_refused(tmp_path, monkeypatch):
    config = write_prepared(tmp_path)
    export_untrained(config, monkeypatch)
    rewrite_index(config.bundle_dir, lambda index: index.update(kind="tree"))
    with pytest.raises(UserError, match=r"of the kind 'tree', .*; export the model again"):
        serving.load(config.bundle_dir)
