"""The registry over HTTP, without MLflow's client: read from MLflow's own server."""

import json
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

import serving
from feature_store.core.errors import UserError
from recsys.tracking import registered_name, start_run
from serving.bundle.manifest import read_manifest, seal
from serving.registry import registry
from serving.registry.forgetting import (
    other_versions,
    remove_artifacts,
    remove_versions,
    runs_with_artifacts,
)
from serving.registry.http_store import HttpStore
from serving.registry.registry import current_version, promote, register, resolve
from tests.support.servers import running
from tests.support.tiny_bundle import write_prepared

_SETTINGS = ("FILE_STORE", "REGISTRY_STORE", "ARTIFACT_ROOT", "ARTIFACT_DESTINATION")


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, new_store: Path, exported: Path
) -> Iterator[Any]:
    """Starts MLflow's server with a registered bundle, whose client is not found any more."""
    directory = tmp_path_factory.mktemp("served")
    store = f"sqlite:///{shutil.copy(new_store, directory / 'mlflow.db')}"
    root = "mlflow-artifacts:/", str(directory / "artifacts")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(_SETTINGS, (store, store, *root), strict=True):
            patch.setenv(f"_MLFLOW_SERVER_{name}", value)
        patch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
        from mlflow.server.fastapi_app import app

        with running(app) as port:
            uri = f"http://127.0.0.1:{port}"
            config = write_prepared(directory / "system", tracking={"uri": uri})
            bundles = []
            for mark in ("first", "second"):
                run = start_run(config, mark)
                bundle = Path(shutil.copytree(exported, directory / mark))
                changes = {"mlflow_run_id": run.run_id, "training_fingerprint": mark}
                manifest = read_manifest(bundle).model_copy(update=changes)
                bundles.append(seal(bundle, manifest))
                register(config, bundles[-1], bundle)
            patch.setattr(registry, "find_spec", lambda _: None)
            patch.setenv("MLFLOW_TRACKING_URI", uri)
            patch.setenv("XDG_CACHE_HOME", str(directory))
            name = registered_name(config)
            yield SimpleNamespace(uri=uri, name=name, config=config, bundles=bundles)


def test_an_alias_of_a_server_is_read_and_followed(system: Any) -> None:
    reference = f"models:/{system.name}@champion"
    assert current_version(reference) == "1"
    assert serving.load(reference).manifest.seal == system.bundles[0].seal
    promote(system.name, tracking_uri=system.uri)
    assert current_version(reference) == "2"
    assert resolve(reference).name == system.bundles[1].seal
    assert resolve(f"models:/{system.name}/1").name == system.bundles[0].seal


def test_what_a_server_does_not_have_is_a_sentence(system: Any) -> None:
    sentence = rf"cannot look models:/none@champion up: .*none.*; look at the store {system.uri}\."
    with pytest.raises(UserError, match=sentence):
        current_version("models:/none@champion")
    with pytest.raises(UserError, match="is not a reference"):
        current_version("models:/none")


def test_artifacts_of_a_server_are_removed(system: Any, tmp_path: Path) -> None:
    """Removes the champion's, so it is the last of these tests that reads them."""
    config, (_, second) = system.config, system.bundles
    run = second.mlflow_run_id
    assert run in runs_with_artifacts(config, ())
    assert run not in runs_with_artifacts(config, (run,))
    versions = other_versions(config, second.seal)
    assert [version.version for version in versions] == ["1"]
    assert remove_artifacts(config, [run], versions) == []
    assert run not in runs_with_artifacts(config, ())
    with pytest.raises(UserError, match="cannot fetch"):  # It has no files any more.
        resolve(f"models:/{system.name}/1", cache=tmp_path)
    remove_versions(config, versions, "2")
    assert other_versions(config, second.seal) == []
    assert current_version(f"models:/{system.name}@challenger") == "2"


class Answering:
    """A server with one answer, or one by the end of the path, and what it was asked.

    Attributes:
        uri: Address.
        asked: Header of authorization of each request.
    """

    def __init__(self, status: int, *answers: dict[str, Any]) -> None:
        self.asked: list[str | None] = []
        left, asked = list(answers), self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.headers["Authorization"])
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(json.dumps(left.pop(0)).encode() if left else b"no JSON")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Answering":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def run_at(uri: str) -> dict[str, Any]:
    """Returns the answer on a run whose artifacts are at a URI."""
    return {"run": {"info": {"artifact_uri": uri}}}


@pytest.mark.parametrize("path", ["bundle/../../evil", "/etc/passwd", "bundle/..", "bundle/a/b"])
def test_files_elsewhere_are_refused(tmp_path: Path, path: str) -> None:
    files = {"files": [{"path": path, "is_dir": False}]}
    with (
        Answering(200, run_at("mlflow-artifacts:/1/r/artifacts"), files) as server,
        pytest.raises(UserError, match="among the files of bundle"),
    ):
        HttpStore(server.uri).download_artifacts("r", "bundle", str(tmp_path / "here"))
    assert not list(tmp_path.iterdir())


def test_artifacts_that_the_server_does_not_pass_on(tmp_path: Path) -> None:
    with (
        Answering(200, run_at("s3://bucket/1/r/artifacts")) as server,
        pytest.raises(
            UserError, match=r"are at s3:, which takes MLflow itself; .*--serve-artifacts"
        ),
    ):
        HttpStore(server.uri).download_artifacts("r", "bundle", str(tmp_path))


@pytest.mark.parametrize(
    ("status", "answers", "sentence"),
    [
        (403, [{"message": "Permission denied.\nmore"}], "^Permission denied$"),
        (500, [], "^the MLflow server answers 500$"),
        (302, [], "^the MLflow server answers 302$"),
        (200, [], "^what answers is no MLflow server$"),
    ],
)
def test_refusals_are_sentences_and_redirects_are_not_followed(
    status: int, answers: list[Any], sentence: str
) -> None:
    with Answering(status, *answers) as server, pytest.raises(UserError, match=sentence):
        HttpStore(server.uri).get_model_version("name", "1")
    assert len(server.asked) == 1
    with pytest.raises(UserError, match="does not answer"):
        HttpStore(server.uri).get_model_version("name", "1")


def test_the_user_or_token_is_that_of_mlflows_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    version = {"model_version": {"name": "n", "version": "1", "run_id": "r"}}
    with Answering(200, *[version] * 3) as server:
        store = HttpStore(server.uri)
        store.get_model_version("n", "1")
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
        store.get_model_version("n", "1")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        store.get_model_version("n", "1")
    assert server.asked == [None, "Bearer secret", "Basic bWU6c2VjcmV0"]
