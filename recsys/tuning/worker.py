"""One trial of a search, in a worker of Ray Tune."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray import tune

from feature_store.core.documents import read_lines
from feature_store.core.errors import UserError
from pipelines.prepared.reader import Prepared
from pipelines.process import use_threads
from recsys.checkpoint.training_manifest import METRICS_FILE
from recsys.config.config import Config
from recsys.config.load import with_values
from recsys.data.loader import in_process_batches
from recsys.training.launch import device_of, single_process_group
from recsys.training.rank import train_on_rank
from recsys.training.run import plan_run
from recsys.tuning.journal import Started, Trial

# Keys of a report: the validation's number, the best metric so far, the line of metrics, and the
# error of a failed trial.
VALIDATION, VALUE, LINE, ERROR = "validation", "value", "line", "error"
# Prefix of a metric's name in the line.
PREFIX = "validation."


def trial_config(config: Config, trial: Trial) -> Config:
    """Returns the configuration that a trial trains, in one process."""
    values = {
        **trial.started.values,
        "training.seed": trial.started.seed,
        "training.ray": None,
        "output": str(Path(config.output).resolve()),  # Workers may be elsewhere.
    }
    return with_values(config, values, source=f"trial {trial.number}")


def train_trial(options: dict[str, Any]) -> None:
    """Trains in a worker of Ray Tune, and reports every validation once.

    When Ray stops the trial, `tune.report` does not return but ends the thread, so that the loop is
    left as by an error, and closes what it has open.

    Args:
        options: `job`, JSON of the base configuration, the trial's beginning, its directory, that
            of the items' neighbours, the validations that are known of it, and the worker's
            threads.
    """
    job = json.loads(options["job"])
    base, work_dir = Config.model_validate_json(job["base"]), Path(job["work_dir"])
    work_dir.mkdir(parents=True, exist_ok=True)
    reported, best = job["reported"], 0.0
    key = f"{PREFIX}{base.evaluation.select_by}"

    def report() -> None:
        nonlocal reported, best
        for validation, line in enumerate(_validations(work_dir / METRICS_FILE, key), 1):
            best = max(best, line[key] or 0.0)
            if validation > reported:
                reported = validation
                tune.report({VALIDATION: validation, VALUE: best, LINE: json.dumps(line)})

    use_threads(job["threads"])
    try:
        config = trial_config(base, Trial(Started.model_validate_json(job["trial"])))
        device = device_of(config.training, local_rank=0)
        with single_process_group(device):
            prepared = Prepared(config.prepared_dir)
            plan = config.ssl.view_plan
            shows = plan is not None and plan.of_neighbours
            neighbours = Path(job["neighbours"]) if shows else None
            run, _ = plan_run(config, prepared, work_dir, neighbours=neighbours)
            train_on_rank(run, device, in_process_batches, report)
        report()  # A killed process may have left a validation unreported.
    except Exception as error:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        tune.report({VALIDATION: reported + 1, VALUE: 0.0, ERROR: text})


def _validations(path: Path, key: str) -> Iterator[dict[str, float | None]]:
    lines = read_lines(path) if path.exists() else []
    return (line for line in lines if key in line)
