"""Output of the commands: progress on standard error, results as JSON on standard output."""

import json
from typing import Any

from rich.console import Console


def progress() -> Console:
    """Makes the console of progress, on standard error."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """Prints a result of `--json`."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
