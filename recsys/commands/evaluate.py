"""The commands that measure models and compare them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from recsys.commands.options import AsJson, ConfigPath, Overrides, read_config
from recsys.console import Wait, print_json, progress

app = typer.Typer(add_completion=False)


@app.command(rich_help_panel="Evaluate")
def evaluate(
    config: ConfigPath,
    overrides: Overrides = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Measure exact full-corpus metrics by slice, with intervals and baselines."""
    loaded = read_config(config, overrides)
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
    loaded = read_config(config, overrides)
    from recsys.studies.study import MARKDOWN
    from recsys.studies.study import study as run_study

    result = run_study(loaded, console=progress())
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    print((loaded.study_dir / MARKDOWN).read_text(encoding="utf-8"))
    print(f"report: {loaded.study_dir / 'study.html'}")
