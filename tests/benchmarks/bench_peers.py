"""Training beside other libraries, each in an environment of its own, on one core, taking turns.

python tests/benchmarks/bench_peers.py LOG [--cache build/peers] [--rounds 3] [--steps 220]
    [--target 0.38] [--events 10000000] [--peers NAME ...] [--json FILE]

LOG is movielens-1m in the log layout. Everybody trains on the same examples, which this project
prepares once: ids and single-valued features of 64 columns each, one multi-valued feature, towers
256-128, in-batch softmax of 1,024 examples with logQ correction. `peers/with_*.py` are written as
the users of each library would; `peers/meter.py` measures all of them alike. Each round runs
everybody once, forwards and backwards in turn, in processes of their own; medians are printed, for
movielens-1m and, with --events, a generated log. Then everybody trains until the mean recall@50 of
the validation pairs reaches the target, ranked by the same code with the clocks at rest.

"Lines" are those that a user writes: of code, without the measurement and variants; or of the
configuration.
"""

import argparse
import ast
import hashlib
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rich.console import Console

from feature_store.core.columns import Column, Jagged
from pipelines.datasets.generate import generate
from pipelines.prepared.reader import Prepared
from recsys.config.load import parse_config
from recsys.stages.prepare import prepare

_PEERS_DIR = Path(__file__).with_name("peers")
_DIM, _HIDDEN, _VECTOR, _BATCH = 64, 256, 128, 1024
_TENSORFLOW = ("tensorflow==2.21.0", "tf-keras==2.21.0")
_NUMERIC = ("numpy==1.26.4", "pandas==2.2.3", "scipy==1.13.1", "scikit-learn==1.5.2")
_EPOCHS = 8


@dataclass(frozen=True)
class Peer:
    """A library.

    Attributes:
        script: File of `peers/`; None for one that no arm is written for, as it does not install.
        requirements: Packages that pip installs; none: this environment.
        variants: Names of the rows of the table, and the variant that the script is given.
    """

    script: str | None
    requirements: tuple[str, ...]
    variants: dict[str, str]


PEERS = {
    "recsys": Peer(
        "with_recsys.py",
        (),
        {"recsys": "fp32", "recsys, bf16": "bf16", "recsys, CFM": "cfm"},
    ),
    "pytorch": Peer("with_pytorch.py", (), {"plain PyTorch, DataLoader": ""}),
    "tfrs": Peer(
        "with_tfrs.py",
        (*_TENSORFLOW, "tensorflow-recommenders==0.7.7"),
        {"TensorFlow Recommenders": "", "TensorFlow Recommenders, one item of history": "history"},
    ),
    "libreco": Peer(
        "with_libreco.py",
        (
            *_TENSORFLOW,
            "LibRecommender==1.5.2",
            "torch==2.13.0",
            "pandas==3.1.1",
            "scipy==1.17.1",
            "scikit-learn==1.9.1",
        ),
        {"LibRecommender": "", "LibRecommender, CFM": "cfm"},
    ),
    "recbole": Peer(
        "with_recbole.py",
        ("recbole==1.2.1", "torch==2.13.0", "setuptools==80.9.0", *_NUMERIC),
        {"RecBole DSSM, pairs": ""},
    ),
    "torcheasyrec": Peer(None, ("tzrec",), {"TorchEasyRec": ""}),
}


@dataclass(frozen=True)
class Log:
    """A log, and the features of it that are trained on.

    Attributes:
        directory: Directory of the log.
        query: Single-valued features of the queries.
        item: Single-valued features of the items.
        multi: Multi-valued feature of the items.
    """

    directory: Path
    query: tuple[str, ...]
    item: tuple[str, ...]
    multi: str


