"""Reading of JSON files: one that is too large, too deep or damaged is a sentence."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from feature_store.core.errors import UserError

_MAX_BYTES = 2**28

Model = TypeVar("Model", bound=BaseModel)


class DocumentError(UserError, ValueError):
    """A file that is not the document that was expected."""


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        DocumentError: It is not JSON, or too large or too deep to be read.
        OSError: It cannot be opened.
    """
    try:
        return json.loads(_text(path))
    except RecursionError:
        raise _fault(path, "its values are nested too deeply") from None
    except DocumentError:
        raise
    except ValueError as error:
        raise _fault(path, str(error)) from error


def read_object(path: Path, *keys: str) -> dict[str, Any]:
    """Reads a JSON file that holds an object with at least the given keys.

    Raises:
        DocumentError: It holds something else.
        OSError: It cannot be opened.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise _fault(path, "expected an object")
    for key in keys:
        if key not in document:
            raise _fault(path, f"it has no {key}")
    return document


def read_record(path: Path, model: type[Model]) -> Model:
    """Reads a JSON file of a model.

    Raises:
        DocumentError: It holds something else; its cause is the error of the validation.
        OSError: It cannot be opened.
    """
    try:
        return model.model_validate_json(_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _fault(path, f"{where}: {first['msg']}" if where else first["msg"]) from error


def _text(path: Path) -> str:
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise _fault(path, f"it has {size:,} bytes, expected at most {_MAX_BYTES:,}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _fault(path, "it is not UTF-8") from error


def _fault(path: Path, reason: str) -> DocumentError:
    return DocumentError(
        f"{path} cannot be read: {reason[:200]}; it is damaged or of another version: delete it "
        "and run the command that wrote it again."
    )
