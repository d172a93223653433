"""Manifests, which mark a directory as finished, and fingerprints."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from feature_store.core.documents import DocumentError, Model, read_json, read_record
from feature_store.core.errors import UserError
from feature_store.core.files import IsOwn, recover_directory, write_text

MANIFEST = "manifest.json"


def read_manifest(directory: Path, model: type[Model]) -> Model | None:
    """Reads the manifest of a finished directory; None where it is unfinished or absent.

    Raises:
        UserError: The manifest is not one that this version writes.
    """
    path = directory / MANIFEST
    recover_directory(directory)
    if not path.is_file():
        return None
    try:
        return read_record(path, model)
    except DocumentError as error:
        raise UserError(
            f"{path} is not a manifest that this version can read: "
            f"{_reason(error.__cause__) or f'expected {model.__name__}'}; "
            f"delete {directory} and run the stage again."
        ) from error


def _reason(error: BaseException | None) -> str | None:
    """Returns the sentence of a validator of ours, such as of a key of an earlier version."""
    details = error.errors() if isinstance(error, ValidationError) else []
    reasons = [detail["msg"] for detail in details if detail["type"] == "value_error"]
    return reasons[0].removeprefix("Value error, ") if reasons else None


def written_as(model: type[BaseModel], name: str = MANIFEST) -> IsOwn:
    """Returns an `IsOwn` of directories with a file of the model, whether or not it is valid.

    So a damaged directory can be written again. A file of the same name with other keys, such as
    another program's manifest.json, is no such file.
    """
    required = {key for key, field in model.model_fields.items() if field.is_required()}

    def is_own(directory: Path) -> bool:
        try:
            document = read_json(directory / name)
        except (OSError, ValueError):
            return False
        return isinstance(document, dict) and required <= document.keys()

    return is_own


def write_manifest(directory: Path, manifest: BaseModel) -> None:
    """Writes the manifest: the last step of every stage, which marks its directory as finished."""
    write_text(directory / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def fingerprint(value: Any) -> str:
    """Computes SHA-256 (16 hex digits) of a JSON-serialisable value, whatever its keys' order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """Computes the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
