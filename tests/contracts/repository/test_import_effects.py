"""Importing a module changes nothing in the process: no variable, logger, filter or thread."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.repository.test_floors import ROOT, sources

# The command line adds its commands when it is imported.
EXEMPT = {ROOT / "recsys" / "cli.py"}


def effects(tree: ast.Module) -> Iterator[str]:
    """Yields statements of a module that call something, or assign to something of another."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if is_call or any(isinstance(target, ast.Attribute | ast.Subscript) for target in targets):
            yield ast.unparse(node)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_importing_a_module_changes_nothing(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert path in EXEMPT or not list(effects(tree)), "call it at an entry point instead"


def test_an_effect_is_found() -> None:
    source = 'import os\nos.environ.setdefault("A", "1")\nos.environ["B"] = "2"\nC = dict(a=1)'
    assert len(list(effects(ast.parse(source)))) == 2
