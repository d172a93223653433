"""Bundles in MLflow's registry: who is the champion, and what a reference stands for."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import serving
from feature_store.core.errors import UserError
from recsys.tracking import existing_store, start_run
from serving.bundle.manifest import read_manifest, seal, verify
from serving.registry import cache as bundle_cache
from serving.registry import registry
from serving.registry.cache import cached_bundle
from serving.registry.registry import current_version, promote, register, resolve, rollback
from tests.support.tiny_bundle import write_prepared


class System:
    """A registered model of its own in the shared store."""

    def __init__(self, directory, exported, uri):
        self.name = f"model-{uuid.uuid4().hex[:8]}"
        self.directory, self.exported, self.uri = directory, exported, uri
        tracking = {"uri": uri, "experiment": self.name}
        self.config = write_prepared(directory / "system", tracking=tracking)

    def train(self, mark):
        """Makes a bundle of a new run; bundles with other marks have other seals."""
        run = start_run(self.config, "train")
        directory = shutil.copytree(self.exported, self.directory / mark)
        manifest = read_manifest(directory)
        changes = {"mlflow_run_id": run.run_id, "training_fingerprint": mark}
        return seal(directory, manifest.model_copy(update=changes)), directory

    def register(self, mark):
        return register(self.config, *self.train(mark))

    def aliases(self):
        with self.client() as client:
            aliases = client.get_registered_model(self.name).aliases
        return {alias: str(version) for alias, version in aliases.items()}

    def client(self):
        return existing_store(self.uri, "test")

    def resolve(self, reference="@champion"):
        cache = self.directory / "cache"
        return resolve(f"models:/{self.name}{reference}", tracking_uri=self.uri, cache=cache)

    def artifacts(self, bundle):
        """Returns the directory in which the store keeps a bundle."""
        with self.client() as client:
            uri = client.get_run(bundle.mlflow_run_id).info.artifact_uri
        return Path(urlsplit(uri).path) / "bundle" / bundle.seal


@pytest.fixture
def system(tmp_path, exported, tracking_uri):
    return System(tmp_path, exported, tracking_uri)


def refusal(call, *arguments, **options):
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_the_first_bundle_is_the_champion_and_later_ones_are_challengers(system):
    bundle, directory = system.train("a")
    first = register(system.config, bundle, directory)
    assert (first.name, first.version) == (system.name, "1")
    assert first.is_new
    assert first.is_champion
    assert system.aliases() == {"champion": "1", "challenger": "1"}
    with system.client() as client:
        version = client.get_model_version(system.name, "1")
        artifacts = client.get_run(bundle.mlflow_run_id).info.artifact_uri
    assert version.run_id == bundle.mlflow_run_id
    assert version.source.startswith(f"{artifacts}/bundle")
    assert version.tags == {
        "recsys.seal": bundle.seal,
        "recsys.fingerprint": bundle.fingerprint,
        "recsys.schema_fingerprint": bundle.schema_fingerprint,
    }
    second = system.register("b")
    assert second.sentence() == f"version 2 of {system.name} is the challenger"
    assert not second.is_champion
    assert system.aliases() == {"champion": "1", "challenger": "2"}


def test_a_bundle_is_registered_once(system):
    bundle, directory = system.train("a")
    register(system.config, bundle, directory)
    system.register("b")
    shutil.rmtree(directory)  # Were it uploaded again, this would fail.
    again = register(system.config, bundle, directory)
    assert (again.version, again.is_new, again.is_champion) == ("1", False, True)
    assert system.aliases() == {"champion": "1", "challenger": "1"}


def test_bundles_of_one_run_do_not_overwrite_each_other(system):
    bundle, directory = system.train("a")
    other = shutil.copytree(directory, system.directory / "again")
    (other / "more.txt").write_text("of another export")
    later = seal(other, bundle)
    register(system.config, bundle, directory)
    assert register(system.config, later, other).version == "2"
    assert verify(system.resolve("/1")) == bundle
    assert verify(system.resolve("/2")) == later


def test_a_run_of_another_store_is_not_registered(system, exported):
    assert register(system.config, verify(exported), exported) is None


def test_the_registered_model_can_have_a_name_of_its_own(system):
    name = f"{system.name}-own"
    export = system.config.export.model_copy(update={"registered_model": name})
    bundle, directory = system.train("a")
    named = system.config.model_copy(update={"export": export})
    assert register(named, bundle, directory).name == name


def test_promotions_are_rolled_back_one_after_the_other(system):
    for mark in "abc":
        system.register(mark)
    first = promote(system.name, tracking_uri=system.uri)
    assert (first.version, first.former) == ("3", "1")
    second = promote(system.name, version="2", tracking_uri=system.uri)
    assert second.sentence() == f"version 2 of {system.name} is the champion, after version 3"
    back = [rollback(system.name, tracking_uri=system.uri) for _ in range(2)]
    assert [(each.version, each.former) for each in back] == [("3", "2"), ("1", "3")]
    # A withdrawn version must not come back by a plain `promote`.
    assert system.aliases() == {"champion": "1"}
    assert "nothing to roll back to" in refusal(rollback, system.name, tracking_uri=system.uri)


def test_to_promote_the_champion_changes_nothing(system):
    system.register("a")
    same = promote(system.name, tracking_uri=system.uri)
    assert same.sentence() == f"version 1 of {system.name} is the champion already"
    assert "nothing to roll back to" in refusal(rollback, system.name, tracking_uri=system.uri)


def test_a_rollback_skips_a_version_that_is_gone_and_a_promotion_that_did_not_end(system):
    for mark in "abc":
        system.register(mark)
    for version in "23":
        promote(system.name, version=version, tracking_uri=system.uri)
    with system.client() as client:
        client.delete_model_version(system.name, "2")
        # As a promotion leaves it that was killed before it moved the alias.
        client.set_registered_model_tag(system.name, "recsys.former_champions", '["1", "2", "3"]')
    assert rollback(system.name, tracking_uri=system.uri).version == "1"


def test_a_promotion_that_was_killed_remembers_the_champion_once(system, monkeypatch):
    class KilledError(BaseException):
        pass

    def dies(*_):
        raise KilledError

    for mark in "ab":
        system.register(mark)
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.set_registered_model_alias", dies)
        with pytest.raises(KilledError):
            promote(system.name, tracking_uri=system.uri)
    promote(system.name, tracking_uri=system.uri)
    with system.client() as client:
        tags = client.get_registered_model(system.name).tags
    assert tags["recsys.former_champions"] == '["1"]'
    assert system.aliases()["champion"] == "2"


def test_what_is_not_there_is_told(system):
    uri = {"tracking_uri": system.uri}
    sentence = refusal(promote, "nothing", **uri)
    assert sentence.startswith("cannot promote a version of nothing: Registered Model")
    assert "Registered Model" in refusal(rollback, "nothing", **uri)
    system.register("a")
    assert "version=7" in refusal(promote, system.name, version="7", **uri)
    with system.client() as client:
        client.delete_registered_model_alias(system.name, "challenger")
    assert "has no challenger to promote" in refusal(promote, system.name, **uri)
    assert "alias other not found" in refusal(system.resolve, "@other")
    assert "version=7" in refusal(system.resolve, "/7")
    for wrong in ("", "/", "@", "/latest", "/1/2", "@a/b"):
        assert "is not a reference; give models:/NAME@champion" in refusal(system.resolve, wrong)
    missing = {"tracking_uri": "sqlite:///nowhere.db"}
    assert "there is no MLflow store" in refusal(resolve, "models:/a/1", **missing)


def test_a_reference_becomes_a_bundle_that_answers(system, exported):
    bundle, directory = system.train("a")
    register(system.config, bundle, directory)
    by_alias, by_version = system.resolve(), system.resolve("/1")
    assert by_alias == by_version == system.directory / "cache" / bundle.seal
    assert verify(by_alias) == bundle
    assert [p for p in by_alias.parent.iterdir() if p.is_dir()] == [by_alias]
    assert serving.load(by_alias).recommend("3") == serving.load(exported).recommend("3")
    assert resolve(str(exported)) == exported


def test_what_is_in_the_cache_is_not_downloaded_unless_it_is_damaged(system):
    bundle, directory = system.train("a")
    register(system.config, bundle, directory)
    found = system.resolve()
    kept = system.artifacts(bundle)
    kept.rename(kept.with_name("aside"))
    assert system.resolve() == found
    kept.with_name("aside").rename(kept)
    (found / "index.faiss").write_bytes(b"damaged")
    assert verify(system.resolve()) == bundle


def test_artifacts_that_are_not_what_was_registered_are_refused(system):
    bundle, directory = system.train("a")
    register(system.config, bundle, directory)
    kept = system.artifacts(bundle)
    (kept / "index.faiss").write_bytes(b"damaged")
    assert "index.faiss of the bundle" in refusal(system.resolve)
    seal(kept, read_manifest(kept))  # Sealed anew, it is a bundle, but another one.
    assert f"expected {bundle.seal}, under which it was registered" in refusal(system.resolve)
    assert not [path for path in system.directory.glob("cache/*") if path.is_dir()]


def test_a_version_of_something_else_is_refused(system):
    with system.client() as client:
        client.create_registered_model(system.name)
        client.create_model_version(system.name, "/tmp/x", tags={"recsys.seal": "../../etc"})
        client.create_model_version(system.name, "/tmp/x")
    assert "'../../etc' is not the seal of a bundle" in refusal(system.resolve, "/1")
    assert "has no tag recsys.seal" in refusal(system.resolve, "/2")


def test_a_poller_sees_that_the_alias_has_moved(system):
    reference = f"models:/{system.name}@champion"
    system.register("a")
    system.register("b")
    assert current_version(reference, tracking_uri=system.uri) == "1"
    promote(system.name, tracking_uri=system.uri)
    assert current_version(reference, tracking_uri=system.uri) == "2"
    assert current_version("some/directory") is None


def test_the_champions_manifest_is_read_without_its_bundle(system):
    assert registry.champion_manifest(system.config) is None
    bundle, directory = system.train("a")
    register(system.config, bundle, directory)
    system.register("b")
    assert registry.champion_manifest(system.config) == bundle
    path = system.artifacts(bundle) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 0}))
    assert registry.champion_manifest(system.config) is None


def test_a_bundle_that_passed_the_gate_against_the_champion_becomes_it(system):
    def made(name, compared_with):
        bundle, directory = system.train(name)
        gate = bundle.gate.model_copy(update={"champion": compared_with})
        (directory / "manifest.json").unlink()
        changed = seal(directory, bundle.model_copy(update={"gate": gate}))
        register(system.config, changed, directory)
        return changed

    first = made("a", None)
    assert registry.promote_if_passed(system.config, first) is None  # It is the champion.
    for name, compared_with in (("b", None), ("c", "another run")):
        assert registry.promote_if_passed(system.config, made(name, compared_with)) is None
        assert registry.champion_manifest(system.config).seal == first.seal
    last = made("d", first.mlflow_run_id)
    found = registry.promote_if_passed(system.config, last)
    assert found is not None
    assert (found.version, found.former) == ("4", "1")
    assert registry.champion_manifest(system.config).seal == last.seal


def test_without_a_store_there_is_no_champion(tmp_path):
    config = write_prepared(tmp_path, tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"})
    assert registry.champion_manifest(config) is None
    assert not (tmp_path / "mlflow.db").exists()


def test_one_of_several_processes_downloads(exported, tmp_path):
    bundle = verify(exported)
    downloads = []

    def download(directory):
        downloads.append(directory)
        return shutil.copytree(exported, directory / "deep" / "below")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: cached_bundle(bundle.seal, download, tmp_path), range(8)))
    assert set(found) == {tmp_path / bundle.seal}
    assert len(downloads) == 1
    assert verify(found[0]) == bundle


def test_the_cache_is_where_the_user_keeps_caches(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    seal_ = verify(exported).seal
    found = cached_bundle(seal_, lambda directory: shutil.copytree(exported, directory / "x"))
    assert found == tmp_path / "recsys" / "bundles" / seal_


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file cannot be written .*; set XDG_CACHE_HOME"):
        cached_bundle("0" * 16, lambda directory: directory, tmp_path / "file")


def test_the_cache_keeps_the_bundles_that_were_used_last(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_cache, "_KEPT", 2)

    seals, cache = [], tmp_path / "cache"
    for mark in "abc":
        shutil.copytree(exported, tmp_path / mark)
        manifest = read_manifest(tmp_path / mark).model_copy(update={"mlflow_run_id": mark})
        seals.append(seal(tmp_path / mark, manifest).seal)

    def use(mark, seal_):
        return cached_bundle(
            seal_, lambda directory: shutil.copytree(tmp_path / mark, directory / "x"), cache
        )

    for moment, number in enumerate((0, 1, 0, 2)):
        os.utime(use("abc"[number], seals[number]), (moment, moment))
    kept = {path.name for path in cache.iterdir() if not path.name.startswith(".")}
    assert kept == {seals[0], seals[2]}


def test_without_mlflow_directories_still_resolve(monkeypatch, tmp_path, tracking_uri):
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", None)
    assert resolve(str(tmp_path)) == tmp_path
    sentence = refusal(resolve, "models:/a@champion", tracking_uri="http://localhost:1")
    assert sentence == ("cannot fetch models:/a@champion: MLflow is not installed; install mlflow.")


def test_the_registry_is_light_to_import():
    heavy = {"torchrec", "fbgemm_gpu", "ray", "mlflow", "feast"}
    code = f"import sys, serving.registry; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
