"""Parameters that several commands have, and the reading of their configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recsys.config.config import Config

ConfigPath = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="Configuration, such as `recsys init` writes.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Value in place of the file's, such as training.epochs=3; repeatable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
AS_OF = "UTC time after which events do not count, and from which split.kind time counts back"


def read_config(path: Path, overrides: Sequence[str] | None) -> "Config":
    """Reads a configuration; commands do so before they import a stage, which may take seconds."""
    from recsys.config.load import load_config

    return load_config(path, overrides or ())
