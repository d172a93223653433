"""The rule of descriptions: a noun phrase, a verb for a function, a subject in a comment.

A description that begins with a preposition ("Of the softmax.") or with a question word ("What a
rank is told.") makes its reader look up the name, then the type, then the code.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("feature_store", "pipelines", "recsys", "serving", "tests")

_FRAGMENT = re.compile(
    r"(Of|What|Which|Who|Whom|Whose|How|Where|When|Why|By|In|From|To|With|Without|At|On|As|Into|For"
    r"|Is|Are|Was|Were|Those|That|See)\b"
)
_COMMENT = re.compile(r"#+ (Of|What|Which|Who|Whom|Whose|By what|In which|Those|So many)\b")
# A section's entry, `name: description`, perhaps with a shape or a type before the description.
_ENTRY = re.compile(
    r"^    (?:\*{0,2}\w+(?: \([^)]*\))?): (?:(?:\[[^\]]*\]|`[^`]*`)[,:;.]? ?)*(.*)$"
)
_SECTIONS = ("Args:", "Attributes:")

# First words of functions' docstrings. Add a verb where one is missing; a noun has no place there.
VERBS = set((ROOT / "tests" / "support" / "verbs.txt").read_text(encoding="utf-8").split())


def documented(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)) is not None:
            yield node, text


def is_function(node: ast.AST) -> bool:
    """Excludes properties: to their readers they are attributes, and described as such."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    decorators = " ".join(ast.unparse(each) for each in node.decorator_list)
    return "property" not in decorators


def is_verb(word: str) -> bool:
    """Accepts the third person, and the imperative, which is usual for commands."""
    stem = word.removesuffix("y") + "ies" if word.endswith("y") else word
    return not VERBS.isdisjoint((word, f"{word}s", f"{word}es", stem))


def entries(text: str) -> Iterator[str]:
    """Yields the descriptions of arguments and attributes in a docstring."""
    section = ""
    for line in text.splitlines():
        if line and not line.startswith(" "):
            section = line.strip()
        elif section in _SECTIONS and (match := _ENTRY.match(line)):
            yield match[1]


def described(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields the line and the text of each constant `description=` and `help=`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in ("description", "help"):
            value = node.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, value.value


def faults(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    for node, doc in documented(tree):
        line, first = getattr(node, "lineno", 1), doc.split(maxsplit=1)[0].rstrip(".,:;")
        if is_function(node) and not is_verb(first):
            yield f"{line}: docstring starts with {first!r}, expected a verb such as Returns"
        elif _FRAGMENT.match(doc):
            yield f"{line}: docstring starts with {first!r}, expected a noun"
        for entry in entries(doc):
            if _FRAGMENT.match(entry):
                yield f"{line}: description starts with a fragment: {entry!r}"
    for line, value in described(tree):
        if _FRAGMENT.match(value):
            yield f"{line}: description starts with a fragment: {value!r}"
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and _COMMENT.match(token.string):
            yield f"{token.start[0]}: comment without a subject: {token.string!r}"


def test_descriptions_start_with_the_noun_and_docstrings_with_a_verb() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{fault}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for fault in faults(path)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('def f(a):\n    """Of the softmax."""', "expected a verb"),
        ('def f(a):\n    """Returns it.\n\n    Args:\n        a: Of it.\n    """', "'Of it.'"),
        ('class A:\n    """What a rank is told."""', "expected a noun"),
        ('x = Field(1, description="Of the index.")', "'Of the index.'"),
        ("# Of the rows.\nx = 1", "without a subject"),
    ],
)
def test_a_fragment_is_found(source: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(source)
    (found,) = faults(path)
    assert fault in found
