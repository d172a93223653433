"""The `study` command: alternatives compared over label fractions and seeds, and written up."""

import shutil
from typing import Any

from rich.console import Console

from feature_store.core.documents import read_object
from feature_store.core.errors import UserError
from feature_store.core.files import marked_by, require_replaceable, write_json, write_text
from feature_store.core.locks import locked, reading
from feature_store.core.temporary import remove_temporary_files
from feature_store.forgotten import Forgotten
from pipelines.logs.tables import list_files
from pipelines.prepared.reader import Prepared
from pipelines.reports.html import render_page
from pipelines.reports.words import word_for
from pipelines.statistics.slices import SliceBounds
from recsys.config.config import Config
from recsys.config.load import with_values
from recsys.evaluation.selection import Score
from recsys.evaluation.validation import selection_warning
from recsys.mlflow_run import Run
from recsys.stages.prepare import prepare
from recsys.studies.analysis import ArmResult, analyse
from recsys.studies.arms import arms_of, trials_of
from recsys.studies.report import render_markdown, study_page, write_plots
from recsys.studies.result import StudyResult
from recsys.studies.units import Unit, UnitResult, run_units, unit_of
from recsys.tracked import run_name
from recsys.tracking import open_run, start_run, tracking_uri

RESULT, MARKDOWN, PAGE, _RUN = "study.json", "study.md", "study.html", "mlflow.json"
# Folder of the trainings, which tells the directory of a study from others; and a file with the
# list of forgotten ids that they know.
RUNS, _FORGOTTEN = "runs", "forgotten_list.json"
# Each seed is tested without the usual baselines and slices, which one evaluation has already.
_TEST = {
    "evaluation.baselines": ["popularity"],
    "evaluation.slices": [],
    "evaluation.map_items": 0,
}


def study(config: Config, *, console: Console | None = None) -> StudyResult:
    """Tunes each arm on validation with the same number of trials, then tests it once with seeds.

    Every training is done once: a study that was interrupted, or is given more seeds or arms,
    resumes with the finished ones.

    Args:
        config: Configuration, whose section `study` says what is compared.
        console: Console for progress.

    Returns:
        Content of `study.json` in `config.study_dir`, beside `study.md` and `study.html`.

    Raises:
        UserError: An arm does not fit the configuration, or its training fails with every setting.
    """
    console = console or Console()
    arms = arms_of(config)
    require_replaceable(config.study_dir, marked_by(RUNS))
    list_files(config.data)  # Before anything is made, for there may be no log.
    with locked(config.study_dir):
        (config.study_dir / RUNS).mkdir(parents=True, exist_ok=True)
        remove_temporary_files(config.study_dir)
        _discard_forgotten(config)
        bases = {f: _prepared(config, f, console) for f in config.study.label_fractions}
        with reading(*{base.prepared_dir for base in bases.values()}):
            result = _study(config, arms, bases, console)
    console.print(f"study: wrote {config.study_dir}")
    return result


def _study(
    config: Config, arms: dict[str, Any], bases: dict[float, Config], console: Console
) -> StudyResult:
    run = _open_run(config)  # Before the workers, which would all make the store.
    chosen = _tune(config, arms, bases, console)
    tests = _test(config, chosen, bases, console)
    result = _result(config, bases, chosen, tests)
    directory = config.study_dir
    write_plots(directory, result)
    write_text(directory / MARKDOWN, render_markdown(result))
    write_text(directory / PAGE, render_page(study_page(result)))
    write_json(directory / RESULT, result.model_dump(mode="json"))
    for name in (RESULT, MARKDOWN, PAGE):
        run.save(directory / name, "study")
    run.end("FINISHED")
    return result


def _discard_forgotten(config: Config) -> None:
    """Removes trainings from before ids were forgotten: they hold them, and are of other data."""
    path = config.study_dir / _FORGOTTEN
    now = Forgotten.load(config.forgotten_path).fingerprint
    before = read_object(path).get("list") if path.exists() else ""
    if now != before:
        for run in (config.study_dir / RUNS).iterdir():
            shutil.rmtree(run)
        write_json(path, {"list": now})


Chosen = dict[tuple[float, str], tuple[dict[str, Any], Score]]
Tests = dict[tuple[float, str], list[tuple[Unit, UnitResult]]]


def _open_run(config: Config) -> Run:
    """Opens the run of the study; its trainings have runs of their own."""
    path = config.study_dir / _RUN
    if path.exists():
        previous = open_run(config, read_object(path, "mlflow_run_id")["mlflow_run_id"])
        if previous is not None:
            return previous
    run = start_run(
        config, f"{run_name(config)} study", tags={"mlflow.source.name": "recsys study"}
    )
    write_json(path, {"mlflow_run_id": run.run_id})
    return run


