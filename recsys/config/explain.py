"""Explanations of the configuration for `recsys config`, and for the page of all its keys."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from difflib import get_close_matches
from math import inf

from feature_store.core.errors import UserError
from recsys.config.config import Config
from recsys.config.keys import (
    Key,
    Variant,
    all_keys,
    bounds_of,
    models_at,
    summary_of,
    tag_of,
)
from recsys.config.reasons import EXAMPLES, REASONS

_WIDTH = 100
_PAGE = """\
# Configuration

All keys of a configuration, as `recsys config KEY` explains each. `recsys init` writes those that
matter for a log, with its reasons; every other key has the default that is given here. `--set
KEY=VALUE` overrides a value for one command. Of a list of features, an entry is named by its name
or its position: `features.item.genres.dim`.

A **query** is what items are recommended to: a user, a session, or an item itself. The log's own
word for it is the name of `data.columns.query_id`.

This page is written by `recsys config --markdown`.
"""


def explain(name: str | None) -> str:
    """Explains a key, a section, or without a name which sections there are.

    Raises:
        UserError: There is no such key.
    """
    if name is None:
        return _overview()
    keys = all_keys()
    named = [key for path, key in keys.items() if _matches(path, name)]
    if named:
        return "\n".join(_lines_of_key(named[0]))
    if _is_section(name):
        return "\n".join(_lines_of_section(_section_path(name)))
    ends = [key for path, key in keys.items() if path.endswith(f".{name}")]
    if len(ends) == 1:
        return "\n".join(_lines_of_key(ends[0]))
    if ends:
        return "\n".join([f"{name} is in several sections:", *(f"  {key.path}" for key in ends)])
    close = get_close_matches(name, [*keys, *_sections()], 1, cutoff=0.0)
    raise UserError(
        f"the configuration has no key {name!r}; did you mean {close[0]}? `recsys config` lists "
        "the sections."
    )


def page() -> str:
    """Returns the reference of all keys in Markdown."""
    parts = [_PAGE]
    for section in Config.model_fields:
        parts.append(f"## {section}\n")
        summary = _about(section)
        if summary:
            parts.append(f"{_wrapped(summary, 100)}\n")
        for key in all_keys().values():
            if key.section == section:
                parts.append("\n".join(_markdown_of_key(key)) + "\n")
    return "\n".join(parts)


def _overview() -> str:
    rows = []
    for section in Config.model_fields:
        keys = [key for key in all_keys().values() if key.section == section]
        about = _about(section) or keys[0].variants[0].description
        rows.append((section, _first_sentence(about)))
    lines = ["Sections of the configuration:", "", *_table(rows)]
    return "\n".join([*lines, "", "next: recsys config SECTION, or KEY such as training.epochs"])


def _lines_of_section(path: str) -> list[str]:
    models = models_at(path)
    lines = [path, ""]
    if len(models) > 1:
        lines += _table([(tag_of(model), summary_of(model)) for model in models])
    else:
        lines.append(_wrapped(summary_of(models[0]), _WIDTH))
    rows = []
    for key in all_keys().values():
        if key.path.startswith(f"{path}."):
            about = _first_sentence(key.variants[0].description)
            if key.chooses:
                about = f"One of: {', '.join(variant.kind for variant in key.variants)}."
            rows.append((key.path.removeprefix(f"{path}."), about))
    return [*lines, "", *_table(rows)]


def _lines_of_key(key: Key) -> list[str]:
    return [key.path, "", *_table(_facts(key))]


def _markdown_of_key(key: Key) -> Iterator[str]:
    yield f"### `{key.path}`\n"
    for heading, text in _facts(key):
        yield _wrapped(f"- {heading}: {text}", 100, "  ")


def _facts(key: Key) -> list[tuple[str, str]]:
    """Returns headings and texts about a key."""
    facts: list[tuple[str, str]] = []
    if key.chooses:
        facts += [(variant.kind, variant.description) for variant in key.variants]
        default = _with_reason(key, key.default_kind or "none: it must be given")
        return [*facts, ("default", default), ("example", _example(key))]
    for variants in _alike(key):
        first = variants[0]
        default = "none: it must be given" if first.default is None else first.default
        facts.append(("meaning", first.description))
        if first.kind and len(variants) < len(models_at(key.path.rpartition(".")[0])):
            facts.append(("kinds", ", ".join(variant.kind for variant in variants)))
        facts += [("allowed", first.allowed), ("default", _with_reason(key, default))]
    return [*facts, ("example", _example(key))]


def _alike(key: Key) -> list[list[Variant]]:
    """Groups the kinds of a section in which a key is the same."""
    groups: dict[tuple[str, str, str | None], list[Variant]] = {}
    for variant in key.variants:
        same = (variant.description, variant.allowed, variant.default)
        groups.setdefault(same, []).append(variant)
    return list(groups.values())


def _with_reason(key: Key, default: str) -> str:
    reason = REASONS.get(key.path)
    return f"{default}, because {reason}" if reason is not None else default


def _example(key: Key) -> str:
    path = key.path.replace("features.*", "features.item.NAME").replace("*", "NAME")
    # Braces and blanks mean something to a shell.
    return f"--set {shlex.quote(f'{path}={example_value(key)}')}"


def example_value(key: Key) -> str:
    """Returns a value in YAML that the key may have, and other than its default."""
    if key.path in EXAMPLES:
        return EXAMPLES[key.path]
    if key.chooses:
        return next(v.kind for v in key.variants if v.kind != key.default_kind)
    variant = key.variants[0]
    choices = re.match(r"one of: (.*?)(?: or null)?$", variant.allowed)
    if choices is not None:
        return next(value for value in choices[1].split(", ") if value != variant.default)
    if variant.allowed == "true or false" or variant.allowed == "true or false or null":
        return "false" if variant.default == "true" else "true"
    return _number_beside(variant)


def _number_beside(variant: Variant) -> str:
    """Returns a number twice or half the default, or near the lower bound, within the bounds."""
    default, bounds = variant.field.get_default(), bounds_of(variant.field.metadata)
    low, high = bounds.get("ge", bounds.get("gt", 0)), bounds.get("le", bounds.get("lt", inf))
    is_whole = "whole" in variant.allowed
    several = (2 * default, default / 2) if default else (10, 0.1)
    for number in (*several, low + 1, 0.5):
        value = round(number) if is_whole else number
        if value != default and low < value < high:
            return str(value)
    raise AssertionError(f"no example within {bounds}")


def _sections() -> list[str]:
    paths = (path.split(".")[:-1] for path in all_keys())
    return list(dict.fromkeys(".".join(p[: n + 1]) for p in paths for n in range(len(p))))


def _is_section(name: str) -> bool:
    return _section_path(name) in _sections()


def _section_path(name: str) -> str:
    return re.sub(r"^features\.(item|query|context)\b", "features.*", name)


def _matches(path: str, name: str) -> bool:
    """Returns whether a name is that of a key, with names in place of its `*`."""
    pattern = re.escape(path).replace(r"\*", "[^.]+(\\.[^.]+)?")
    return re.fullmatch(pattern, name) is not None


def _about(section: str) -> str:
    models = models_at(section)
    if len(models) > 1:
        return f"One of several kinds: {', '.join(map(tag_of, models))}."
    return summary_of(models[0]) if models else ""


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.) ", text)[0]


def _table(rows: list[tuple[str, str]]) -> list[str]:
    """Sets texts beside their headings."""
    width = max(len(heading) for heading, _ in rows) + 4
    return [_wrapped(f"{f'  {head}':{width}}{text}", _WIDTH, " " * width) for head, text in rows]


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
