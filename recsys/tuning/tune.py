"""The `tune` stage: a search for better settings on the prepared data, judged by validation."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from feature_store.core.documents import read_object
from feature_store.core.errors import UserError
from feature_store.core.files import (
    directory_written_atomically,
    marked_by,
    require_replaceable,
    write_json,
    write_parquet,
    write_text,
)
from feature_store.core.locks import locked, reading
from feature_store.core.manifests import fingerprint, read_manifest, write_manifest, written_as
from feature_store.core.settings import Frozen
from pipelines.prepared.reader import Prepared
from pipelines.reports.html import render_page
from recsys.checkpoint.training_manifest import training_fingerprint
from recsys.config.config import Config
from recsys.config.ssl import SSL_SETTINGS
from recsys.config.tuning import Choices
from recsys.data.candidates import check_candidates
from recsys.evaluation.selection import NOTHING, Score
from recsys.evaluation.validation import selection_warning
from recsys.mlflow_run import Run
from recsys.stages.channel_lists import remove_channel_lists
from recsys.stages.item_neighbours import fit_neighbours
from recsys.tracked import run_name
from recsys.tracking import open_run, start_run, tracking_uri
from recsys.tuning.journal import Journal, Trial
from recsys.tuning.report import render_best, tuning_page
from recsys.tuning.result import Candidate, TuningResult
from recsys.tuning.search import Search
from recsys.tuning.space import Axis, search_space
from recsys.tuning.tracking import MlflowTracker

TRIALS = "trials.jsonl"
BEST_CONFIG = "best.yaml"
IDENTITY = "identity.json"


class TuningManifest(Frozen):
    """Marks a search as finished; written last.

    Attributes:
        version: Version of this format.
        fingerprint: Fingerprint of the configuration, the space and the prepared data.
        result: Result of the search.
    """

    version: int = 1
    fingerprint: str
    result: TuningResult


_IS_OWN = written_as(TuningManifest)


def tune(config: Config, *, console: Console | None = None) -> TuningResult:
    """Searches for better settings, or returns at once where the search is already done.

    An interrupted search is resumed, its unfinished trials from their checkpoints; so is a finished
    one for which more trials are asked, or that `tuning.minutes` ended.

    Args:
        config: Configuration; its prepared data must exist, and `tuning` says what is varied.
        console: Console for progress.

    Returns:
        Contents of `best.json` in `config.tuning_dir`, beside `best.yaml`, the trials and a report.

    Raises:
        UserError: A path of the space is unknown or a value does not fit, there is no prepared
            data, it holds nothing to validate by, or no trial succeeds.
    """
    console = console or Console()
    work_dir = config.tuning_dir.with_name(f"{config.tuning_dir.name}.partial")
    require_replaceable(config.tuning_dir, _IS_OWN)
    require_replaceable(work_dir, marked_by(IDENTITY, TRIALS))
    axes = search_space(config)
    _prepared(config)  # Before anything is made, for there may be none.
    with locked(config.tuning_dir), reading(config.prepared_dir):
        prepared = _prepared(config)
        identity = _identity(config, prepared, axes)
        finished = read_manifest(config.tuning_dir, TuningManifest)
        if finished is not None and finished.fingerprint == identity and not work_dir.exists():
            journal = Journal(config.tuning_dir / TRIALS)
            if Search(config, axes, journal, MlflowTracker(config, None, journal)).is_complete:
                console.print(f"tune: {config.tuning_dir} is up to date")
                # The directory may have been moved.
                best = str(config.tuning_dir / BEST_CONFIG)
                return finished.result.model_copy(update={"config": best})
        if (warning := selection_warning(prepared, config.evaluation.select_by)) is not None:
            console.print(f"tune: {warning}")
        _open_work_dir(config, work_dir, identity, finished)
        journal = Journal(work_dir / TRIALS)
        parent = _open_run(config, work_dir)
        search = Search(config, axes, journal, MlflowTracker(config, parent.run_id, journal))
        try:
            _fit_neighbours(config, axes, prepared, work_dir, console)
            _run(search, work_dir, console)
            result = _seal(search, work_dir, identity, parent)
        except BaseException as error:
            parent.end("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
    parent.end("FINISHED")
    return result


def _prepared(config: Config) -> Prepared:
    prepared = Prepared(config.prepared_dir)
    if prepared.features != config.features:
        raise UserError(
            f"{config.prepared_dir} was prepared with other features than the configuration's; "
            "run `recsys prepare` again."
        )
    prepared.require_repeats(config.data.repeats)
    if not prepared.manifest.counts.validation:
        raise UserError(
            f"{config.prepared_dir} holds no validation events, by which trials are compared; "
            "choose another data.split."
        )
    if config.training.start != "scratch":
        raise UserError(
            f"training.start is {config.training.start}, but trials begin from scratch, so that "
            "they can be compared; tune with --set training.start=scratch."
        )
    check_candidates(prepared, config.loss)
    return prepared


def _identity(config: Config, prepared: Prepared, axes: tuple[Axis, ...]) -> str:
    space = {axis.path: axis.dimension.model_dump(mode="json") for axis in axes}
    # The training's fingerprint has this number where its own method shows neighbours, not another.
    lists = [config.ranking.neighbours] if "neighbours" in _methods(axes) else []
    return fingerprint([training_fingerprint(config, prepared), space, *lists])


def _open_work_dir(
    config: Config, work_dir: Path, identity: str, finished: TuningManifest | None
) -> None:
    """Opens the unfinished search's directory; one of another configuration is removed.

    So is one in which every trial has failed: what was at fault may be mended.
    """
    path = work_dir / IDENTITY
    if path.exists() and read_object(path).get("identity") == identity and not _is_lost(work_dir):
        return
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    run_id = None
    if finished is not None and finished.fingerprint == identity:
        shutil.copy(config.tuning_dir / TRIALS, work_dir / TRIALS)
        run_id = finished.result.mlflow_run_id
    write_json(path, {"identity": identity, "mlflow_run_id": run_id})


def _is_lost(work_dir: Path) -> bool:
    trials = Journal(work_dir / TRIALS).trials.values()
    return bool(trials) and all(trial.status == "failed" for trial in trials)


def _open_run(config: Config, work_dir: Path) -> Run:
    """Opens the run of a resumed search, or starts one."""
    path = work_dir / IDENTITY
    identity = read_object(path, "identity", "mlflow_run_id")
    if identity["mlflow_run_id"] is not None:
        run = open_run(config, identity["mlflow_run_id"])
        if run is not None:
            return run
    run = start_run(config, f"{run_name(config)} tune", tags={"mlflow.source.name": "recsys tune"})
    write_json(path, {**identity, "mlflow_run_id": run.run_id})
    return run


def _fit_neighbours(
    config: Config, axes: tuple[Axis, ...], prepared: Prepared, work_dir: Path, console: Console
) -> None:
    """Fits the neighbours that views of some trial may show, once for all trials."""
    for method in {config.ssl.method, *_methods(axes)}:
        settings = {"ssl": SSL_SETTINGS[method](method=method), "output": str(work_dir.resolve())}
        own = config.model_copy(update=settings)
        fit_neighbours(own, prepared, work_dir, console, stage="tune")
        remove_channel_lists(own)


def _methods(axes: tuple[Axis, ...]) -> set[str]:
    """Returns the methods of self-supervision that are searched."""
    listed = [a.dimension for a in axes if a.path == "ssl.method"]
    return {method for each in listed if isinstance(each, Choices) for method in each.choices}


def _run(search: Search, work_dir: Path, console: Console) -> None:
    from recsys.tuning.trials import run_search

    tuning = search.config.tuning
    known = len(search.journal.searched)
    console.print(
        f"tune: {tuning.trials} trials over {len(search.axes)} settings by validation "
        f"{search.metric}" + (f", of which {known} have begun before" if known else "")
    )

    def say(trial: Trial) -> None:
        console.print(_line(search, trial), markup=False, highlight=False, soft_wrap=True)

    try:
        run_search(search, work_dir, say)
    except KeyboardInterrupt:
        search.tracker.interrupted()
        console.print(f"tune: interrupted; run `recsys tune` again to resume {work_dir}")
        raise


def _line(search: Search, trial: Trial) -> str:
    """Formats the line that is shown for a trial that is over."""
    assert trial.ended is not None
    name = f"trial {trial.number}"
    if trial.started.confirms is not None:
        name = f"trial {trial.started.confirms} with seed {trial.started.seed}"
    if trial.status == "failed":
        return f"tune: {name} failed: {trial.ended.error}"
    value = f"{search.metric} {trial.value(search.metric):.4f}" if trial.validations else "nothing"
    best = search.best_trials()[0]
    return (
        f"tune: {name} {trial.status} with {value} after {len(trial.validations)} validations, "
        f"{trial.ended.seconds:.0f} s; best {best.value(search.metric):.4f} of trial {best.number}"
    )


def _seal(search: Search, work_dir: Path, identity: str, parent: Run) -> TuningResult:
    """Writes the directory, and adds it to the search's run."""
    config = search.config
    result = _result(search, parent)
    with directory_written_atomically(config.tuning_dir, _IS_OWN) as directory:
        shutil.copy(work_dir / TRIALS, directory / TRIALS)
        write_parquet(directory / "trials.parquet", _table(search))
        write_text(directory / BEST_CONFIG, render_best(config, result))
        write_json(directory / "best.json", result.model_dump(mode="json"))
        write_text(directory / "report.html", render_page(tuning_page(search, result)))
        write_manifest(directory, TuningManifest(fingerprint=identity, result=result))
    for name in (TRIALS, "trials.parquet", BEST_CONFIG, "best.json", "report.html"):
        parent.save(config.tuning_dir / name)
    parent.log([{"step": 0, f"best.{result.metric}": result.best.mean}])
    shutil.rmtree(work_dir)
    return result


