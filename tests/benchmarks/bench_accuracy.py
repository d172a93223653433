"""Test metrics of a configuration over several seeds, beside those of the baselines.

python tests/benchmarks/bench_accuracy.py CONFIG [--seeds 3] [--set KEY=VALUE ...] [--json FILE]

CONFIG is a configuration as `recsys init` writes it. The data are prepared once; then each seed is
trained in this process, its best checkpoint by the validation metric is evaluated on the test
split, and the mean over the seeds is printed with the lowest and the highest, beside the means of
the towers alone, the channels and the baselines. Below are the methods that are significantly
better than the model, and with how many seeds. `--evaluated DIR ...` reads finished evaluations of
several seeds instead.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

import recsys
from feature_store.core.documents import read_record
from recsys.config.config import Config
from recsys.config.load import load_config, with_values
from recsys.evaluation.metrics import Measured, metric_names
from recsys.evaluation.results import METRICS_JSON, EvaluationResult

_SLICES = ("head", "torso", "tail", "cold")
_IN_PROCESS = {"training.ray": None}


def measure(config: Config, seed: int) -> EvaluationResult:
    """Trains one seed and ranks the test split."""
    seeded = with_values(config, {"training.seed": seed}, source="--seeds")
    recsys.train(seeded)
    return recsys.evaluate(seeded)


def rows_of(results: Sequence[Measured]) -> dict[str, list[float]]:
    """Returns the values of each metric, one per result; drops metrics that a result lacks."""
    found: dict[str, list[Any]] = {}
    for metric in metric_names():
        found[metric] = [result.overall[metric] for result in results]
    for name in _SLICES:
        pairs = results[0].slices[name]["count"]
        found[f"{name} recall@50 ({pairs:,} pairs)"] = [
            result.slices[name]["recall@50"] for result in results
        ]
    return {name: values for name, values in found.items() if None not in values}


def show(results: Sequence[EvaluationResult]) -> None:
    """Prints the model's figures and the baselines'."""
    names = list(results[0].baselines)
    others = {name: rows_of([each.baselines[name] for each in results]) for name in names}
    table = Table("", "mean", "lowest", "highest", *names)
    for metric, values in rows_of(results).items():
        cells = [mean(values), min(values), max(values)]
        cells += [mean(others[name][metric]) for name in names]
        table.add_row(metric, *(f"{cell:.4f}" for cell in cells))
    console = Console(width=200)
    console.print(table)
    seeds: dict[tuple[str, str, str], int] = {}
    for rival in (rival for result in results for rival in result.rivals):
        key = (rival.method, rival.group, rival.metric)
        seeds[key] = seeds.get(key, 0) + 1
    for (method, group, metric), count in seeds.items():
        console.print(
            f"{method} is better in {group} {metric} with {count} of {len(results)} seeds"
        )
    if not seeds:
        console.print("no method is significantly better than the model in any slice")


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, nargs="?")
    parser.add_argument("--evaluated", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if (arguments.config is None) == (arguments.evaluated is None):
        parser.error("expected either CONFIG or --evaluated DIR ...")
    if arguments.evaluated:
        paths = [directory / "evaluation" / METRICS_JSON for directory in arguments.evaluated]
        results = [read_record(path, EvaluationResult) for path in paths]
    else:
        config = load_config(arguments.config, arguments.set)
        config = with_values(config, _IN_PROCESS, source="the benchmark")
        recsys.prepare(config)
        results = [measure(config, seed) for seed in range(arguments.seeds)]
    show(results)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows_of(results), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
