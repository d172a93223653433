"""The heavy libraries that commands import, found in a process of their own."""

import subprocess
import sys

HEAVY = ("fbgemm_gpu", "mlflow", "optuna", "pandas", "plotly", "ray", "scipy", "torch", "torchrec")
QUERYING = ("faiss", "numpy", "pyarrow", "pydantic")

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
    """Runs commands, and returns the heavy libraries that they have imported by their end."""
    heavy = HEAVY + QUERYING
    program = PROGRAM.format(commands=commands, heavy=heavy, status=status)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
