"""Bundles in MLflow's model registry: the one that is served, and the one that may replace it.

A version of a registered model is a bundle among the artifacts of the run that trained it:

    artifacts of the run   bundle/<seal>/...
    tags of the version    recsys.seal, recsys.fingerprint, recsys.schema_fingerprint
    aliases                champion, the one to serve; challenger, the latest that was registered
    tag of the model       recsys.former_champions, a JSON list of versions, the latest last
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from feature_store.core.documents import read_object
from feature_store.core.errors import UserError
from feature_store.core.manifests import MANIFEST
from feature_store.core.settings import Frozen
from recsys.config.config import Config
from recsys.mlflow_run import downloaded
from recsys.tracking import (
    changing_store,
    existing_store,
    is_missing,
    open_run,
    registered_name,
    store_uri,
    unless_absent,
)
from recsys.tracking import tracking_uri as store_of
from serving.bundle.manifest import VERSION, BundleManifest, read_manifest
from serving.registry.cache import cached_bundle
from serving.registry.http_store import HttpStore
from serving.registry.references import SCHEME, referenced_version

CHAMPION, CHALLENGER = "champion", "challenger"

_ARTIFACTS = "bundle"
_SEAL_TAG, _FORMER_TAG = "recsys.seal", "recsys.former_champions"
# Former champions that are remembered.
_REMEMBERED = 100


class RegisteredBundle(Frozen):
    """A version of a registered model.

    Attributes:
        name: Name of the registered model.
        version: Version of the bundle.
        is_new: Whether this bundle had no version before.
        is_champion: Whether it is the one to serve.
    """

    name: str
    version: str
    is_new: bool
    is_champion: bool

    def sentence(self) -> str:
        """Describes it for printing."""
        role = CHAMPION if self.is_champion else CHALLENGER
        return f"version {self.version} of {self.name} is the {role}"


class Promotion(Frozen):
    """The result of `promote` or `rollback`.

    Attributes:
        name: Name of the registered model.
        version: Version that is the champion now.
        former: Version that was the champion before; None: there was none.
    """

    name: str
    version: str
    former: str | None

    def sentence(self) -> str:
        """Describes it for printing."""
        if self.former == self.version:
            return f"version {self.version} of {self.name} is the champion already"
        after = f", after version {self.former}" if self.former is not None else ""
        return f"version {self.version} of {self.name} is the champion{after}"


def register(config: Config, bundle: BundleManifest, directory: Path) -> RegisteredBundle | None:
    """Uploads a bundle to the run that trained it, and makes it the challenger.

    The first of all is the champion, too. A bundle that has a version is not uploaded again.

    Args:
        config: Configuration with the registered model and the store.
        bundle: Manifest of the directory.
        directory: Directory of a sealed bundle.

    Returns:
        The registered bundle; None where the store lacks the run: it was trained elsewhere.

    Raises:
        UserError: MLflow refuses it.
    """
    if open_run(config, bundle.mlflow_run_id) is None:
        return None
    name = registered_name(config)
    with changing_store(store_of(config), f"cannot register {directory} as {name}") as client:
        model = unless_absent(client.get_registered_model, name)
        model = model or client.create_registered_model(name)
        version = _registered_version(client, name, bundle.seal)
        is_new = version is None
        if version is None:
            version = _upload(client, name, bundle, directory)
        client.set_registered_model_alias(name, CHALLENGER, version)
        champion = _aliases(model).get(CHAMPION)
        if champion is None:
            client.set_registered_model_alias(name, CHAMPION, version)
    is_champion = champion is None or champion == version
    return RegisteredBundle(name=name, version=version, is_new=is_new, is_champion=is_champion)


def promote(name: str, *, version: str | None = None, tracking_uri: str | None = None) -> Promotion:
    """Makes the challenger, or the given version, the champion.

    Args:
        name: Name of the registered model.
        version: Version; None: the challenger.
        tracking_uri: URI of the MLflow store; see `existing_store`.

    Raises:
        UserError: There is no such model or version, or no challenger.
    """
    with changing_store(tracking_uri, f"cannot promote a version of {name}") as client:
        model = client.get_registered_model(name)
        wanted = version or _aliases(model).get(CHALLENGER)
        if wanted is None:
            raise UserError(
                f"{name} has no {CHALLENGER} to promote; register a bundle with `recsys export`, "
                "or name a version."
            )
        client.get_model_version(name, wanted)
        former = _aliases(model).get(CHAMPION)
        if former is not None and former != wanted:
            # Before the alias: were this killed in between, a rollback would skip the champion. The
            # next call finds it remembered.
            earlier = _former_champions(model)
            if earlier[-1:] != [former]:
                _remember(client, name, [*earlier, former])
        client.set_registered_model_alias(name, CHAMPION, wanted)
    return Promotion(name=name, version=wanted, former=former)


def rollback(name: str, *, tracking_uri: str | None = None) -> Promotion:
    """Makes the champion before this one the champion again; several calls go back further.

    A withdrawn version is no challenger any more, so that no `promote` brings it back unless its
    version is named.

    Args:
        name: Name of the registered model.
        tracking_uri: URI of the MLflow store; see `existing_store`.

    Raises:
        UserError: There is no such model, or no champion before this one.
    """
    with changing_store(tracking_uri, f"cannot roll back {name}") as client:
        model = client.get_registered_model(name)
        current = _aliases(model).get(CHAMPION)
        earlier = _former_champions(model)
        while earlier:
            wanted = earlier.pop()
            if wanted != current and unless_absent(client.get_model_version, name, wanted):
                client.set_registered_model_alias(name, CHAMPION, wanted)
                _remember(client, name, earlier)
                if current is not None and _aliases(model).get(CHALLENGER) == current:
                    client.delete_registered_model_alias(name, CHALLENGER)
                return Promotion(name=name, version=wanted, former=current)
    raise UserError(
        f"nothing to roll back to: {name} has had no other {CHAMPION}; promote a version instead."
    )


def resolve(reference: str, *, tracking_uri: str | None = None, cache: Path | None = None) -> Path:
    """Returns the directory of a bundle, downloaded where it is in the registry.

    Downloads are kept by their seals, and verified each time. Processes may share the cache.

    Args:
        reference: Directory, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking_uri: URI of the MLflow store; see `existing_store`.
        cache: Directory of downloads; None: `recsys/bundles` in XDG_CACHE_HOME or in `~/.cache`.

    Raises:
        UserError: There is no such version, it cannot be downloaded, or it is not the bundle that
            was registered.
    """
    if not reference.startswith(SCHEME):
        return Path(reference)
    with _readable_store(tracking_uri, f"cannot fetch {reference}") as client:
        version = referenced_version(client, reference)
        return cached_bundle(
            _seal_of(version), lambda directory: _download(client, version, directory), cache
        )


def current_version(reference: str, *, tracking_uri: str | None = None) -> str | None:
    """Looks up the version that a reference stands for now, without a download.

    Args:
        reference: Directory, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking_uri: URI of the MLflow store; see `existing_store`.

    Returns:
        The version; None for a directory, which has none.

    Raises:
        UserError: There is no such version, or the store does not answer.
    """
    if not reference.startswith(SCHEME):
        return None
    with _readable_store(tracking_uri, f"cannot look {reference} up") as client:
        return str(referenced_version(client, reference).version)


@contextmanager
def _readable_store(given: str | None, problem: str) -> Iterator[Any]:
    """Yields a client that reads versions: MLflow's, or one of an MLflow server without MLflow.

    Args:
        given: URI of the store; see `existing_store`.
        problem: Beginning of the sentence of an error.
    """
    uri = store_uri(given)
    if find_spec("mlflow") is not None or not uri.startswith(("http://", "https://")):
        with existing_store(uri, problem) as client:
            yield client
        return
    try:
        yield HttpStore(uri)
    except UserError as error:
        raise UserError(f"{problem}: {str(error).rstrip('.')}; look at the store {uri}.") from error


def champion_manifest(config: Config) -> BundleManifest | None:
    """Reads the champion's manifest; None where there is none, or one of another layout.

    Args:
        config: Configuration with the registered model and the store.

    Raises:
        UserError: The store does not answer, or the champion is not a bundle.
    """
    uri, name = store_of(config), registered_name(config)
    if is_missing(uri):
        return None
    with existing_store(uri, f"cannot read the {CHAMPION} of {name}") as client:
        model = unless_absent(client.get_registered_model, name)
        version = _aliases(model).get(CHAMPION) if model is not None else None
        if version is None:
            return None
        champion = client.get_model_version(name, version)
        with tempfile.TemporaryDirectory() as directory:
            manifest = _download(client, champion, Path(directory), MANIFEST)
            if read_object(manifest).get("version") != VERSION:
                return None
            return read_manifest(manifest.parent)


def current_seals(config: Config) -> dict[str, str]:
    """Returns the seals of the champion and the challenger by alias; of those that there are."""
    uri, name = store_of(config), registered_name(config)
    if is_missing(uri):
        return {}
    with existing_store(uri, f"cannot read the versions of {name}") as client:
        model = unless_absent(client.get_registered_model, name)
        found = _aliases(model) if model is not None else {}
        return {
            alias: _seal_of(client.get_model_version(name, version))
            for alias, version in found.items()
            if alias in (CHAMPION, CHALLENGER)
        }


def version_of_seal(config: Config, seal: str) -> str | None:
    """Returns the version of a bundle; None where it is not registered."""
    uri, name = store_of(config), registered_name(config)
    if is_missing(uri):
        return None
    with existing_store(uri, f"cannot read the versions of {name}") as client:
        return _registered_version(client, name, seal)


def describe_version(
    config: Config, version: str, description: str, tags: Mapping[str, str]
) -> None:
    """Gives a version a description and further tags."""
    uri, name = store_of(config), registered_name(config)
    with existing_store(uri, f"cannot describe version {version} of {name}") as client:
        client.update_model_version(name, version, description)
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)


def promote_if_passed(config: Config, bundle: BundleManifest) -> Promotion | None:
    """Makes a registered bundle the champion where its gate compared it with the present one.

    The gate has refused models that are worse; see `Comparison.is_worse`.

    Args:
        config: Configuration with the registered model and the store.
        bundle: Manifest of the challenger.

    Returns:
        The promotion; None where the champion stays: it is this bundle, or one that the gate did
        not compare it with.
    """
    uri, name = store_of(config), registered_name(config)
    if is_missing(uri):
        return None
    with changing_store(uri, f"cannot promote a version of {name}") as client:
        champion = champion_manifest(config)
        if champion is None or champion.seal == bundle.seal:
            return None
        if champion.mlflow_run_id not in (bundle.gate.champion, bundle.mlflow_run_id):
            return None
        version = _registered_version(client, name, bundle.seal)
        return promote(name, version=version, tracking_uri=uri) if version is not None else None


def _registered_version(client: Any, name: str, seal: str) -> str | None:
    versions = client.search_model_versions(f"tags.`{_SEAL_TAG}` = '{seal}'")
    return next((str(version.version) for version in versions if version.name == name), None)


def _upload(client: Any, name: str, bundle: BundleManifest, directory: Path) -> str:
    """Uploads the files and then makes the version, so that it always has all of them."""
    # A directory for each seal: a run may be exported anew, and artifacts are never removed.
    path = f"{_ARTIFACTS}/{bundle.seal}"
    client.log_artifacts(bundle.mlflow_run_id, str(directory), path)
    artifacts = client.get_run(bundle.mlflow_run_id).info.artifact_uri
    tags = {
        _SEAL_TAG: bundle.seal,
        "recsys.fingerprint": bundle.fingerprint,
        "recsys.schema_fingerprint": bundle.schema_fingerprint,
    }
    source = f"{artifacts}/{path}"
    version = client.create_model_version(name, source, bundle.mlflow_run_id, tags=tags)
    return str(version.version)


def _seal_of(version: Any) -> str:
    seal: str | None = version.tags.get(_SEAL_TAG)
    if seal is None:
        raise UserError(
            f"version {version.version} of {version.name} is not a bundle: it has no tag "
            f"{_SEAL_TAG}; register one with `recsys export`."
        )
    return seal


def _download(client: Any, version: Any, directory: Path, file: str = "") -> Path:
    """Downloads a version's bundle, or one file of it, below the directory; returns its path."""
    path = f"{_ARTIFACTS}/{_seal_of(version)}/{file}".rstrip("/")
    if isinstance(client, HttpStore):
        return Path(client.download_artifacts(version.run_id, path, str(directory)))
    return downloaded(client, version.run_id, path, directory)


def _aliases(model: Any) -> dict[str, str]:
    return {alias: str(version) for alias, version in model.aliases.items()}


def _former_champions(model: Any) -> list[str]:
    versions: list[str] = json.loads(model.tags.get(_FORMER_TAG, "[]"))
    return versions


def artifact_of(seal: str) -> str:
    """Returns the path of a bundle among the artifacts of its run."""
    return f"{_ARTIFACTS}/{seal}"


def forget_former(client: Any, name: str) -> None:
    """Forgets the former champions of a model, so that no rollback looks for them."""
    _remember(client, name, [])


def _remember(client: Any, name: str, versions: list[str]) -> None:
    client.set_registered_model_tag(name, _FORMER_TAG, json.dumps(versions[-_REMEMBERED:]))
