"""Checks of what a command is given, before it parses it."""

from itertools import pairwise
from typing import Any

from typer.core import TyperGroup

from feature_store.core.errors import UserError
from pipelines.urls import is_url, shown

_OUTPUTS = ("-o", "--output")


class CheckedCommands(TyperGroup):
    """Commands whose arguments are text: of bytes that are none, ids and paths cannot be made."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments of all commands.

        Raises:
            UserError: One is not text, or an output is a URL.
        """
        for argument in args:
            _require_text(argument)
        for option, value in pairwise([*args, ""]):
            name, _, same = option.partition("=")
            if name in _OUTPUTS and is_url(same or value):
                raise UserError(
                    f"{shown(same or value)} is a URL, expected a path of this machine, such as "
                    "one where that storage is mounted."
                )
        return super().parse_args(ctx, args)


def _require_text(argument: str) -> None:
    shown = ascii(argument[:40])
    if "\0" in argument:
        raise UserError(f"the argument {shown} holds a null character; remove it.")
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the argument {shown} is not UTF-8; write it in that encoding.") from error
