"""Reading of MLflow's model registry over HTTP, for servers without MLflow.

MLflow's own client is a hundred packages, of which a server needs four requests. They are those of
MLflow's REST API 2.0, whose answers MLflow promises to keep.
"""

import base64
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from feature_store.core.errors import UserError

_SECONDS = 30
_API, _PROXY = "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts/artifacts"
# Scheme of artifacts that the server passes on itself.
_PROXIED = "mlflow-artifacts"


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model.

    Attributes:
        name: Name of the registered model.
        version: Version.
        run_id: Run that has the artifacts.
        tags: Tags of the version.
    """

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]


class HttpStore:
    """The part of `mlflow.MlflowClient` that reads registered versions, with its names.

    The user or token is that of MLflow's environment variables.

    Args:
        uri: Address of the MLflow server.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")
        self._opener = urllib.request.build_opener(_NoRedirect)

    def get_model_version_by_alias(self, name: str, alias: str) -> ModelVersion:
        """Looks up the version that an alias stands for.

        Raises:
            UserError: There is none, or the server does not answer.
        """
        return _version(self._ask("registered-models/alias", name=name, alias=alias))

    def get_model_version(self, name: str, version: str) -> ModelVersion:
        """Looks up a version.

        Raises:
            UserError: There is none, or the server does not answer.
        """
        return _version(self._ask("model-versions/get", name=name, version=version))

    def download_artifacts(self, run_id: str, path: str, directory: str) -> str:
        """Downloads a directory of a run's artifacts below a local one, and returns its path.

        Raises:
            UserError: The server does not pass artifacts on, or names files elsewhere.
        """
        root = urlsplit(self._ask("runs/get", run_id=run_id)["run"]["info"]["artifact_uri"])
        if root.scheme != _PROXIED:
            raise UserError(
                f"its artifacts are at {root.scheme}:, which takes MLflow itself; start the MLflow "
                "server with --serve-artifacts, or install mlflow"
            )
        for file in self._files(run_id, path):
            target = Path(directory) / file
            target.parent.mkdir(parents=True, exist_ok=True)
            address = f"{self._uri}{_PROXY}/{quote(f'{root.path}/{file}'.lstrip('/'))}"
            with _asking(), self._open(address) as answer, target.open("wb") as output:
                shutil.copyfileobj(answer, output)
        return str(Path(directory) / path)

    def _files(self, run_id: str, path: str) -> Iterator[str]:
        """Yields the files below a path, which are all within it."""
        token = ""
        while True:
            found = self._ask("artifacts/list", run_id=run_id, path=path, page_token=token)
            for entry in found.get("files", ()):
                name = PurePosixPath(entry["path"])
                if name.parent != PurePosixPath(path) or name.name in ("", ".."):
                    raise UserError(f"the server lists {entry['path']!r} among the files of {path}")
                if entry.get("is_dir"):
                    yield from self._files(run_id, str(name))
                else:
                    yield str(name)
            token = found.get("next_page_token", "")
            if not token:
                return

    def _ask(self, what: str, **parameters: str) -> Any:
        address = f"{self._uri}{_API}/{what}?{urlencode(parameters)}"
        with _asking(), self._open(address) as answer:
            return json.load(answer)

    def _open(self, address: str) -> HTTPResponse:
        request = urllib.request.Request(address, headers=_credentials())
        answer: HTTPResponse = self._opener.open(request, timeout=_SECONDS)
        return answer


@contextmanager
def _asking() -> Iterator[None]:
    """Turns what a server, or something else in its place, does not answer into a sentence."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise UserError(_reason(error)) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"the MLflow server does not answer ({reason})") from error
    except ValueError as error:
        raise UserError("what answers is no MLflow server") from error


def _version(answer: Any) -> ModelVersion:
    found = answer["model_version"]
    tags = {tag["key"]: tag.get("value", "") for tag in found.get("tags", ())}
    return ModelVersion(found["name"], str(found["version"]), found["run_id"], tags)


def _credentials() -> dict[str, str]:
    """Returns the headers of the user or token in the environment."""
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if user is not None:
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"} if token is not None else {}


def _reason(error: urllib.error.HTTPError) -> str:
    """Returns MLflow's sentence on what is wrong, or the number where there is none."""
    try:
        return str(json.load(error)["message"]).partition("\n")[0].rstrip(".")
    except (ValueError, KeyError, TypeError, OSError):
        return f"the MLflow server answers {error.code}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are errors: followed, they would tell another server the token."""

    def redirect_request(self, *_: Any) -> None:
        """Follows none."""
