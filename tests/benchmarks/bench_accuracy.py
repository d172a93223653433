"""Test metrics of a configuration over several seeds, beside those of the baselines.

python tests/benchmarks/bench_accuracy.py CONFIG [--seeds 3] [--set KEY=VALUE ...] [--json FILE]

CONFIG is a configuration as `recsys init` writes it. The data are prepared once; then each seed is
trained in this process, its best checkpoint by the validation metric is evaluated on the test
split, and the mean over the seeds is printed with the lowest and the highest; the baselines do not
depend on a seed.
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
from recsys.config.config import Config
from recsys.config.load import load_config, with_values
from recsys.evaluation.metrics import Measured, metric_names
from recsys.evaluation.results import EvaluationResult

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
    baselines = results[0].baselines
    table = Table("", "mean", "lowest", "highest", *baselines)
    of_baselines = {name: rows_of([measured]) for name, measured in baselines.items()}
    for name, values in rows_of(results).items():
        cells = [mean(values), min(values), max(values)]
        cells += [of_baselines[baseline][name][0] for baseline in baselines]
        table.add_row(name, *(f"{cell:.4f}" for cell in cells))
    Console().print(table)


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    config = with_values(config, _IN_PROCESS, source="the benchmark")
    recsys.prepare(config)
    results = [measure(config, seed) for seed in range(arguments.seeds)]
    show(results)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows_of(results), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
