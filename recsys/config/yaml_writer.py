"""YAML with aligned comments: only what `recsys init` needs to write a configuration."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from recsys.config.yaml_reader import YamlError, parse_yaml

_WIDTH = 100
_INDENT = "  "
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./@-]*")


@dataclass(frozen=True)
class Setting:
    """One line `key: value  # why`."""

    key: str
    value: Any
    why: str = ""


@dataclass(frozen=True)
class Row:
    """One line `- {key: value, ...}  # why` of a list; the comment is cut at a comma to fit."""

    values: dict[str, Any]
    why: str = ""


@dataclass(frozen=True)
class Note:
    """Whole lines of comment; an empty text is an empty line."""

    text: str = ""


@dataclass(frozen=True)
class Section:
    """A key with entries below it."""

    key: str
    entries: "Sequence[Entry]"


@dataclass(frozen=True)
class Proposal:
    """Entries that are commented out: without the `# ` they are part of the document."""

    entries: "Sequence[Entry]"


Entry = Setting | Row | Note | Section | Proposal


def render(entries: Sequence[Entry]) -> str:
    """Renders the document as text."""
    return "\n".join(_lines(entries, "")) + "\n"


def scalar(value: Any) -> str:
    """Formats a value on one line, in a form that is the same inside `[...]` and `{...}`."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(k)}: {scalar(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(scalar, value)) + "]"
    if isinstance(value, datetime):
        # Quoted, because not every YAML library keeps the time zone of its own timestamps.
        return f'"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"'
    if isinstance(value, str):
        return value if _is_plain(value) else _dumped(value, default_style='"')
    return _dumped(value)


def _is_plain(text: str) -> bool:
    """Returns whether text without quotes is read as itself, and not as a number or a date."""
    try:
        return _PLAIN.fullmatch(text) is not None and parse_yaml(text) == text
    except YamlError:  # It looks like a date, but is none.
        return False


def _dumped(value: Any, **options: Any) -> str:
    text: str = yaml.safe_dump(value, allow_unicode=True, width=float("inf"), **options)
    return text.removesuffix("\n").removesuffix("\n...")


def _lines(entries: Sequence[Entry], indent: str) -> list[str]:
    lines: list[str] = []
    block: list[Setting | Row] = []
    for entry in entries:
        if isinstance(entry, Setting | Row):
            block.append(entry)
            continue
        lines += _aligned(block, indent)
        block = []
        if isinstance(entry, Section):
            lines.append(f"{indent}{scalar(entry.key)}:")
            lines += _lines(entry.entries, indent + _INDENT)
        elif isinstance(entry, Proposal):
            proposed = _lines(entry.entries, indent)
            lines += [f"{indent}# {line.removeprefix(indent)}" for line in proposed]
        else:
            lines += _comment(entry.text, indent) if entry.text else [""]
    return lines + _aligned(block, indent)


def _aligned(block: Sequence[Setting | Row], indent: str) -> list[str]:
    """Aligns the comments of neighbouring lines in one column, where that leaves them room."""
    code = [indent + _code(entry) for entry in block]
    whys = [_printable(entry.why) for entry in block]
    column = _best_column(zip(map(len, code), map(_shortest, block), strict=True))
    pairs = [
        (line, _cut(why, _WIDTH - 4 - max(column, len(line))) if isinstance(entry, Row) else why)
        for entry, line, why in zip(block, code, whys, strict=True)
    ]
    lines: list[str] = []
    for line, why in pairs:
        if not why:
            lines.append(line)
            continue
        start = column if len(line) <= column and column + 4 + len(why) <= _WIDTH else len(line)
        if start + 4 + len(why) <= _WIDTH:
            lines.append(f"{line:<{start}}  # {why}")
        else:
            lines += [*_comment(why, indent), line]
    return lines


def _best_column(sizes: Iterable[tuple[int, int]]) -> int:
    """Returns the width of the longest line whose comment fits beside it."""
    return max((code for code, why in sizes if why and code + 4 + why <= _WIDTH), default=0)


def _shortest(entry: Setting | Row) -> int:
    """Returns the length that a comment cannot be cut below."""
    why = _printable(entry.why)
    return len(why.split(", ")[0]) if isinstance(entry, Row) else len(why)


def _cut(why: str, room: int) -> str:
    """Removes the last clauses of a comment, until it fits or only one is left."""
    while len(why) > room and ", " in why:
        why = why.rpartition(", ")[0]
    return why


def _code(entry: Setting | Row) -> str:
    if isinstance(entry, Row):
        return f"- {scalar(entry.values)}"
    return f"{scalar(entry.key)}: {scalar(entry.value)}"


def _comment(text: str, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(
        _printable(text),
        width=_WIDTH,
        initial_indent=prefix,
        subsequent_indent=prefix,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _printable(text: str) -> str:
    """Escapes line breaks, which names of columns may hold and which would end a comment."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