def environment(peer: Peer, cache: Path) -> tuple[Path | None, str]:
    """Returns a peer's Python, and installs it first; or None and the reason why there is none."""
    if not peer.requirements:
        return Path(sys.executable), ""
    key = hashlib.sha256("\n".join(peer.requirements).encode()).hexdigest()[:12]
    directory = cache / key
    python = directory / "bin" / "python"
    if not (directory / "installed").exists():
        print(f"installing {' '.join(peer.requirements)}", file=sys.stderr, flush=True)
        venv.create(directory, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", *peer.requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return None, (errors or ["pip failed"])[-1].removeprefix("ERROR: ")
        (directory / "installed").touch()
    if peer.script is None:
        return None, "it installs by now, and nobody has written its arm yet"
    return python, ""


def write_data(log: Log, output: Path) -> Path:
    """Prepares a log, and writes the same examples and features as plain arrays."""
    directory = output / "arrays"
    directory.mkdir(parents=True, exist_ok=True)
    document = configuration(log, output)
    cfm = {**document, "ssl": {"method": "cfm"}}
    bf16 = {**document, "training": {**document["training"], "precision": "bf16"}}
    for name, variant in {"fp32": document, "bf16": bf16, "cfm": cfm}.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(variant, sort_keys=False))
    config = parse_config(document)
    prepare(config, console=Console(quiet=True))
    prepared = Prepared(config.prepared_dir)
    train = [pq.read_table(part, columns=["query", "item"]) for part in prepared.examples("train")]
    pairs = pa.concat_tables(train)
    held = prepared.query_state.validation
    items, queries = prepared.item_columns, prepared.query_columns
    arrays = {
        "train": np.stack([pairs["query"].to_numpy(), pairs["item"].to_numpy()], axis=1),
        "validation": np.stack([held.row_of_value(), held.values], axis=1),
        "query": np.concatenate([padded(queries[name], 1) for name in log.query], axis=1),
        "item": np.concatenate([padded(items[name], 1) for name in log.item], axis=1),
        "multi": padded(items[log.multi], None),
    }
    for name, values in arrays.items():
        np.save(directory / f"{name}.npy", values.astype(np.int32))
    names = {"query": log.query, "item": log.item, "multi": log.multi}
    (directory / "names.json").write_text(json.dumps(names))
    return directory


def padded(column: Column, width: int | None) -> np.ndarray:
    """Fills each row's values up with 0, [rows, width]; a value v becomes v + 1."""
    assert isinstance(column, Jagged)
    wide = int(column.lengths.max()) if width is None else width
    values = np.zeros((len(column), wide), np.int64)
    place = np.arange(len(column.values)) - column.offsets[column.row_of_value()]
    kept = place < wide
    values[column.row_of_value()[kept], place[kept]] = column.values[kept] + 1
    return values


def configuration(log: Log, output: Path) -> dict[str, Any]:
    """Returns the configuration: one item of history, and nothing masked, as the others do."""

    def features(names: tuple[str, ...]) -> list[dict[str, Any]]:
        return [{"name": name, "kind": "categorical", "dim": _DIM} for name in names]

    multi = {"name": log.multi, "kind": "multi_valued", "dim": _DIM}
    return {
        "output": str(output / "run"),
        "executor": "local",
        "data": {
            "events": str(log.directory / "events"),
            "items": str(log.directory / "items.parquet"),
            "queries": str(log.directory / "queries.parquet"),
            "split": {"kind": "random_hash"},
            "history": {"kind": "others", "max_length": 1},
        },
        "features": {
            "item": [{"name": "item_id", "kind": "id", "dim": _DIM}, *features(log.item), multi],
            "query": [{"name": "query_id", "kind": "id", "dim": _DIM}, *features(log.query)],
        },
        "model": {"dim": _VECTOR, "item_tower": [_HIDDEN], "query_tower": [_HIDDEN]},
        "loss": {"masked": "target", "id_dropout": 0.0},
        "ssl": {"method": "none"},
        "training": {"batch_size": _BATCH, "epochs": _EPOCHS},
    }


