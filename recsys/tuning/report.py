"""Files of a search to read: the best configuration with its changes, and a page."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.reports import plots
from pipelines.reports.parts import Chart, Page, Part, Row, Section, Table, Text
from pipelines.reports.plots import Bars, Graph, Mark, Series
from recsys.config import yaml_writer
from recsys.config.config import Config
from recsys.config.load import changed_document
from recsys.config.tuning import Choices
from recsys.config.yaml_writer import scalar
from recsys.tuning.journal import Trial
from recsys.tuning.space import Axis, leaves

if TYPE_CHECKING:
    from recsys.tuning.result import TuningResult
    from recsys.tuning.search import Search


def render_best(config: Config, result: "TuningResult") -> str:
    """Returns the configuration with the best settings, as YAML with what was changed.

    Args:
        config: Configuration that the search began with.
        result: Result of the search.
    """
    best = result.best
    document = changed_document(config, best.values)
    document.pop("tuning", None)
    # As the file is in the output, its output is where the file is, also when both are moved.
    document["output"] = os.path.relpath(config.output, config.tuning_dir)
    before = leaves(config)
    whys = {
        path: f"tuned; {scalar(before[path])} before" if path in before else "tuned"
        for path, value in best.values.items()
        if before.get(path) != value
    }
    entries: list[yaml_writer.Entry] = [
        yaml_writer.Note(
            f"By `recsys tune`: validation {result.metric} {best.mean:.4f}, the mean of "
            f"{1 + len(best.confirmed)} seeds; trial {best.trial} of "
            f"{sum(result.trials.values())}, MLflow run {best.mlflow_run_id}."
        ),
        *_entries(document, "", whys),
    ]
    return yaml_writer.render(entries)


def _entries(
    document: dict[str, Any], prefix: str, whys: dict[str, str]
) -> list[yaml_writer.Entry]:
    entries: list[yaml_writer.Entry] = []
    for key, value in document.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            entries.append(yaml_writer.Section(key, _entries(value, f"{path}.", whys)))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            entries.append(yaml_writer.Section(key, [yaml_writer.Row(row) for row in value]))
        else:
            entries.append(yaml_writer.Setting(key, value, whys.get(path, "")))
    return entries


def tuning_page(search: "Search", result: "TuningResult") -> Page:
    """Returns the page of a search.

    Args:
        search: Search with all its trials.
        result: Result of the search.
    """
    trials = search.journal.searched
    counts = ", ".join(f"{count} {status}" for status, count in result.trials.items())
    return Page(
        title="Search for better settings",
        lead=f"{len(trials)} trials by validation {result.metric} ({counts}); MLflow run "
        f"{result.mlflow_run_id}",
        sections=[
            Section("best", "Best settings", _best(search.config, result)),
            Section("importance", "What matters", [_importance(result)]),
            Section("settings", "Each setting", _settings(search, trials)),
            Section("curves", "Validation of all trials", [_curves(search, trials)]),
            Section("trials", "Trials", [_trials(search, trials)]),
        ],
    )


def _best(config: Config, result: "TuningResult") -> list[Part]:
    before, best = leaves(config), result.best
    verdict = f"{result.metric} on the validation split: {best.mean:.4f}"
    if all(before.get(path) == value for path, value in best.values.items()):
        verdict = f"No trial is better than the configuration as it was: {verdict}"
    elif result.own_value is not None:
        verdict += f"; the configuration as it was: {result.own_value:.4f}"
    rows = [[path, _shown(before.get(path)), _shown(value)] for path, value in best.values.items()]
    return [
        Text(f"{verdict}.", "strong"),
        Table("Best settings", ["Setting", "Before", "Best"], rows),
        _candidates(result),
    ]


def _candidates(result: "TuningResult") -> Table:
    seeds = max(len(candidate.confirmed) for candidate in result.candidates)
    rows = [
        Row(
            [
                f"trial {candidate.trial}",
                f"{candidate.value:.4f}",
                *(f"{value:.4f}" for value in candidate.confirmed),
                *["-"] * (seeds - len(candidate.confirmed)),
                f"{candidate.mean:.4f}",
            ],
            is_strong=candidate == result.best,
        )
        for candidate in result.candidates
    ]
    note = (
        "The first of many noisy values is partly luck: its figure in the search is too high. So "
        "the best are trained anew with further seeds, and the mean decides. The test split is not "
        "looked at."
        if seeds
        else "The best of many noisy values is partly luck: its figure is too high. "
        "tuning.confirm_seeds trains the best anew with further seeds."
    )
    columns = ["Settings", "In the search", *(f"Seed +{at + 1}" for at in range(seeds)), "Mean"]
    return Table("Candidates", columns, rows, note)


def _importance(result: "TuningResult") -> Part:
    if not result.importance:
        return Text("There are too few trials to tell what matters.")
    return Chart(
        "Share of the variation that a setting explains",
        "Over all trials, each setting by itself (fANOVA, Hutter et al. 2014); trials that were "
        "stopped count with what they had reached. Search the settings at the top more finely, "
        "and leave those at the bottom alone.",
        Bars(
            list(result.importance),
            {"share": list(result.importance.values())},
            "share",
            spec=".2f",
        ),
        is_wide=True,
    )


def _settings(search: "Search", trials: Sequence[Trial]) -> list[Part]:
    charts = [chart for axis in search.axes if (chart := _setting(search, axis, trials))]
    note = (
        f"Each trial's {search.metric} over the setting's value. The dashed line is the best trial "
        "of the search. Where the best trials crowd at an end of a range, make it wider."
    )
    return [Text(note), *charts]


def _setting(search: "Search", axis: Axis, trials: Sequence[Trial]) -> Chart | None:
    known = [
        (trial, value)
        for trial in trials
        if axis.path in trial.started.values and (value := trial.value(search.metric)) is not None
    ]
    if not known:
        return None
    series = []
    for name, is_finished in (("finished", True), ("stopped early", False)):
        kept = [(t, v) for t, v in known if (t.status == "finished") == is_finished]
        points = [(_position(axis, trial.started.values[axis.path]), v) for trial, v in kept]
        labels = [
            f"trial {trial.number}: {_shown(trial.started.values[axis.path])}, {value:.4f}"
            for trial, value in kept
        ]
        series.append(Series(name, points, "points", labels))
    best, value = max(known, key=lambda pair: _order(search, pair[0]))
    setting = best.started.values[axis.path]
    mark = Mark("x", _position(axis, setting), f"trial {best.number}")
    return Chart(
        axis.path,
        f"{len(known)} trials; the best, {value:.4f}, with {_shown(setting)}",
        Graph(series, _axis_of(axis), plots.Axis(search.metric), [mark]),
    )


def _curves(search: "Search", trials: Sequence[Trial]) -> Part:
    curves = [(trial, trial.values_of(search.metric)) for trial in trials if trial.validations]
    if not curves:
        return Text("No trial was validated.")
    best = search.best_trials()
    number = best[0].number if best else None
    longest = max(len(values) for _, values in curves)
    # The best trial comes first, for the first series has the strongest colour.
    series = [
        Series(
            f"trial {trial.number}",
            [(float(at), value) for at, value in enumerate(values, start=1)],
            is_faint=trial.number != number,
        )
        for trial, values in sorted(curves, key=lambda pair: pair[0].number != number)
    ]
    return Chart(
        f"{search.metric} over validations",
        f"The best so far of {len(curves)} trials over {longest} validations; strong: the best "
        "trial. Curves that still rise at the end ask for more epochs.",
        Graph(
            series,
            plots.Axis("validation", bounds=(1.0, float(max(2, longest))), spec=",.0f"),
            plots.Axis(search.metric),
        ),
        is_wide=True,
    )


def _trials(search: "Search", trials: Sequence[Trial]) -> Table:
    rows = []
    for trial in sorted(trials, key=lambda trial: _order(search, trial), reverse=True):
        value = trial.value(search.metric)
        error = trial.ended.error if trial.ended else None
        rows.append(
            [
                str(trial.number),
                trial.status + (f": {error}" if error else ""),
                "-" if value is None else f"{value:.4f}",
                str(len(trial.validations)),
                *(_shown(trial.started.values.get(axis.path)) for axis in search.axes),
            ]
        )
    columns = ["Trial", "Status", search.metric, "Validations", *(a.path for a in search.axes)]
    return Table("Trials", columns, rows, "The best first.", texts=2)


def _order(search: "Search", trial: Trial) -> tuple[float, float, int]:
    """Returns the key of a trial's place: the higher, the better."""
    value, finer = trial.score(search.metric) or (-1.0, 0.0)
    return value, finer, -trial.number


def _axis_of(axis: Axis) -> plots.Axis:
    dimension = axis.dimension
    if isinstance(dimension, Choices):
        return plots.Axis(categories=[scalar(choice) for choice in dimension.choices])
    return plots.Axis(
        "log" if dimension.log else "",
        scale="log" if dimension.log else "linear",
        bounds=(dimension.low, dimension.high),
    )


def _position(axis: Axis, value: Any) -> float:
    """Returns a value, or the position of a choice."""
    dimension = axis.dimension
    return (
        float(list(dimension.choices).index(value))
        if isinstance(dimension, Choices)
        else float(value)
    )


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else json.dumps(value)
