"""The tutorial, its notebook, and the pages that go with it."""

import ast
import json
import re
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).parents[3] / "docs"
KEYS = Path(__file__).parents[2] / "recsys" / "config" / "keys.txt"
NOTEBOOK = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_notebook_runs(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    names: dict[str, object] = {}
    tables = 0
    for number, cell in enumerate(NOTEBOOK["cells"]):
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, f"cell {number}", "exec"), names)
            if isinstance(shown, ast.Expr):
                value = eval(compile(ast.Expression(shown.value), f"cell {number}", "eval"), names)
                tables += hasattr(value, "_repr_html_") and "<table" in value._repr_html_()
    assert tables == 4
    assert names["overall"].loc["this model", "recall@10"] > 0.2  # type: ignore[attr-defined]


def test_the_notebook_has_no_outputs() -> None:
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize("page", ["tutorial.md", "worse_than_knn.md", "glossary.md"])
def test_every_key_that_a_page_names_is_one(page: str) -> None:
    keys = {line.split()[0] for line in KEYS.read_text(encoding="utf-8").splitlines() if line}
    sections = {key.partition(".")[0] for key in keys}
    text = (DOCS / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:\w+\.)+\w+)[:`]", text)
    wrong = [n for n in named if n.partition(".")[0] in sections and not _is_key(n, keys)]
    assert not wrong


def _is_key(name: str, keys: set[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for key in keys)


def test_pictures_are_small_and_each_is_shown() -> None:
    pages = [DOCS.parent / "README.md", *DOCS.glob("*.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    pictures = sorted((DOCS / "pictures").glob("*"))
    assert pictures
    for path in pictures:
        assert f"pictures/{path.name}" in text
        assert path.stat().st_size < 150_000
        with Image.open(path) as image:
            assert max(image.size) <= 1600