def _result(search: Search, parent: Run) -> TuningResult:
    config, metric = search.config, search.metric
    candidates = []
    for trial in search.best_trials():
        score = trial.score(metric)
        assert score is not None
        again = [
            other.score(metric) or NOTHING for other in search.journal.confirming(trial.number)
        ]
        whole = [score, *again] if trial.status == "finished" or not again else again
        mean = Score(*(sum(figures) / len(whole) for figures in zip(*whole, strict=True)))
        candidate = Candidate(
            trial=trial.number,
            values=trial.started.values,
            value=score.value,
            confirmed=tuple(other.value for other in again),
            mean=mean.value,
            mlflow_run_id=trial.started.mlflow_run_id,
        )
        candidates.append((mean, candidate))
    searched = search.journal.searched
    if not candidates:
        errors = [trial.ended.error for trial in searched if trial.ended and trial.ended.error]
        raise UserError(f"none of {len(searched)} trials succeeded; the first failed: {errors[0]}")
    return TuningResult(
        metric=metric,
        candidates=tuple(c for _, c in sorted(candidates, key=lambda pair: pair[0], reverse=True)),
        own_value=searched[0].value(metric) if search.begins_with_own else None,
        trials=dict(Counter(trial.status for trial in searched)),
        importance=search.importance(),
        config=str(config.tuning_dir / BEST_CONFIG),
        mlflow_uri=tracking_uri(config),
        mlflow_run_id=parent.run_id,
    )


def _table(search: Search) -> pa.Table:
    """Returns a row for each trial, with values in JSON, for one setting may have several types."""
    rows = [
        {
            "trial": trial.number,
            "confirms": trial.started.confirms,
            "seed": trial.started.seed,
            "status": trial.status,
            search.metric: trial.value(search.metric),
            "validations": len(trial.validations),
            "seconds": trial.ended.seconds if trial.ended else None,
            "mlflow_run_id": trial.started.mlflow_run_id,
            **{a.path: json.dumps(trial.started.values.get(a.path)) for a in search.axes},
        }
        for trial in search.journal.trials.values()
    ]
    return pa.Table.from_pylist(rows)
