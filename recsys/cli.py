"""The command line: each command parses, calls one public function and prints.

The only file that imports from every folder. It imports inside the commands, for the engines take
seconds, which `recsys --help` and a mistyped path need not wait for. Progress goes to standard
error, results to standard output.
"""

import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from feature_store.core.errors import UserError
from feature_store.core.settings import EVENTS, LARGE, MANY, ROWS
from pipelines.process import sleep_while_waiting
from recsys.arguments import CheckedCommands
from recsys.console import Wait, never_silent, one_line, print_json, progress
from recsys.disk_faults import disk_fault
from serving.commands import app as serving_app
from serving.operations import app as operations_app

if TYPE_CHECKING:
    from recsys.config.config import Config

app = typer.Typer(
    cls=CheckedCommands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trains and serves large-scale two-tower recommenders from Parquet logs.",
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"recsys {version('recsys')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


ConfigPath = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="Configuration, such as `recsys init` writes.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Value in place of the file's, such as training.epochs=3; repeatable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_AS_OF = "UTC time after which events do not count, and from which split.kind time counts back"
_FOUND = "in place of the column that is found."
AsOf = Annotated[datetime | None, typer.Option(help=f"{_AS_OF}.", metavar="DATE")]


def _read(path: Path, overrides: Sequence[str] | None) -> "Config":
    """Reads a configuration; commands do so before they import a stage, which may take seconds."""
    from recsys.config.load import load_config

    return load_config(path, overrides or ())


@app.command(rich_help_panel="Data")
def fetch(
    name: Annotated[str, typer.Argument(help="Name of the data set, such as movielens-100k.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to create.")],
    wait: Wait = False,
) -> None:
    """Download a public data set into the log layout."""
    from pipelines.datasets.fetch import fetch as fetch_data

    fetch_data(name, output, progress().print)


@app.command(rich_help_panel="Data")
def generate(
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to create.")],
    events: Annotated[int, typer.Option(help="Number of events.", min=1, max=EVENTS)],
    items: Annotated[int, typer.Option(help="Number of items.", min=1, max=ROWS)],
    queries: Annotated[
        int, typer.Option(help="Number of distinct queries (users).", min=1, max=ROWS)
    ],
    seed: Annotated[int, typer.Option(help="Random seed.", min=0, max=2**63 - 1)] = 0,
    by_date: Annotated[
        bool,
        typer.Option("--by-date", help="Write a directory for each day: events/date=YYYY-MM-DD/."),
    ] = False,
    wait: Wait = False,
) -> None:
    """Write a synthetic log of any size, for benchmarks and trials."""
    from pipelines.datasets.generate import generate as generate_log

    generate_log(
        output,
        events=events,
        items=items,
        queries=queries,
        seed=seed,
        by_date=by_date,
        progress=progress().print,
    )


@app.command(rich_help_panel="Data")
def init(
    events: Annotated[
        str, typer.Option(help="Log of events: Parquet file, directory, glob or URL.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="YAML file to write.")],
    items: Annotated[str | None, typer.Option(help="Items and their features.")] = None,
    queries: Annotated[str | None, typer.Option(help="Queries and their features.")] = None,
    split: Annotated[
        Literal["leave_last_out", "random_hash", "time"] | None,
        typer.Option(help="Split in place of the one that the log suggests."),
    ] = None,
    query_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help=f"Query (user) ids of the events {_FOUND}"),
    ] = None,
    item_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help=f"Item ids of the events {_FOUND}")
    ] = None,
    timestamp: Annotated[
        str | None,
        typer.Option(
            "--timestamp-column",
            "--timestamp",
            metavar="COLUMN",
            help=f"Times of the events {_FOUND}",
        ),
    ] = None,
    timestamp_unit: Annotated[
        str | None,
        typer.Option(
            metavar="UNIT", help="Meaning of the times, such as ms or dmy; see docs/data.md."
        ),
    ] = None,
    queries_id: Annotated[
        str | None, typer.Option(metavar="COLUMN", help=f"Ids of the table --queries {_FOUND}")
    ] = None,
    items_id: Annotated[
        str | None, typer.Option(metavar="COLUMN", help=f"Ids of the table --items {_FOUND}")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Profile a log and write a configuration that fits it, with the reason for each choice."""
    from recsys.autoconfig.init import init_config

    config = init_config(
        events,
        items,
        queries,
        output,
        split=split,
        query_column=query_column,
        item_column=item_column,
        timestamp=timestamp,
        timestamp_unit=timestamp_unit,
        queries_id=queries_id,
        items_id=items_id,
        overwrite=overwrite,
        console=progress(),
    )
    progress().print(
        f"init: wrote {output}: split {config.data.split.kind}, repeats {config.data.repeats}, "
        f"{len(config.features.item)} item and {len(config.features.query)} query features, ssl "
        f"{config.ssl.method}",
        soft_wrap=True,
    )
    print(f"next: recsys run {output}")


@app.command("config", rich_help_panel="Data")
def explain_config(
    key: Annotated[
        str | None,
        typer.Argument(metavar="[KEY]", help="Key or section; without it, all sections."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print all keys, as docs/configuration.md.")
    ] = False,
) -> None:
    """Explain a key of the configuration: its meaning, values and default, with an example."""
    from recsys.config.explain import explain, page

    print(page() if markdown else explain(key), end="" if markdown else "\n")


@app.command(rich_help_panel="Data")
def prepare(
    config: ConfigPath,
    overrides: Overrides = None,
    as_of: AsOf = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Turn logs into examples, item and query tables, vocabularies and statistics."""
    loaded = _read(config, overrides)
    from recsys.stages.prepare import prepare as prepare_stage

    manifest = prepare_stage(loaded, as_of=as_of, console=progress())
    if as_json:
        print_json(manifest.model_dump(mode="json"))


@app.command(rich_help_panel="Data")
def forget(
    config: ConfigPath,
    query_id: Annotated[
        list[str] | None, typer.Option("--query-id", help="Query id to forget; repeatable.")
    ] = None,
    item_id: Annotated[
        list[str] | None, typer.Option("--item-id", help="Item id to forget; repeatable.")
    ] = None,
    everywhere: Annotated[
        bool,
        typer.Option(
            "--everywhere",
            help="Remove them from the log, too, train anew, and remove all earlier models.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what --everywhere would do.")
    ] = False,
    overrides: Overrides = None,
    wait: Wait = False,
) -> None:
    """Remove queries or items from all later runs of `prepare`, or from everything at once."""
    if dry_run and not everywhere:
        raise UserError("--dry-run lists what --everywhere would do; give both.")
    loaded = _read(config, overrides)
    if everywhere:
        from serving.forgetting.command import run_everywhere

        run_everywhere(loaded, query_id or (), item_id or (), dry_run=dry_run, console=progress())
        return
    from recsys.stages.forget import doubts, unreached
    from recsys.stages.forget import forget as forget_ids

    added = forget_ids(loaded, query_ids=query_id or (), item_ids=item_id or ())
    print(f"{added} new ids in {loaded.forgotten_path}")
    for sentence in doubts(loaded, query_id or (), item_id or ()):
        print(f"note: {sentence}")
    print(f"next: recsys run {config}")
    for name, directory in (
        ("materialize", loaded.feature_store_dir),
        ("study", loaded.study_dir),
    ):
        if directory.exists():
            print(f"      recsys {name} {config}")
    print("what no command writes anew, and you, or --everywhere, delete if it holds the ids:")
    for place in unreached(loaded):
        print(f"  - {place}")


@app.command(rich_help_panel="Data")
def materialize(
    config: ConfigPath,
    overrides: Overrides = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Load the feature store: snapshots, and the latest features for serving."""
    loaded = _read(config, overrides)
    from recsys.stages.materialize import materialize as materialize_stage

    manifest = materialize_stage(loaded, console=progress())
    if as_json:
        print_json(manifest.model_dump(mode="json"))


@app.command(rich_help_panel="Train")
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Train to the best checkpoint, tracked in MLflow; resumes after a kill."""
    loaded = _read(config, overrides)
    from recsys.stages.train import train as train_stage

    manifest = train_stage(loaded, console=progress())
    if as_json:
        print_json(manifest.model_dump(mode="json"))


@app.command(rich_help_panel="Train")
def doctor(config: ConfigPath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check whether the trained model can be continued under a changed configuration."""
    loaded = _read(config, overrides)
    from recsys.checkpoint.doctor import diagnose, print_diagnosis

    found = diagnose(loaded)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_diagnosis(found, Console())
    if found.verdict == "impossible":
        sys.exit(1)


@app.command(rich_help_panel="Train")
def fuse(
    config: ConfigPath,
    overrides: Overrides = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Fit retrieval channels and find their weights beside the model's; evaluate does it, too."""
    loaded = _read(config, overrides)
    from recsys.stages.fuse import fuse as fuse_stage

    manifest = fuse_stage(loaded, console=progress())
    if as_json:
        print_json(manifest.model_dump(mode="json"))


@app.command(rich_help_panel="Train")
def tune(
    config: ConfigPath,
    trials: Annotated[
        int | None,
        typer.Option(help="Number of settings to try; more extend a finished search.", min=1),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Time limit in minutes.")] = None,
    concurrent: Annotated[
        int | None, typer.Option(help="Number of trials at a time.", min=1)
    ] = None,
    overrides: Overrides = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Search for better settings on the validation split; resumable."""
    budget = {"trials": trials, "minutes": minutes, "concurrent": concurrent}
    given = [f"tuning.{key}={value}" for key, value in budget.items() if value is not None]
    loaded = _read(config, [*(overrides or ()), *given])
    from recsys.tuning.tune import tune as tune_stage

    result = tune_stage(loaded, console=progress())
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    print(f"best {result.metric}: {result.best.mean:.4f} of trial {result.best.trial}")
    for path, value in result.best.values.items():
        print(f"  {path}: {json.dumps(value)}")
    print(f"next: recsys run {result.config}")


@app.command(rich_help_panel="Train")
def plan(
    config: ConfigPath,
    world_size: Annotated[int, typer.Option(help="Number of ranks.", min=1, max=MANY)],
    device: Annotated[
        str, typer.Option(help="Device of the ranks: cuda or cpu.", metavar="DEVICE")
    ] = "cuda",
    hbm_gib: Annotated[
        float, typer.Option(help="Memory of each GPU in GiB.", min=0, max=LARGE)
    ] = 80.0,
    ddr_gib: Annotated[
        float, typer.Option(help="Main memory for each rank in GiB.", min=0, max=LARGE)
    ] = 128.0,
    local_world_size: Annotated[
        int | None, typer.Option(help="Number of ranks of a machine; else all, up to 8.", min=1)
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FEATURE=ROWS", help="Rows of a feature's table in the future; repeatable."
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Plan the sharding of tables for hardware that you do not have."""
    loaded = _read(config, overrides)
    from recsys.distributed.hardware_plan import (
        Hardware,
        format_hardware_plan,
        parse_rows,
        plan_hardware,
    )

    hardware = Hardware.of(world_size, local_world_size, device, hbm_gib, ddr_gib)
    found = plan_hardware(loaded, hardware, parse_rows(rows or ()))
    if as_json:
        print_json(found.to_json())
    else:
        print(format_hardware_plan(found))


@app.command(rich_help_panel="Evaluate")
def evaluate(
    config: ConfigPath,
    overrides: Overrides = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Measure exact full-corpus metrics by slice, with intervals and baselines."""
    loaded = _read(config, overrides)
    from recsys.evaluation.results import print_table
    from recsys.stages.evaluate import evaluate as evaluate_stage

    result = evaluate_stage(loaded, console=progress())
    if as_json:
        print((loaded.evaluation_dir / "metrics.json").read_text(encoding="utf-8"), end="")
        return
    print_table(result, Console())
    print(f"report: {loaded.evaluation_dir / 'report.html'}")


@app.command(rich_help_panel="Evaluate")
def compare(
    before: Annotated[
        str,
        typer.Argument(
            metavar="RUN_A", help="Output of an evaluated CONFIG, or id of an MLflow run."
        ),
    ],
    after: Annotated[str, typer.Argument(metavar="RUN_B", help="Run that may replace it.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Directory for the report and JSON.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Metric of the verdict; else recall@50, and recall@10 of a small catalogue."
        ),
    ] = None,
    level: Annotated[float, typer.Option(help="Significance level.", min=0.0, max=1.0)] = 0.05,
    gate: Annotated[
        bool,
        typer.Option("--gate", help="Exit with status 3 unless B is safe to put into use."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Test whether run B is better than run A, in which slices, and how surely."""
    from recsys.comparison.compare import PAGE
    from recsys.comparison.compare import compare as compare_runs

    result = compare_runs(before, after, output, metric=metric, level=level)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        if (bounds := result.slice_bounds[0]) is not None:
            print(bounds.sentence())
        print(result.sentence())
        if output is not None:
            print(f"report: {output / PAGE}")
    if gate and not result.is_safe:
        raise typer.Exit(3)


@app.command(rich_help_panel="Evaluate")
def dashboard(
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="URI of the MLflow store; else MLFLOW_TRACKING_URI, or mlflow.db here."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65_535)] = 8050,
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="MLflow run to write as one file, in place of a server."),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="File of --run.")] = Path(
        "run.html"
    ),
) -> None:
    """Show all runs of an MLflow store in a browser."""
    from recsys.dashboard.app import export as export_run
    from recsys.dashboard.app import serve as serve_dashboard

    if run is None:
        serve_dashboard(tracking_uri, host=host, port=port)
    else:
        export_run(tracking_uri, run, output)
        print(f"wrote {output}")


@app.command(rich_help_panel="Evaluate")
def study(
    config: ConfigPath,
    overrides: Overrides = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Compare objectives, or any arms, over label fractions and seeds; resumable."""
    loaded = _read(config, overrides)
    from recsys.studies.study import MARKDOWN
    from recsys.studies.study import study as run_study

    result = run_study(loaded, console=progress())
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    print((loaded.study_dir / MARKDOWN).read_text(encoding="utf-8"))
    print(f"report: {loaded.study_dir / 'study.html'}")


# Commands of added applications follow the application's own, so that Operate comes last.
operations = typer.Typer(add_completion=False)


@operations.command(rich_help_panel="Operate")
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(help=f"{_AS_OF}: do the nightly job of this day.", metavar="DATE"),
    ] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", help="First of several days to fill in, in order.", metavar="DATE"),
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", help="Last of these days.", metavar="DATE")
    ] = None,
    outcome_codes: Annotated[
        bool,
        typer.Option(
            "--outcome-codes", help="Exit with 10 if the champion stays, 11 if nothing is new."
        ),
    ] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Prepare, train, evaluate and export; with a date as the nightly job."""
    loaded = _read(config, overrides)
    if (first is None) != (last is None) or (as_of is not None and first is not None):
        raise UserError("give either --as-of, or both --from and --to, which it is between.")
    first, last = first or as_of, last or as_of
    if first is not None and last is not None:
        from serving.nightly.command import run_nightly

        console = progress()
        sys.exit(run_nightly(loaded, first, last, outcome_codes=outcome_codes, console=console))
    if outcome_codes:
        raise UserError("--outcome-codes are those of the nightly job; give --as-of, too.")
    from serving.job import print_summary
    from serving.job import run as run_job

    result = run_job(loaded, console=progress())
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_summary(loaded, result, Console())


app.add_typer(serving_app)
app.add_typer(operations_app)
app.add_typer(operations)


def main() -> None:
    """Runs the `recsys` command.

    A mistake of the user's, or a disk that cannot be written, is one sentence and exit status 1.
    """
    sleep_while_waiting()
    try:
        try:
            with never_silent(sys.argv[1] if len(sys.argv) > 1 else ""):
                app()
        finally:
            _flush_output()
    except UserError as error:
        sentence = str(error)
    except Exception as error:
        fault = disk_fault(error)
        if fault is None:
            raise
        sentence = fault
    print(f"recsys: {one_line(sentence)}", file=sys.stderr)
    sys.exit(1)


def _flush_output() -> None:
    """Writes what is still to be printed, while an error of that can be explained."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # The interpreter would fail with it once more, at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # A reader such as head has enough.
            raise


if __name__ == "__main__":
    main()
