"""The libraries that commands import, each of which takes as long as a short command may.

No clock is needed to see that: what was not imported was not waited for.
"""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("fbgemm_gpu", "mlflow", "optuna", "pandas", "plotly", "ray", "scipy", "torch", "torchrec")
QUERYING = ("faiss", "numpy", "pyarrow")

# Runs commands one after the other, and prints which of the libraries they have imported by then.
PROGRAM = """
import contextlib, io, sys
from recsys import cli
for command in {commands!r}:
    sys.argv = ["recsys", *command]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
    assert status == {status}, said.getvalue()
print(*sorted(set({heavy!r}) & set(sys.modules)))
"""


def imported(*commands: tuple[str, ...], status: int = 0) -> list[str]:
    heavy = HEAVY + QUERYING
    program = PROGRAM.format(commands=commands, heavy=heavy, status=status)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_help_imports_no_engine():
    assert imported(("--help",), ("--version",), ("train", "--help"), ("query", "--help")) == []


def test_an_explanation_of_a_key_and_a_mistyped_path_import_no_engine():
    stages = ("prepare", "train", "evaluate", "fuse", "tune", "study", "materialize", "export")
    found = imported(*((stage, "nothing.yaml") for stage in (*stages, "run", "doctor")), status=1)
    assert not set(found) & {*HEAVY, "faiss"} - {"pandas"}
    assert set(imported(("config",), ("config", "training.epochs"))) <= {"numpy", "pyarrow"}


@pytest.mark.parametrize("bundle", ["exported", "tiny_fused"])
def test_a_known_query_is_answered_without_the_engine_of_its_tower(bundle, request):
    directory = request.getfixturevalue(bundle)
    path: Path = directory if bundle == "exported" else directory.bundle_dir
    assert imported(("query", str(path), "--query-id", "3")) == list(QUERYING)
