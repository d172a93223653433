"""References to bundles in MLflow's model registry."""

import re
from typing import Any

from feature_store.core.errors import UserError

SCHEME = "models:/"
_REFERENCE = re.compile(
    r"models:/(?P<name>[^/:]+)(?:@(?P<alias>[^/:@]+)|/(?P<version>[0-9]+))", re.ASCII
)


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
