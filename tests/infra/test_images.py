"""The images: their Dockerfile, their locks, and the commands that they run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_group

from recsys import cli
from recsys.config.load import load_config
from tests.support.infra.files import (
    CONFIGS,
    DOCKERFILE,
    INFRA,
    ROOT,
    image_of,
    pins,
    run_nightly,
    server_commands,
)

# Hosts of addresses: this machine, and services by name.
OWN_HOSTS = ("127.0.0.1", "localhost", "mlflow", "prometheus")
FILES = [path for path in INFRA.rglob("*") if path.is_file() and path.suffix != ".lock"]


def parsed(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> dict[str, object]:
    """Parses a command as `recsys` would, and returns its parameters without running it."""
    found: list[dict[str, object]] = []
    group = get_group(cli.app)
    for command in group.commands.values():
        monkeypatch.setattr(command, "callback", lambda **given: found.append(given))
    assert words[0] == "recsys"
    group.main(words[1:], standalone_mode=False)
    (given,) = found
    return given


def test_the_linter_finds_no_fault_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_images_run_without_root_and_without_what_made_them() -> None:
    text = DOCKERFILE.read_text()
    stages = {
        name: body
        for body, name in re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)
    }  # fmt: skip
    assert stages["runtime"] == "${PYTHON}"
    assert "USER 10001:10001" in text[text.index("AS runtime") : text.index("AS job")]
    last = text[text.index("FROM runtime AS job") :]
    assert {name for name, base in stages.items() if base == "runtime"} == {
        "job",
        "server",
        "tracking",
    }
    assert not re.findall(r"^(USER|RUN)", last, re.MULTILINE)


@pytest.mark.parametrize(
    ("image", "development", "without"),
    [
        ("job-cpu", "cpu", {"pytest", "ruff", "playwright"}),
        ("job-gpu", "gpu", {"pytest", "ruff", "playwright"}),
        ("serving", "cpu", {"ray", "mlflow", "feast", "torchrec"}),
        ("tracking", "cpu", {"torch", "ray"}),
    ],
)
def test_an_image_has_the_versions_that_are_tested_and_no_more_than_it_needs(
    image: str, development: str, without: set[str]
) -> None:
    versions, tested = pins(image), pins(development)
    own = {"psycopg", "psycopg-binary"}  # MLflow's server needs them, and nothing else does.
    assert {name: tested.get(name) for name in versions.keys() - own} == {
        name: version for name, version in versions.items() if name not in own
    }
    assert not without & versions.keys()


def test_the_dockerfile_copies_what_there_is() -> None:
    text = DOCKERFILE.read_text()
    for source in re.findall(r"^COPY (infra/\S+)", text, re.MULTILINE):
        for device in ("cpu", "gpu"):
            assert (ROOT / source.replace("${DEVICE}", device)).is_file()
    kept = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in kept)
    assert {"feature_store", "pipelines", "recsys", "serving", "infra/requirements"} <= set(kept)


@pytest.mark.parametrize("words", server_commands().values(), ids=list(server_commands()))
def test_the_servers_commands_are_ones(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given = parsed(monkeypatch, words)
    assert given["bundle"] == "models:/recsys@champion"
    assert given["host"] == "0.0.0.0"
    assert given["online"] in (None, Path("/etc/recsys/config.yaml"))


def test_the_night_runs_and_then_fills_the_online_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, commands = run_nightly(tmp_path, AS_OF="2026-11-23")
    assert status == 0
    run, materialize = (parsed(monkeypatch, words) for words in commands)
    assert [words[1] for words in commands] == ["run", "materialize"]
    assert f"{run['as_of']:%Y-%m-%d %H:%M}" == "2026-11-23 00:00"
    assert run["config"] == materialize["config"] == Path("/etc/recsys/config.yaml")
    assert run["wait"] is True
    _, (today, _) = run_nightly(tmp_path, "other.yaml", AS_OF="")
    assert re.fullmatch(r"recsys run other.yaml --as-of 20\d\d-\d\d-\d\d --wait", " ".join(today))
    for code in (1, 3):
        status, commands = run_nightly(tmp_path, code=code)
        assert (status, len(commands)) == (code, 1)
    assert image_of("job")["CMD"] == ["nightly", "/etc/recsys/config.yaml"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_the_configurations_are_ones(path: Path) -> None:
    config = load_config(path)
    assert config.tracking.experiment == "recsys"  # The server follows its alias.
    assert config.feature_store.online == "redis"
    assert Path(config.output).is_relative_to("/data")
    assert config.job.notify.textfile is not None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(INFRA)))
def test_commands_that_comments_name_exist_and_no_registry_is_named(path: Path) -> None:
    text = path.read_text()
    known = set(get_group(cli.app).commands)
    for name in re.findall(r"(?:`|^\s*)recsys ([a-z][a-z-]*)", text, re.MULTILINE):
        assert name in known
    assert all(host in OWN_HOSTS for host in re.findall(r"https?://([^/:\"'\s]+)", text))
    images = re.findall(r"(?:image: |PYTHON=|newName: )([^\s,]+)", text)
    assert not [image for image in images if "." in image.partition("/")[0].partition(":")[0]]
