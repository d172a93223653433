"""Notices of a day's outcome: a webhook, a file for Prometheus, and tags in MLflow.

None of them is ever the reason for a failure: what cannot be told is said on the terminal.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from recsys.config.config import Config
from recsys.config.job import NotifyConfig
from recsys.tracking import open_run
from serving.nightly.outcome import Kind, Outcome
from serving.registry.registry import describe_version

# Seconds of one attempt, and pauses between them.
_SECONDS, _PAUSES = 10, (1.0, 4.0, 16.0)
# Answers after which another attempt may help.
_BUSY = (408, 425, 429, *range(500, 600))

Say = Callable[[str], None]


def notify(config: Config, outcome: Outcome, page: Path, say: Say) -> None:
    """Tells everybody that the configuration names.

    Args:
        config: Configuration of the system.
        outcome: Outcome of the day.
        page: Page of the day.
        say: Function called with a sentence on what could not be told.
    """
    settings = config.job.notify
    receivers: dict[str, Callable[[], None]] = {
        "MLflow": lambda: _tag(config, outcome, page),
        "the file for Prometheus": lambda: _write_metrics(settings, outcome),
        "the webhook": lambda: _post(settings, outcome),
    }
    for name, tell in receivers.items():
        try:
            tell()
        except Exception as error:  # Nothing here may fail a job whose work is done.
            say(f"{name} was not told the outcome: {error or type(error).__name__}")


class _NotToldError(Exception):
    """A receiver that could not be reached, with the reason."""


def _tag(config: Config, outcome: Outcome, page: Path) -> None:
    """Puts date, outcome and reason on the run and the version of the model."""
    tags = {
        "recsys.day": outcome.date,
        "recsys.as_of": outcome.as_of,
        "recsys.outcome": outcome.outcome,
        "recsys.dataset": config.data.model_dump(mode="json")["events"],
    }
    if outcome.git_commit is not None:
        tags["recsys.git_commit"] = outcome.git_commit
    description = f"{outcome.date}: {outcome.outcome}. {outcome.reason}"
    if outcome.mlflow_run_id is not None:
        run = open_run(config, outcome.mlflow_run_id)
        if run is not None:
            run.tag(**tags)
            run.annotate(description)
            run.save(page, "nightly")
    if outcome.version is not None:
        describe_version(config, outcome.version, description, tags)


def _write_metrics(settings: NotifyConfig, outcome: Outcome) -> None:
    """Writes gauges for the textfile collector of Prometheus' node exporter."""
    if settings.textfile is None:
        return
    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float | None, **labels: str) -> None:
        if value is not None:
            found = Gauge(f"recsys_job_{name}", text, ["model", *labels], registry=registry)
            found.labels(model=outcome.model, **labels).set(value)

    metric = {"metric": outcome.metric}
    gauge("ended_timestamp_seconds", "End of the latest job.", time.time())
    gauge("seconds", "Duration of the latest job.", outcome.seconds)
    gauge("events", "Events of the log.", outcome.events)
    gauge("new_files", "Files that were new.", outcome.new_files)
    gauge("passed_over_files", "Files of refused days that were not read.", outcome.passed_over)
    gauge("test_value", "Metric of the new model on the test.", outcome.value, **metric)
    gauge("champion_value", "Metric of the champion on it.", outcome.champion_value, **metric)
    gauge("uncompared_days", "Days in a row without a comparison.", outcome.uncompared)
    gauge("champion_age_days", "Days since the champion's data.", outcome.champion_age_days)
    kept = "Days on which the champion stayed though a new model was better overall."
    gauge("better_but_kept_days", kept, outcome.better_but_kept)
    if outcome.champion is not None and outcome.champion.isdigit():
        gauge("champion_version", "Version that is the champion.", int(outcome.champion))
    kinds = Gauge("recsys_job_outcome", "1 of the latest outcome.", ["model", "outcome"],
                  registry=registry)  # fmt: skip
    for kind in get_args(Kind):
        kinds.labels(model=outcome.model, outcome=kind).set(kind == outcome.outcome)
    path = Path(settings.textfile)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), registry)


def _post(settings: NotifyConfig, outcome: Outcome) -> None:
    """Sends the outcome as JSON; waits longer after each attempt that failed."""
    if settings.webhook is None:
        return
    body = json.dumps(outcome.model_dump(mode="json")).encode()
    for pause in (*_PAUSES, None):
        fault = _fault_of_post(settings.webhook, body)
        if fault is None:
            return
        why, may_help = fault
        if pause is None or not may_help:
            raise _NotToldError(why)
        time.sleep(pause)


def _fault_of_post(url: str, body: bytes) -> tuple[str, bool] | None:
    """Returns why a request failed, and whether another may help; None where it did not fail.

    The address is not shown, for it may hold a secret.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "recsys"}
    try:
        request = urllib.request.Request(url, body, headers)
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return f"it answers {error.code}", error.code in _BUSY
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        return f"{type(reason).__name__}", isinstance(error, OSError)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is a failure: followed, it would be a GET without the outcome."""

    def redirect_request(self, *_: Any) -> None:
        """Follows none."""
