"""The command line: each command parses, calls one public function and prints.

The only file that imports from every folder. It imports inside the commands, for the engines take
seconds, which `recsys --help` and a mistyped path need not wait for. Progress goes to standard
error, results to standard output.
"""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from feature_store.core.errors import UserError
from recsys.console import print_json, progress
from serving.commands import app as serving_app

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trains and serves large-scale two-tower recommenders from Parquet logs.",
)

ConfigPath = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A configuration, as `recsys init` writes one.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value: training.epochs=3."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
AsOf = Annotated[
    datetime | None,
    typer.Option(help="Reject events after this UTC time, as if it were now.", metavar="DATE"),
]


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Such as movielens-100k.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to make.")],
) -> None:
    """Download a public data set into the log layout."""
    from pipelines.datasets.fetch import fetch as fetch_data

    fetch_data(name, output, progress().print)


@app.command()
def generate(
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to make.")],
    events: Annotated[int, typer.Option(help="Rows of the log.", min=1)],
    items: Annotated[int, typer.Option(help="Of the catalogue.", min=1)],
    queries: Annotated[int, typer.Option(help="That the events are of.", min=1)],
    seed: Annotated[int, typer.Option(help="Another one is another log.", min=0)] = 0,
    by_date: Annotated[
        bool, typer.Option("--by-date", help="Events of a day in events/date=YYYY-MM-DD/.")
    ] = False,
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


@app.command()
def init(
    events: Annotated[str, typer.Option(help="Parquet file, directory, glob or URL.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The YAML file to write.")],
    items: Annotated[str | None, typer.Option(help="Items and their features.")] = None,
    queries: Annotated[str | None, typer.Option(help="Queries and their features.")] = None,
    split: Annotated[
        Literal["leave_last_out", "random_hash"] | None,
        typer.Option(help="Instead of the split that the log suggests."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Look at a log and write a configuration that fits it, with the reasons."""
    from recsys.autoconfig.init import init_config

    config = init_config(events, items, queries, output, split=split, overwrite=overwrite)
    progress().print(
        f"init: wrote {output}: split {config.data.split.kind}, {len(config.features.item)} item "
        f"and {len(config.features.query)} query features, ssl {config.ssl.method}",
        soft_wrap=True,
    )
    print(f"next: recsys run {output}")


@app.command()
def prepare(
    config: ConfigPath,
    overrides: Overrides = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Logs to examples, item and query tables, vocabularies and statistics."""
    from recsys.config.load import load_config
    from recsys.stages.prepare import prepare as prepare_stage

    manifest = prepare_stage(load_config(config, overrides or ()), as_of=as_of, console=progress())
    if as_json:
        print_json(manifest.model_dump(mode="json"))


@app.command()
def forget(
    config: ConfigPath,
    query_id: Annotated[
        list[str] | None, typer.Option("--query-id", help="Whom to forget; repeatable.")
    ] = None,
    item_id: Annotated[
        list[str] | None, typer.Option("--item-id", help="What to forget; repeatable.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Drop all rows of some queries or items from the next `prepare` on."""
    from recsys.config.load import load_config
    from recsys.stages.prepare import forget as forget_ids

    loaded = load_config(config, overrides or ())
    added = forget_ids(loaded, query_ids=query_id or (), item_ids=item_id or ())
    print(f"{added} new on the list {loaded.forgotten_path}")
    print(f"next: recsys run {config}, and recsys materialize where there is a feature store")


@app.command()
def materialize(config: ConfigPath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Prepared data to the feature store: snapshots, and the latest features for serving."""
    from recsys.config.load import load_config
    from recsys.stages.materialize import materialize as materialize_stage

    manifest = materialize_stage(load_config(config, overrides or ()), console=progress())
    if as_json:
        print_json(manifest.model_dump(mode="json"))


@app.command()
def train(config: ConfigPath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Examples to the best checkpoint, tracked in MLflow."""
    from recsys.config.load import load_config
    from recsys.stages.train import train as train_stage

    manifest = train_stage(load_config(config, overrides or ()), console=progress())
    if as_json:
        print_json(manifest.model_dump(mode="json"))


@app.command()
def doctor(config: ConfigPath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Compare a configuration with the trained model: what fits, and what `train` would do."""
    from recsys.checkpoint.doctor import diagnose, print_diagnosis
    from recsys.config.load import load_config

    found = diagnose(load_config(config, overrides or ()))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_diagnosis(found, Console())
    if found.verdict == "impossible":
        sys.exit(1)


@app.command()
def tune(
    config: ConfigPath,
    trials: Annotated[
        int | None, typer.Option(help="Settings to try; ask for more to go on.", min=1)
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Of searching, at most.")] = None,
    concurrent: Annotated[int | None, typer.Option(help="Trials at a time.", min=1)] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Search for better settings by validation: Optuna and early stopping on Ray Tune."""
    from recsys.config.load import load_config
    from recsys.tuning.tune import tune as tune_stage

    budget = {"trials": trials, "minutes": minutes, "concurrent": concurrent}
    given = [f"tuning.{key}={value}" for key, value in budget.items() if value is not None]
    result = tune_stage(load_config(config, [*(overrides or ()), *given]), console=progress())
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    print(f"best {result.metric}: {result.best.mean:.4f} of trial {result.best.trial}")
    for path, value in result.best.values.items():
        print(f"  {path}: {json.dumps(value)}")
    print(f"next: recsys run {result.config}")


@app.command()
def plan(
    config: ConfigPath,
    world_size: Annotated[int, typer.Option(help="Ranks in all.", min=1)],
    device: Annotated[str, typer.Option(help="cuda or cpu.", metavar="DEVICE")] = "cuda",
    hbm_gib: Annotated[float, typer.Option(help="Memory of each GPU.", min=0)] = 80.0,
    ddr_gib: Annotated[
        float, typer.Option(help="A machine's memory, for each of its ranks.", min=0)
    ] = 128.0,
    local_world_size: Annotated[
        int | None, typer.Option(help="Ranks of a machine; all of up to 8.", min=1)
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(metavar="FEATURE=ROWS", help="Of a table in the future; repeatable."),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Shard the tables on paper: placement, memory and time of ranks that are not there."""
    from recsys.config.load import load_config
    from recsys.distributed.hardware_plan import (
        Hardware,
        format_hardware_plan,
        parse_rows,
        plan_hardware,
    )

    hardware = Hardware.of(world_size, local_world_size, device, hbm_gib, ddr_gib)
    found = plan_hardware(load_config(config, overrides or ()), hardware, parse_rows(rows or ()))
    if as_json:
        print_json(found.to_json())
    else:
        print(format_hardware_plan(found))


@app.command()
def evaluate(config: ConfigPath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Exact full-corpus metrics by slice, with confidence intervals and baselines."""
    from recsys.config.load import load_config
    from recsys.evaluation.results import print_table
    from recsys.stages.evaluate import evaluate as evaluate_stage

    loaded = load_config(config, overrides or ())
    result = evaluate_stage(loaded, console=progress())
    if as_json:
        print((loaded.evaluation_dir / "metrics.json").read_text(encoding="utf-8"), end="")
        return
    print_table(result, Console())
    print(f"report: {loaded.evaluation_dir / 'report.html'}")


@app.command()
def compare(
    before: Annotated[
        str, typer.Argument(metavar="RUN_A", help="Output of an evaluated CONFIG, or MLflow run.")
    ],
    after: Annotated[str, typer.Argument(metavar="RUN_B", help="What may replace it.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Directory for a page and JSON.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Of the verdict.")] = "recall@50",
    level: Annotated[float, typer.Option(help="Of significance.", min=0.0, max=1.0)] = 0.05,
    gate: Annotated[
        bool,
        typer.Option("--gate", help="Exit with 3 unless B is safe to put in use."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Whether one evaluated run is better than another, for whom, and how sure that is."""
    from recsys.comparison.compare import PAGE
    from recsys.comparison.compare import compare as compare_runs

    result = compare_runs(before, after, output, metric=metric, level=level)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print(result.sentence())
        if output is not None:
            print(f"report: {output / PAGE}")
    if gate and not result.is_safe:
        raise typer.Exit(3)


@app.command()
def dashboard(
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="Of the MLflow store; else MLFLOW_TRACKING_URI, or mlflow.db near here."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one.", min=0, max=65_535)] = 8050,
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Write one file of this MLflow run instead.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Of --run.")] = Path("run.html"),
) -> None:
    """The evaluation dashboard in a browser, over all runs of an MLflow store."""
    from recsys.dashboard.app import export as export_run
    from recsys.dashboard.app import serve as serve_dashboard

    if run is None:
        serve_dashboard(tracking_uri, host=host, port=port)
    else:
        export_run(tracking_uri, run, output)
        print(f"wrote {output}")


@app.command()
def study(config: ConfigPath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Compare objectives, or any arms, over label fractions and seeds; resumable."""
    from recsys.config.load import load_config
    from recsys.studies.study import MARKDOWN
    from recsys.studies.study import study as run_study

    loaded = load_config(config, overrides or ())
    result = run_study(loaded, console=progress())
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    print((loaded.study_dir / MARKDOWN).read_text(encoding="utf-8"))
    print(f"report: {loaded.study_dir / 'study.html'}")


@app.command()
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Prepare, train, evaluate and export; what is already done is skipped."""
    from recsys.config.load import load_config
    from serving.job import print_summary
    from serving.job import run as run_job

    loaded = load_config(config, overrides or ())
    result = run_job(loaded, as_of=as_of, console=progress())
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_summary(loaded, result, Console())


# Those of the bundle come last in the help.
app.add_typer(serving_app)


def main() -> None:
    """The `recsys` command; a mistake of the user's is one sentence and exit status 1."""
    try:
        app()
    except UserError as error:
        print(f"recsys: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
