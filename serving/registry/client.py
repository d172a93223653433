"""The client of MLflow's model registry; MLflow is imported when a client is made."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from feature_store.core.errors import UserError
from recsys.tracking import is_missing, mlflow_client, store_uri

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
    uri = store_uri(tracking_uri)
    if is_missing(uri):
        raise UserError(f"{problem}: there is no MLflow store {uri}; name it with --tracking-uri.")
    try:
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise UserError(f"{problem}: MLflow is not installed; install mlflow.") from error
    try:
        yield mlflow_client(uri)
    except (MlflowException, OSError) as error:
        code = getattr(error, "error_code", "")  # A server's errors begin with it.
        reason = str(error).partition("\n")[0].removeprefix(f"{code}: ").rstrip(".")
        raise UserError(f"{problem}: {reason}; look at the registry of {uri}.") from error


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