def measure(
    python: Path, script: str, variant: str, data: Path, scratch: Path, *options: object
) -> dict[str, Any]:
    """Runs a peer once, and returns what its meter wrote."""
    result = scratch / "result.json"
    result.unlink(missing_ok=True)
    command = [python, _PEERS_DIR / script, data, "--result", result, "--variant", variant]
    root = str(_PEERS_DIR.parents[2])
    settings = {
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": root if python == Path(sys.executable) else "",
    }
    done = subprocess.run(
        [str(part) for part in (*command, *options)],
        cwd=scratch,  # RecBole writes where it is run.
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return {"failed": f"exit status {done.returncode}: {last[:300]}"}
    return dict(json.loads(result.read_text()))


def lines_of(peer: Peer, data: Path, variant: str) -> int:
    """Counts the lines that a user writes."""
    if peer.script == "with_recsys.py":
        return len((data / f"{variant}.yaml").read_text().splitlines())
    assert peer.script is not None
    source = (_PEERS_DIR / peer.script).read_text()
    left_out = set()
    for node in ast.walk(ast.parse(source)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_variant = isinstance(node, ast.If) and "given.variant" in ast.unparse(node.test)
        is_vectors = isinstance(node, ast.FunctionDef) and node.name == "vectors"
        if is_text or is_variant or is_vectors:
            left_out.update(range(node.lineno, (node.end_lineno or 0) + 1))
    kept = [
        line
        for number, line in enumerate(source.splitlines(), 1)
        if number not in left_out and line.strip() and not line.strip().startswith("#")
    ]
    return sum("meter" not in line for line in kept)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("build/peers"))
    parser.add_argument("--rounds", type=int, default=3, help="0: the recall alone")
    parser.add_argument("--steps", type=int, default=220, help="steps of each run")
    parser.add_argument("--target", type=float, default=0.38, help="recall@50 to reach; 0: skip")
    parser.add_argument("--every", type=int, default=100, help="steps between two rankings")
    parser.add_argument("--events", type=int, default=0, help="events of the generated log")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    cache = given.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    movies = Log(
        given.log.resolve(),
        ("gender", "age", "occupation", "zip_code"),
        ("release_year",),
        "genres",
    )
    logs = {"movielens-1m": movies}
    if given.events:
        directory = cache / f"log-{given.events}"
        if not directory.exists():
            size = given.events
            generate(directory, events=size, items=size // 100, queries=size // 40, seed=0)
        logs[f"{given.events:,} events"] = Log(directory, ("country", "age"), ("category",), "tags")
    found: dict[str, Any] = {"load before": os.getloadavg()[0]}
    pythons = {name: environment(PEERS[name], cache) for name in given.peers}
    for name, (python, reason) in pythons.items():
        if python is None:
            print(f"{name}: not measured: {reason}")
            found.setdefault("not measured", {})[name] = reason
    for title, log in logs.items():
        data = write_data(log, cache / title.replace(" ", "-"))
        if given.rounds:
            found[title] = turns(pythons, data, cache, given.rounds, ("--steps", given.steps))
            show(title, found[title])
    if given.target:
        data = cache / "movielens-1m" / "arrays"
        steps = _EPOCHS * len(np.load(data / "train.npy")) // _BATCH
        options = ("--steps", steps, "--every", given.every, "--target", given.target)
        found["recall"] = turns(pythons, data, cache, 1, options)
        show(f"to recall@50 {given.target}", found["recall"])
    found["load after"] = os.getloadavg()[0]
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))


def turns(
    pythons: dict[str, tuple[Path | None, str]],
    data: Path,
    scratch: Path,
    rounds: int,
    options: tuple[object, ...],
) -> dict[str, dict[str, Any]]:
    """Runs everybody in turn, and returns the medians of what each measured."""
    arms = [
        (row, PEERS[name], python, variant)
        for name, (python, _) in pythons.items()
        if python is not None
        for row, variant in PEERS[name].variants.items()
    ]
    runs: dict[str, list[dict[str, Any]]] = {row: [] for row, *_ in arms}
    for number in range(rounds):
        for row, peer, python, variant in arms if number % 2 == 0 else arms[::-1]:
            assert peer.script is not None
            done = measure(python, peer.script, variant, data, scratch, *options)
            print(f"{row}: {done}", file=sys.stderr, flush=True)
            runs[row].append(done)
    return {
        row: {**middle(runs[row]), "lines": lines_of(peer, data, variant)}
        for row, peer, _, variant in arms
    }


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the medians of the numbers; what failed once has failed."""
    for run in runs:
        if "failed" in run:
            return run
    numbers = {key for key, value in runs[0].items() if isinstance(value, (int, float))}
    return {
        key: median(run[key] for run in runs) if key in numbers else value
        for key, value in runs[0].items()
    }


_COLUMNS = (
    "examples a CPU second",
    "examples a second",
    "CPU seconds to the recall",
    "seconds to the recall",
    "recall",
    "seconds to the first step",
    "peak MiB",
    "lines",
)


def show(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Prints a table in Markdown."""
    columns = [name for name in _COLUMNS if any(row.get(name) for row in rows.values())]
    print(f"\n| {title} | {' | '.join(columns)} |\n| --- {'| ---: ' * len(columns)}|")
    for name, row in rows.items():
        if "failed" in row:
            print(f"| {name} | failed: {row['failed']} |")
            continue
        cells = [row.get(column) for column in columns]
        print(f"| {name} | {' | '.join(map(_cell, cells))} |", flush=True)


def _cell(value: float | None) -> str:
    if value is None:
        return "not reached"
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3f}" if value < 1 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
