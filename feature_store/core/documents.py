"""Reading of JSON files: one that is too large, too deep or damaged is a sentence."""

import json
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from feature_store.core.errors import UserError

_MAX_BYTES = 2**28

Model = TypeVar("Model", bound=BaseModel)


class DocumentError(UserError, ValueError):
    """A file that is not the document that was expected."""

    @classmethod
    def of(cls, path: Path, reason: str) -> "DocumentError":
        """Makes the sentence of a file, with the reason why it cannot be read."""
        return cls(
            f"{path} cannot be read: {reason[:200]}; it is damaged or of another version: delete "
            "it and run the command that wrote it again."
        )


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        DocumentError: It is not JSON, or too large or too deep to be read.
        OSError: It cannot be opened.
    """
    try:
        return json.loads(_text(path))
    except RecursionError:
        raise DocumentError.of(path, "its values are nested too deeply") from None
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError.of(path, str(error)) from error


def read_object(path: Path, *keys: str) -> dict[str, Any]:
    """Reads a JSON file that holds an object with at least the given keys.

    Raises:
        DocumentError: It holds something else.
        OSError: It cannot be opened.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise DocumentError.of(path, "expected an object")
    for key in keys:
        if key not in document:
            raise DocumentError.of(path, f"it has no {key}")
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
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise DocumentError.of(path, reason) from error


def read_lines(path: Path, *keys: str) -> list[dict[str, float | None]]:
    """Reads lines of JSON, each an object of numbers; None for one that is not finite.

    A last line that a killed writer has cut off is left out.

    Raises:
        DocumentError: A line holds something else, or lacks one of the given keys.
        OSError: It cannot be opened.
    """
    text = _text(path)
    lines = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        try:
            document = json.loads(line)
            lines.append({str(name): _finite(value) for name, value in document.items()})
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DocumentError.of(path, f"line {number} holds no numbers by name") from error
        for key in keys:
            if lines[-1].get(key) is None:
                raise DocumentError.of(path, f"line {number} has no {key}")
    return lines


def _finite(value: Any) -> float | None:
    return value if value is not None and isfinite(value) else None


def _text(path: Path) -> str:
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise DocumentError.of(path, f"it has {size:,} bytes, expected at most {_MAX_BYTES:,}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError.of(path, "it is not UTF-8") from error
