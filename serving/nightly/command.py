"""The nightly job as a command: a line of JSON for each day, and an exit code."""

import json
import sys
from datetime import datetime

from rich.console import Console

from recsys.config.config import Config
from recsys.console import one_line
from serving.nightly.job import run_days

# Exit codes that count more than those of other days.
_WORST = (1, 3)


def run_nightly(
    config: Config, first: datetime, last: datetime, *, outcome_codes: bool, console: Console
) -> int:
    """Does the work of one day or of several, and prints the outcome of each on a line.

    Args:
        config: Configuration of the system.
        first: Time of the first day.
        last: Time of the last day.
        outcome_codes: Whether a kept champion and a day without news have exit codes.
        console: Console to show progress on.

    Returns:
        The exit code: of the worst day, else of the last one.
    """
    codes = []
    for outcome in run_days(config, first, last, console=console):
        print(json.dumps(outcome.model_dump(mode="json"), ensure_ascii=False), flush=True)
        if outcome.needs_somebody:
            print(f"recsys: {one_line(outcome.reason)}", file=sys.stderr)
        codes.append(outcome.exit_code(with_outcomes=outcome_codes))
    return next((code for code in _WORST if code in codes), codes[-1])
