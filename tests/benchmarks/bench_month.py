"""A simulated month of the nightly job: ways to go on, their quality and their cost, day by day.

python tests/benchmarks/bench_month.py OUTPUT [--days 30] [--arms NAME ...]

Each day a partition is written (`tests/support/nightly/month.py`), and every arm does its work by
`recsys run --as-of`, below OUTPUT/runs; an arm differs from the others in `training` alone. What is
served at the end of the day is then asked for the events of the next day: recall@10 of those whose
query did not have the item yet. An unknown query is answered by popularity, as when serving. Events
that might have happened on earlier days, but did not, tell what was forgotten. Cost is the
processor time of the job alone. OUTPUT gets month.json (each day of each arm), and plots as SVG.

An interrupted month goes on where it was.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

import serving
from feature_store.core.documents import read_json
from feature_store.core.files import write_json, write_text
from pipelines.process import quiet_engines
from pipelines.reports.html import svg_file
from pipelines.reports.parts import Chart
from pipelines.reports.plots import Axis, Bars, Graph, Mark, Series
from recsys.config.config import Config
from recsys.config.load import parse_config
from recsys.sqlite_store import make_ready
from serving.nightly.job import run_day
from serving.recommend.recommender import Recommender
from tests.support.nightly.month import FIRST, Month

CUTOFF = 10
PROBES = 400
# Age of the events that are asked for again, in days.
OLD = 7
# Days that a point of the plots is the mean of.
SMOOTHED = 5

INFINITE = {"kind": "infinite", "warmup": 10, "cooldown_steps": 100, "anneal_fraction": 0.2}
SCHEDULES: dict[str, dict[str, Any]] = {
    "cosine": {"kind": "cosine", "warmup": 0.1},
    "constant": {"kind": "constant"},
    "infinite": INFINITE,
}
REPLAY = 0.5

Row = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """A way to train every day.

    Attributes:
        name: Name in tables and plots.
        training: Keys of the section.
        every: Days between two trainings.
    """

    name: str
    training: dict[str, Any]
    every: int = 1


ARMS = (
    Arm("scratch daily", {}),
    Arm("scratch weekly", {}, 7),
    *(
        Arm(
            f"{name}, {'replay' if replay else 'new only'}",
            {"start": "previous", "replay": replay, "schedule": schedule},
        )
        for replay in (0.0, REPLAY)
        for name, schedule in SCHEDULES.items()
    ),
)


def config_of(arm: Arm, output: Path) -> Config:
    """Returns the configuration of an arm."""
    document: dict[str, Any] = {
        "output": str(output / "runs" / arm.name.replace(", ", "-").replace(" ", "-")),
        "executor": "local",
        "data": {
            "events": str(output / "events"),
            "items": str(output / "items.parquet"),
            "split": {"kind": "time", "validation": "2d", "test": "2d"},
            "history": {"max_length": 10},
        },
        "features": {
            "item": [
                {"name": "item_id", "kind": "id", "dim": 32},
                {"name": "category", "kind": "categorical", "dim": 16},
            ],
            "query": [],
        },
        "model": {
            "dim": 32,
            "item_tower": [64],
            "query_tower": [64],
            "residual": True,
            "history": [{"kind": "mean"}, {"kind": "last"}],
            "dropout": 0.3,
        },
        "loss": {"candidates": {"kind": "mixed"}, "id_dropout": 0.1},
        "ssl": {"method": "none"},
        "training": {
            "epochs": 6,
            "patience": 2,
            "batch_size": 256,
            "sparse_learning_rate": 0.2,
            "averaging": 2.0,
            **arm.training,
        },
        "ranking": {"channels": []},
        "evaluation": {"select_by": "ndcg@10", "baselines": ["popularity"]},
        "job": {"retention": 2},
    }
    return parse_config(document)


class Log:
    """The pairs of query and item that were written so far, which are no news any more."""

    def __init__(self) -> None:
        self._had: set[tuple[str, str]] = set()

    def add(self, events: pa.Table) -> None:
        """Adds the events of a day."""
        self._had |= set(_pairs(events))

    def news(self, events: pa.Table) -> list[tuple[str, str]]:
        """Returns the pairs of events whose query did not have the item."""
        return sorted(set(_pairs(events)) - self._had)


def _pairs(events: pa.Table) -> Iterator[tuple[str, str]]:
    columns = (events[name].to_pylist() for name in ("query_id", "item_id"))
    return zip(*columns, strict=True)


def recall(served: Recommender, pairs: Sequence[tuple[str, str]]) -> float:
    """Returns the part of the pairs whose item is among the first of the query."""
    queries = sorted({query for query, _ in pairs})
    answer = served.recommend_batch(queries, CUTOFF)
    hits = set(_pairs(answer))
    return sum(pair in hits for pair in pairs) / len(pairs)


def run_month(output: Path, days: int, arms: Sequence[Arm], console: Console) -> list[Row]:
    """Runs the days that are not done yet, and returns a row for each day of each arm."""
    month, log, path = Month(days), Log(), output / "month.json"
    rows: list[Row] = read_json(path) if path.is_file() else []
    done = {(row["arm"], row["day"]) for row in rows}
    for day in range(1, days + 1):
        is_done = all((arm.name, day) in done for arm in arms)
        month.write(day, output / "events", output / "items.parquet")
        if day not in month.bad:
            log.add(month.events(day))
        if day < FIRST or is_done:
            continue
        tomorrow = log.news(month.events(day + 1))
        old = log.news(month.events(max(1, day - OLD), PROBES, draw=1))
        for arm in arms:
            if (arm.name, day) not in done:
                row = _run_day(arm, month, day, output, rows)
                served = serving.load(_served(arm, output))
                row |= {"recall": recall(served, tomorrow), "old": recall(served, old)}
                rows.append(row)
                write_json(path, rows)
        console.print(f"day {day} of {days}", highlight=False)
    return rows


def _served(arm: Arm, output: Path) -> Path:
    return Path(config_of(arm, output).output) / "latest" / "bundle"


def _run_day(arm: Arm, month: Month, day: int, output: Path, rows: Sequence[Row]) -> Row:
    """Does the work of a day, if it is due, and returns what it did and what is served then."""
    config = config_of(arm, output)
    row: Row = {"arm": arm.name, "day": day, "outcome": "not due", "reason": "", "cpu": 0.0}
    finished = [each for each in rows if each["arm"] == arm.name and each["is_final"]]
    if not finished or day - finished[-1]["day"] >= arm.every:
        Path(config.output).mkdir(parents=True, exist_ok=True)
        if not (Path(config.output) / "mlflow.db").exists():
            shutil.copy(output / "new.db", Path(config.output) / "mlflow.db")
        started, clock = time.process_time(), time.monotonic()
        with (Path(config.output) / "log.txt").open("a") as said:
            outcome = run_day(config, month.end(day), console=Console(file=said, width=200))
        row["cpu"] = round(time.process_time() - started, 2)
        row["seconds"] = round(time.monotonic() - clock, 2)
        told = ("outcome", "reason", "started_from", "events", "value", "champion_value")
        row |= {name: getattr(outcome, name) for name in told}
    row["is_final"] = row["outcome"] in ("promoted", "kept")
    served = datetime.fromisoformat(os.readlink(_served(arm, output).parent))
    row["stale"] = (month.end(day).replace(tzinfo=None) - served).days
    return row


def forgetting(output: Path, days: int, arms: Sequence[Arm]) -> list[Row]:
    """Returns the recall of the last served models on events of each day that did not happen."""
    month, log = Month(days), Log()
    for day in range(1, days + 1):
        if day not in month.bad:
            log.add(month.events(day))
    served = {arm.name: serving.load(_served(arm, output)) for arm in arms}
    probes = {day: log.news(month.events(day, PROBES, draw=2)) for day in range(1, days + 1)}
    return [
        {"arm": name, "day": day, "recall": recall(each, probes[day])}
        for name, each in served.items()
        for day in probes
    ]


def show(rows: Sequence[Row], forgot: Sequence[Row], days: int, console: Console) -> None:
    """Prints a table of the arms, and what the bad days did."""
    titles = ["next day", "to the first arm", f"{OLD} days old", "first third, at the end"]
    titles += ["CPU s a day", "last 5 days", "stale days", "longest", "promoted", "kept", "refused"]
    table = Table("", *titles)
    names = list(dict.fromkeys(row["arm"] for row in rows))
    first_arm = [row["recall"] for row in rows if row["arm"] == names[0]]
    for name in names:
        own = [row for row in rows if row["arm"] == name]
        found = [row["recall"] for row in own]
        gained = [now - then for now, then in zip(found, first_arm, strict=True)]
        first = [f["recall"] for f in forgot if f["arm"] == name and f["day"] <= days / 3]
        outcomes = [row["outcome"] for row in own]
        table.add_row(
            name,
            f"{mean(found):.3f}",
            f"{mean(gained):+.3f} ± {2 * stdev(gained) / len(gained) ** 0.5:.3f}",
            f"{mean(row['old'] for row in own):.3f}",
            f"{mean(first):.3f}",
            f"{mean(row['cpu'] for row in own):.1f}",
            f"{mean(row['cpu'] for row in own[-5:]):.1f}",
            f"{mean(row['stale'] for row in own):.1f}",
            str(max(row["stale"] for row in own)),
            *(str(outcomes.count(kind)) for kind in ("promoted", "kept", "refused")),
        )
    console.print(table)
    for day, kind in Month(days).bad.items():
        of_day = [row for row in rows if row["day"] == day and row["outcome"] != "not due"]
        outcomes = sorted({row["outcome"] for row in of_day})
        reasons = sorted({row["reason"] for row in of_day})
        console.print(f"day {day}, {kind}: {', '.join(outcomes)}: {reasons[0] if reasons else ''}")


def charts(rows: Sequence[Row], forgot: Sequence[Row], days: int) -> dict[str, Chart]:
    """Returns the plots by the names of their files."""
    bad = [Mark("x", day, kind) for day, kind in Month(days).bad.items()]
    names = list(dict.fromkeys(row["arm"] for row in rows))

    def quality(of: Sequence[str], title: str, key: str = "recall") -> Chart:
        series = [
            Series(name, _smoothed([(r["day"], r[key]) for r in rows if r["arm"] == name]))
            for name in of
        ]
        summary = f"Recall@{CUTOFF} of what is served, mean of {SMOOTHED} days."
        return Chart(title, summary, Graph(series, Axis("day"), Axis("recall@10"), bad, 240))

    scratch = [name for name in names if name.startswith("scratch")]
    replayed = [name for name in names if name.endswith("replay")]
    new_only = [name for name in names if name.endswith("new only")]
    of_end = [
        Series(name, _smoothed([(f["day"], f["recall"]) for f in forgot if f["arm"] == name]))
        for name in names
    ]
    cost = [mean(row["cpu"] for row in rows if row["arm"] == name) for name in names]
    return {
        "month-replay": quality([*scratch, *replayed], "The next day, with replay"),
        "month-new-only": quality([*scratch, *new_only], "The next day, without replay"),
        "month-week-ago": quality(names, f"Events as of {OLD} days before", "old"),
        "month-forgetting": Chart(
            "Earlier days, at the end of the month",
            f"Recall@{CUTOFF} of the last served model, of events as on each day.",
            Graph(of_end, Axis("day"), Axis("recall@10"), (), 240),
        ),
        "month-cost": Chart(
            "Cost of a day",
            "Processor time of the job, mean of all days.",
            Bars(names, {"": cost}, "CPU seconds a day", ".1f"),
        ),
    }


def _smoothed(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Returns the mean of the days around each one."""
    x, y = (np.array(column, float) for column in zip(*points, strict=True))
    kernel = np.ones(SMOOTHED)
    weight = np.convolve(np.ones(len(y)), kernel, "same")
    smooth = np.convolve(y, kernel, "same") / weight
    return [(float(day), float(value)) for day, value in zip(x, smooth, strict=True)]


def main() -> None:
    """Reads the command line, runs the month, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--arms", nargs="+", default=[arm.name for arm in ARMS])
    arguments = parser.parse_args()
    output: Path = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    arms = [arm for arm in ARMS if arm.name in arguments.arms]
    console = Console(width=200)
    quiet_engines()
    if not (output / "new.db").exists():
        make_ready(output / "new.db")
    rows = run_month(output, arguments.days, arms, console)
    forgot = forgetting(output, arguments.days, arms)
    write_json(output / "forgetting.json", forgot)
    show(rows, forgot, arguments.days, console)
    for name, chart in charts(rows, forgot, arguments.days).items():
        write_text(output / f"{name}.svg", svg_file(chart))
    console.print(json.dumps({"output": str(output)}))


if __name__ == "__main__":
    main()
