"""README.md: its Python example runs, its links lead somewhere, and it lists every command."""

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_group

from recsys.cli import app
from tests.support.planted import planted_config, write_planted_log

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    write_planted_log(tmp_path / "log")
    config = planted_config(tmp_path / "log", tmp_path / "out", tracking={"uri": tracking_uri})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    monkeypatch.chdir(tmp_path)

    exec(compile(example, "README.md", "exec"), {})

    lines = capsys.readouterr().out.splitlines()
    assert any(re.fullmatch(r"None|[01]\.\d+", line) for line in lines)  # Recall of the tail.
    assert lines[-1].startswith("query_id='42'")


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8"))
    for link in links:
        assert "://" in link or ((ROOT / page).parent / link).exists(), f"{page} links to {link}"


def test_every_command_is_listed() -> None:
    listed = set(re.findall(r"`recsys (\w[\w-]*)", README))
    assert set(get_group(app).commands) == listed
