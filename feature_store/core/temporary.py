"""Names of temporary files and directories, and their removal where a killed process left them."""

import glob
import re
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

# SQLite adds an ending to the names of its journals.
_ENDING = r"\.[0-9a-f]{12}\.tmp(-\w+)?"
_NAME = re.compile(rf"\..+{_ENDING}")


def temporary_sibling(path: Path) -> Path:
    """Returns a new hidden name beside `path`: on one file system a rename is atomic."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def is_temporary(name: str) -> bool:
    """Returns whether `temporary_sibling` makes such names."""
    return _NAME.fullmatch(name) is not None


def remove_siblings(path: Path) -> None:
    """Removes what killed writers of `path` left beside it; no writer of it may be running."""
    ours = re.compile(rf"\.{re.escape(path.name)}{_ENDING}")
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if not ours.fullmatch(leftover.name):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink()


def remove_temporary_files(directory: Path) -> None:
    """Removes the files that killed writers left anywhere below; no writer may be running."""
    for file in directory.rglob(".*.tmp*"):
        if is_temporary(file.name):
            file.unlink(missing_ok=True)
