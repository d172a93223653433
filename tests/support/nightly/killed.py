"""A nightly job that is killed again and again: each time before another change of names.

    python -m tests.support.nightly.killed CONFIG.json AS_OF 20 60

It prints how each process ended. A process is forked for each, for the imports take seconds.
"""

import os
import signal
import sys
from datetime import datetime
from pathlib import Path

from rich.console import Console

from recsys.config.config import Config
from serving.nightly.job import run_day

# Audit events of Python, each raised before the act.
_CHANGES = frozenset(("os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.link"))


def kill_before(change: int) -> None:
    """Kills this process before it makes a change, counted from 0."""
    left = change

    def count(event: str, _: object) -> None:
        nonlocal left
        if event in _CHANGES:
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(count)


def main(config_path: str, as_of: str, *changes: str) -> None:
    """Runs the job in a process for each change."""
    config = Config.model_validate_json(Path(config_path).read_text())
    for change in changes:
        child = os.fork()
        if not child:
            kill_before(int(change))
            run_day(config, datetime.fromisoformat(as_of), console=Console(quiet=True))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(change, "killed" if os.WIFSIGNALED(status) else f"ended {os.WEXITSTATUS(status)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
