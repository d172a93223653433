"""Trainings of a study: each is done once, in a Ray worker, and leaves a small result."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_store.core.documents import read_record
from feature_store.core.errors import UserError
from feature_store.core.files import write_json
from feature_store.core.manifests import fingerprint
from feature_store.core.settings import Frozen
from pipelines.prepared.reader import Prepared
from pipelines.process import use_threads
from pipelines.statistics.slices import SliceBounds
from recsys.config.config import Config
from recsys.config.load import with_values
from recsys.evaluation.per_query import PER_QUERY
from recsys.evaluation.selection import NOTHING, score_of

RESULT = "result.json"


class UnitResult(Frozen):
    """Result of a training.

    Attributes:
        validation: Best validation metric; None where the training failed.
        finer: Metric of the same validation that breaks ties.
        error: Reason of the failure.
        steps: Number of steps of the training.
        seconds: Duration of the training.
        mlflow_run_id: Run of the training.
    """

    validation: float | None
    finer: float = 0.0
    error: str | None = None
    steps: int = 0
    seconds: float = 0.0
    mlflow_run_id: str | None = None


@dataclass(frozen=True)
class Unit:
    """One training.

    Attributes:
        name: Name in messages of progress.
        config: Whole configuration, with an output of its own.
        is_tested: Whether the test split is measured as well.
    """

    name: str
    config: Config
    is_tested: bool

    @property
    def directory(self) -> Path:
        """Directory of its result."""
        return Path(self.config.output)

    def result(self) -> UnitResult | None:
        """Reads the result; None where the training is still to be done."""
        path = self.directory / RESULT
        if not path.exists():
            return None
        return read_record(path, UnitResult)

    @property
    def per_query(self) -> Path:
        """File of the test's rows by query."""
        return self.directory / "evaluation" / PER_QUERY


def unit_of(
    base: Config, prepared: Path, runs: Path, name: str, values: dict[str, Any], **settings: Any
) -> Unit:
    """Makes a training on prepared data, in a directory named after its content.

    Args:
        base: Configuration of the prepared data.
        prepared: Prepared directory.
        runs: Directory that holds the directories of all units.
        name: Name in messages of progress.
        values: Values by configuration key.
        settings: Keywords `seed`, `is_tested`, and `evaluation`, values of that section.
    """
    seed, is_tested = settings["seed"], settings["is_tested"]
    run = {
        **values,
        "training.seed": seed,
        "training.ray": None,
        "training.start": "scratch",
        **settings.get("evaluation", {}),
    }
    config = with_values(base, run, source=name)
    document = config.model_dump(
        mode="json", exclude={"output", "executor", "study", "tuning", "tracking", "export"}
    )
    data = Prepared(prepared)
    bounds = SliceBounds.of(data.item_frequency).marks()
    key = fingerprint([document, data.manifest.fingerprint, is_tested, *bounds])[:16]
    directory = runs / key
    config = with_values(config, {"output": str(directory.resolve())}, source=name)
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / "prepared"
    if link.resolve() != prepared.resolve():  # The study may have been moved.
        link.unlink(missing_ok=True)
        link.symlink_to(prepared.resolve())
    return Unit(name, config, is_tested)


def run_units(
    units: Sequence[Unit], concurrent: int | None, say: Callable[[str], None]
) -> list[UnitResult]:
    """Runs the trainings that are not done yet, in parallel; those that failed are tried again.

    Args:
        units: Trainings, in the order of the results.
        concurrent: Number of trainings at a time; None: one for each core, or each GPU.
        say: Function called with a line for each training that ends.
    """
    waiting = [unit for unit in units if (done := unit.result()) is None or done.error is not None]
    if waiting:
        _run_on_ray(waiting, concurrent, say)
    results = [unit.result() for unit in units]
    assert all(result is not None for result in results)
    return [result for result in results if result is not None]


def _run_on_ray(waiting: list[Unit], concurrent: int | None, say: Callable[[str], None]) -> None:
    import ray

    from pipelines.executor.session import ensure_ray

    ensure_ray()
    cluster = ray.cluster_resources()
    cores, gpus = int(cluster.get("CPU", 1)), int(cluster.get("GPU", 0))
    at_once = concurrent or gpus or cores
    shares = {"num_cpus": max(0.01, cores / at_once), "num_gpus": gpus / at_once}
    remote = ray.remote(max_retries=2, **shares)(_run_unit)
    threads = max(1, cores // at_once)
    pending = {}
    for unit in waiting:
        document = unit.config.model_dump_json()
        pending[remote.remote(document, unit.is_tested, threads)] = unit
    done = 0
    while pending:
        (reference,), _ = ray.wait(list(pending), num_returns=1)
        unit = pending.pop(reference)
        result = UnitResult.model_validate_json(ray.get(reference))
        done += 1
        shown = result.error or f"validation {result.validation:.4f} in {result.seconds:.0f} s"
        say(f"{done}/{len(waiting)} {unit.name}: {shown}")


def _run_unit(document: str, is_tested: bool, threads: int) -> str:
    """Trains in a worker; leaves only the result and, for a test, its evaluation."""
    use_threads(threads)
    from recsys.stages.channel_lists import remove_channel_lists
    from recsys.stages.evaluate import evaluate
    from recsys.stages.train import train

    config = Config.model_validate_json(document)
    directory = Path(config.output)
    try:
        manifest = train(config)
        if is_tested:
            evaluate(config)
        score = score_of(manifest.validation, config.evaluation.select_by) or NOTHING
        result = UnitResult(
            validation=score.value,
            finer=score.finer,
            steps=manifest.steps,
            seconds=manifest.seconds,
            mlflow_run_id=manifest.mlflow_run_id,
        )
    except UserError as error:
        result = UnitResult(validation=None, error=str(error))
    shutil.rmtree(config.train_dir, ignore_errors=True)
    remove_channel_lists(config)
    write_json(directory / RESULT, result.model_dump(mode="json"))
    return result.model_dump_json()
