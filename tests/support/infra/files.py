"""The files of `infra/`, and the commands that they name."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
INFRA = ROOT / "infra"
DOCKERFILE = INFRA / "Dockerfile"
MANIFESTS = sorted(
    path for path in (INFRA / "kubernetes").glob("*.yaml") if path.stem not in ("config",)
)
CONFIGS = (INFRA / "config.yaml", INFRA / "kubernetes" / "config.yaml")


def compose() -> dict[str, Any]:
    """Returns the compose file."""
    document: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
    return document


def manifests(path: Path) -> list[Any]:
    """Returns the documents of a file of manifests."""
    return list(yaml.safe_load_all(path.read_text()))


def pins(lock: str) -> dict[str, str]:
    """Returns the versions of a lock by package."""
    lines = (INFRA / "requirements" / f"{lock}.lock").read_text().split()
    return dict(line.split("==") for line in lines)


def image_of(target: str) -> dict[str, list[str]]:
    """Returns ENTRYPOINT and CMD of a target of the Dockerfile."""
    stages = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)
    (stage,) = (each for each in stages if each.partition("\n")[0].endswith(f" AS {target}"))
    found = re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", stage, re.MULTILINE)
    return {name: json.loads(words) for name, words in found}


def server_commands() -> dict[str, list[str]]:
    """Returns the commands by which the server is started, by the file that names them."""
    image = image_of("server")
    (deployment,) = (
        each for each in manifests(INFRA / "kubernetes" / "server.yaml")
        if each["kind"] == "Deployment"
    )  # fmt: skip
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {
        "Dockerfile": [*image["ENTRYPOINT"], *image["CMD"]],
        "compose.yaml": [*image["ENTRYPOINT"], *compose()["services"]["server"]["command"]],
        "server.yaml": [*image["ENTRYPOINT"], *container["args"]],
    }


def run_nightly(
    directory: Path, *words: str, code: int = 0, **environment: str
) -> tuple[int, list[list[str]]]:
    """Runs nightly.sh, and returns its exit code and the commands that it ran.

    Args:
        directory: Directory for a program in place of `recsys`.
        words: Arguments of the script.
        code: Exit code of each command.
        environment: Variables of the environment.
    """
    program, log = directory / "recsys", directory / "commands"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" end >>{log}\nexit {code}\n')
    program.chmod(0o755)
    log.write_text("")
    done = subprocess.run(
        ["sh", str(INFRA / "nightly.sh"), *words],
        env={"PATH": f"{directory}:{os.environ['PATH']}", **environment},
        check=False,
    )
    commands = log.read_text().split("end\n")[:-1]
    return done.returncode, [["recsys", *each.splitlines()] for each in commands]
