"""YAML that would take minutes, or all memory, or means something else than it seems to."""

from itertools import pairwise

import pytest

from recsys.config.yaml_reader import YamlError, parse_yaml
from recsys.config.yaml_writer import scalar

_LETTERS = "abcdefghijklm"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in pairwise(_LETTERS)
)


def test_plain_values_anchors_and_merged_keys_are_read() -> None:
    assert parse_yaml("") is None
    assert parse_yaml("x: &x {a: 1}\ny: {<<: *x, b: [2.5, true, null]}") == {
        "x": {"a": 1},
        "y": {"a": 1, "b": [2.5, True, None]},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested more than 50 deep"),
        ("{a: " * 50_000, "nested more than 50 deep"),
        ("".join(f"{' ' * n}-\n" for n in range(60)), "nested more than 50 deep"),
        (BOMB, "more than 100,000 values"),
        ("&a [*a]", "more than 100,000 values"),
        ("&a {x: *a}", "more than 100,000 values"),
        ("x" * 300_000, "longer than 262,144 characters"),
        ("a: " + "1" * 5000, "has 5,000 digits"),
        ("a: 0x" + "f" * 5000, "digits"),
        ("a: " + ":".join(["1"] * 3000), "digits"),
        ("a: 2001-99-99", "month must be in"),
        ("a: !!binary aGVsbG8=", "it has the tag '!!binary'"),
        ("!!set {a}", "it has the tag '!!set'"),
        ("a: !!bool maybe", "'maybe' is not true or false"),
        ("a: 1\nb: {c: 2, c: 3}", "the key c comes twice, the second in line 2"),
        ("? [a]\n: 1", "unhashable key"),
        ("a: [", "expected the node content"),
        ("!!python/object:os.system x", "it has the tag '!!python/object:os.system'"),
        ("a: \0", "special characters"),
    ],
)
def test_others_are_refused(text: str, reason: str) -> None:
    with pytest.raises(YamlError, match=reason):
        parse_yaml(text)


def test_what_looks_like_another_value_is_written_in_quotes() -> None:
    for text in ("2001-99-99", "1" * 5000, "null", "12", "a: b"):
        assert scalar(text) == f'"{text}"'
    assert scalar("plain") == "plain"
