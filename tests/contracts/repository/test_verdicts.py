"""Pages that judge something open with a verdict."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Pages without anything to hold a model or a log against.
WITHOUT = {"recsys/reports/diagnostics.py", "recsys/tuning/report.py"}


def test_every_page_opens_with_a_verdict() -> None:
    found = {}
    for package in ("pipelines", "recsys", "serving"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Page":
                    opens = any(each.arg == "opening" for each in node.keywords)
                    found[path.relative_to(ROOT).as_posix()] = opens
    assert {path for path, opens in found.items() if not opens} == WITHOUT
    assert len(found) > len(WITHOUT)
