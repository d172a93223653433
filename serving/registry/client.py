"""The client of MLflow's model registry; MLflow is imported when a client is made."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from feature_store.core.errors import UserError

SCHEME = "models:/"
_REFERENCE = re.compile(
    r"models:/(?P<name>[^/:]+)(?:@(?P<alias>[^/:@]+)|/(?P<version>[0-9]+))", re.ASCII
)


@contextmanager
def registry_client(tracking_uri: str | None, problem: str) -> Iterator[Any]:
    """Yields a client; exceptions that MLflow raises within become one sentence.

    Args:
        tracking_uri: URI of the MLflow store; None: MLFLOW_TRACKING_URI, else the store below the
            working directory.
        problem: Beginning of the sentence.

    Raises:
        UserError: There is no such store, it does not answer or refuses, or MLflow is not
            installed.
    """
    # Imported here, for it is heavy and not needed to serve a directory.
    from recsys.dashboard.app import store_uri

    uri = store_uri(tracking_uri)
    if is_missing(uri):
        raise UserError(f"{problem}: there is no MLflow store {uri}; name it with --tracking-uri.")
    try:
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise UserError(f"{problem}: MLflow is not installed; install mlflow.") from error
    try:
        yield _client(uri)
    except (MlflowException, OSError) as error:
        code = getattr(error, "error_code", "")  # A server's errors begin with it.
        reason = str(error).partition("\n")[0].removeprefix(f"{code}: ").rstrip(".")
        raise UserError(f"{problem}: {reason}; look at the registry of {uri}.") from error


def is_missing(uri: str) -> bool:
    """Tells whether it is a SQLite store that MLflow would have to create."""
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists()


def referenced_version(client: Any, reference: str) -> Any:
    """Looks up MLflow's entity of `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        UserError: It is not such a reference.
        MlflowException: There is no such version.
    """
    parts = _REFERENCE.fullmatch(reference)
    if parts is None:
        raise UserError(
            f"{reference} is not a reference; give models:/NAME@champion or models:/NAME/3."
        )
    if parts["alias"]:
        return client.get_model_version_by_alias(parts["name"], parts["alias"])
    return client.get_model_version(parts["name"], parts["version"])


@lru_cache(maxsize=4)
def _client(uri: str) -> Any:
    """Makes a client that is kept, for to open a database takes far longer than to ask it."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # The migrations of a SQLite file log a page of lines of no use to a user.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)
