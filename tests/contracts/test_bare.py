"""A bundle answers where nothing is installed but the extra `serving`."""

import json
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.support.infra.files import CONFIGS, server_commands

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "infra" / "requirements" / "serving.lock"
ANSWER = """
import json, sys
from pathlib import Path
import serving, serving.server.build, serving.server.launch
from feature_store.core.errors import UserError
from recsys import cli
recommender = serving.load(sys.argv[1])
assert recommender.recommend("3", 5).items
assert recommender.similar_items("i3", 5).items
assert recommender.recommend("3", 5, serving.RecommendOptions(where={"group": ["g2"]})).items
app = serving.server.build.build(serving.ServerSettings(sys.argv[1], log=Path(sys.argv[2])))
assert "/recommend" in app.openapi()["paths"]
for name in ("torchrec", "fbgemm_gpu", "ray", "mlflow", "feast", "scipy", "pandas"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} can be imported")
try:
    serving.load("models:/mine@champion")
except Exception as error:
    assert "mlflow" in str(error).lower(), error
served = []
serving.server.launch.run_app = lambda app, *, host, **_: served.append(host)
for command in json.loads(sys.argv[3]):
    words = [sys.argv[1] if word.startswith("models:/") else word for word in command]
    words = [sys.argv[4] if word.endswith(".yaml") else word for word in words]
    try:
        cli.app(words[1:], standalone_mode=False)
    except UserError as error:
        assert "--online" in words and "Redis" in str(error), error
        served.append("0.0.0.0")
assert served == ["0.0.0.0"] * 3, served
"""


def installed_files(lock):
    """Lists the top-level files and folders of the packages of a lock."""
    for name in re.findall(r"^([^=\s]+)==", lock.read_text(), re.MULTILINE):
        found = distribution(name)
        for file in found.files or ():
            if not file.parts[0].startswith(".."):
                yield Path(str(found.locate_file(file.parts[0])))


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Makes a directory with links to them alone, and to this project."""
    directory = tmp_path_factory.mktemp("bare")
    for path in set(installed_files(LOCK)):
        (directory / path.name).symlink_to(path)
    for name in ("feature_store", "pipelines", "recsys", "serving"):
        (directory / name).symlink_to(ROOT / name)
    (metadata,) = (directory / "recsys-0.dist-info",)
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: recsys\nVersion: 0\n")
    return directory


def test_a_bundle_answers_where_only_the_extra_serving_is(bare, tiny_fused, tmp_path):
    """Runs the server's commands of `infra/`, too; with a Redis that does not answer."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIGS[0].read_text().replace("redis:6379", "127.0.0.1:9"))
    code = f"import sys; sys.path.insert(0, {str(bare)!r})\n{ANSWER}"
    # Without the site packages of the environment.
    command = [
        sys.executable,
        "-S",
        "-P",
        "-c",
        code,
        str(tiny_fused.bundle_dir),
        str(tmp_path / "log"),
        json.dumps(list(server_commands().values())),
        str(config),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