def _prepared(config: Config, fraction: float, console: Console) -> Config:
    """Prepares the data of a fraction and returns its configuration."""
    values: dict[str, Any] = {
        "data.label_fraction": fraction,
        "tracking.uri": tracking_uri(config),
    }
    if fraction != config.data.label_fraction:
        values["output"] = str((config.study_dir / f"labels-{fraction:g}").resolve())
    base = with_values(config, values, source="study.label_fractions")
    if base.forgotten_path != config.forgotten_path and config.forgotten_path.exists():
        Forgotten.load(config.forgotten_path).save(base.forgotten_path)
    prepare(base, console=console)
    warning = selection_warning(Prepared(base.prepared_dir), base.evaluation.select_by)
    if warning is not None:
        _say(console, warning)
    return base


def _tune(
    config: Config, arms: dict[str, Any], bases: dict[float, Config], console: Console
) -> Chosen:
    """Returns for each fraction and arm the best settings and their validation score."""
    keys, units, values = [], [], []
    for fraction, base in bases.items():
        for name, arm in arms.items():
            for trial in trials_of(config, name, arm, config.study.trials):
                keys.append((fraction, name))
                values.append(trial)
                title = f"{name} with {100 * fraction:g}% of labels, trial"
                units.append(_unit(config, base, title, trial, seed=0, is_tested=False))
    console.print(f"study: {len(units)} trials of {len(arms)} arms, by validation")
    results = run_units(units, config.study.concurrent, lambda t: _say(console, t))
    chosen: Chosen = {}
    for key, trial, result in zip(keys, values, results, strict=True):
        if result.validation is None:
            continue
        score = Score(result.validation, result.finer)
        if key not in chosen or score > chosen[key][1]:
            chosen[key] = trial, score
    for fraction, name in keys:
        if (fraction, name) not in chosen:
            at = keys.index((fraction, name))
            raise UserError(f"study: no setting of {name} trained to the end: {results[at].error}")
    return chosen


def _test(config: Config, chosen: Chosen, bases: dict[float, Config], console: Console) -> Tests:
    keys, units = [], []
    for (fraction, name), (values, _) in chosen.items():
        for seed in range(1, config.study.seeds + 1):  # Tuning has seen seed 0.
            keys.append((fraction, name))
            title = f"{name} with {100 * fraction:g}% of labels, seed {seed}"
            base = bases[fraction]
            units.append(_unit(config, base, title, values, seed=seed, is_tested=True))
    console.print(f"study: {len(units)} trainings, each tested once")
    results = run_units(units, config.study.concurrent, lambda t: _say(console, t))
    tests: Tests = {}
    for key, unit, result in zip(keys, units, results, strict=True):
        if result.error is not None:
            raise UserError(f"study: {unit.name}: {result.error}")
        tests.setdefault(key, []).append((unit, result))
    return tests


def _unit(
    config: Config, base: Config, title: str, values: dict[str, Any], **settings: Any
) -> Unit:
    runs = config.study_dir / RUNS
    return unit_of(base, base.prepared_dir, runs, title, values, evaluation=_TEST, **settings)


def _say(console: Console, text: str) -> None:
    console.print(f"study: {text}", markup=False, highlight=False, soft_wrap=True)


def _result(
    config: Config, bases: dict[float, Config], chosen: Chosen, tests: Tests
) -> StudyResult:
    arms: list[ArmResult] = []
    counts: dict[str, int] = {}
    for fraction, base in bases.items():
        prepared = Prepared(base.prepared_dir)
        data, bounds = prepared.manifest.counts, SliceBounds.of(prepared.item_frequency)
        counts |= {"items": data.items, "queries": data.queries}
        counts[f"training events with {100 * fraction:g}% of labels"] = data.train
        tested = {name: each for (f, name), each in tests.items() if f == fraction}
        paths = {name: [unit.per_query for unit, _ in each] for name, each in tested.items()}
        cells, pairs = analyse(paths, config.study.baseline)
        for name, each in tested.items():
            values, score = chosen[fraction, name]
            arms.append(
                ArmResult(
                    arm=name,
                    label_fraction=fraction,
                    values=values,
                    validation=score.value,
                    seconds=sum(result.seconds for _, result in each) / len(each),
                    pairs=pairs,
                    cells=cells[name],
                    slice_bounds=bounds,
                )
            )
    return StudyResult(
        name=config.tracking.experiment,
        query=word_for(config.data, config.features),
        baseline=config.study.baseline,
        metric=config.evaluation.select_by,
        trials=config.study.trials,
        seeds=config.study.seeds,
        counts=counts,
        arms=tuple(arms),
    )
