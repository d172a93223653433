"""Output of the commands: progress on standard error, results as JSON on standard output."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from feature_store.core.locks import waiting

# Characters of a sentence that are printed; a path in it may be of any length.
_LONGEST = 2000


def _wait(context: typer.Context, is_given: bool) -> bool:
    """Makes the whole command wait where another one has its output."""
    if is_given:
        context.with_resource(waiting(lambda text: progress().print(text, markup=False)))
    return is_given


# The parameter of commands that write or read outputs; its callback does the work.
Wait = Annotated[
    bool,
    typer.Option(
        "--wait",
        callback=_wait,
        help="Wait for other commands that use the same output, in place of an error.",
    ),
]


def progress() -> Console:
    """Makes the console of progress, on standard error."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """Prints a result of `--json`."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def one_line(text: str) -> str:
    """Formats text of any length and content as one line, which no terminal obeys."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 4 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
