"""Reading of YAML with limits, so that no document takes minutes or all memory to read."""

from collections.abc import Iterator
from typing import Any

import yaml

MAX_CHARACTERS = 2**18
_MAX_VALUES, _MAX_DEPTH, _MAX_DIGITS = 100_000, 50, 100
_TAG = "tag:yaml.org,2002:"
_INTEGER = f"{_TAG}int"
# Others would make bytes, which pass for text, sets and objects.
_TAGS = frozenset(
    _TAG + kind
    for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge")
)
_TOO_DEEP = f"its values are nested more than {_MAX_DEPTH} deep"


class YamlError(ValueError):
    """Fault of a document, as the end of a sentence."""


def parse_yaml(text: str) -> Any:
    """Parses a document of plain values; aliases (`*name`) may not multiply it.

    Raises:
        YamlError: It is not YAML, a key comes twice, or it is too long, too deep or too large.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlError(f"it is longer than {MAX_CHARACTERS:,} characters")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {}, 1)
        return loader.construct_document(node)
    except RecursionError as error:
        raise YamlError(_TOO_DEEP) from error
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from error
    except (ValueError, OverflowError) as error:  # There are no such dates and numbers.
        raise YamlError(str(error)) from error
    except KeyError as error:
        raise YamlError(f"{error} is not true or false") from error


def _measure(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """Returns the number of values below a node, with those of aliases each time they are named."""
    if depth > _MAX_DEPTH:
        raise YamlError(_TOO_DEEP)
    if node.tag not in _TAGS:
        raise YamlError(f"it has the tag {node.tag.replace(_TAG, '!!')!r}; leave it out")
    if node.tag == _INTEGER and len(node.value) > _MAX_DIGITS:
        raise YamlError(f"the number {node.value[:20]}... has {len(node.value):,} digits")
    if id(node) not in sizes:
        sizes[id(node)] = _MAX_VALUES  # An alias of itself, within itself.
        sizes[id(node)] = 1 + sum(_measure(part, sizes, depth + 1) for part in _parts(node))
    if sizes[id(node)] > _MAX_VALUES:
        raise YamlError(f"it holds more than {_MAX_VALUES:,} values")
    return sizes[id(node)]


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise YamlError(f"the key {key.value} comes twice, the second in line {line}")
                seen.add(key.value)
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
