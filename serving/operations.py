"""The commands that change what is served or judge it, which `recsys.cli` adds to the others."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from feature_store.core.bounds import MANY
from feature_store.core.errors import UserError
from recsys.console import Wait, print_json, progress
from serving.commands import AsJson, Bundle

app = typer.Typer(add_completion=False)

TrackingUri = Annotated[
    str | None,
    typer.Option(help="URI of the MLflow store; else MLFLOW_TRACKING_URI, or mlflow.db here."),
]


@app.command(rich_help_panel="Operate")
def update(
    bundle: Bundle,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory of the new bundle.")],
    items: Annotated[
        Path | None, typer.Option(help="Parquet of new items and their features.")
    ] = None,
    remove_item: Annotated[
        list[str] | None, typer.Option("--remove-item", help="Id of an item to remove; repeatable.")
    ] = None,
    id_column: Annotated[str, typer.Option(help="Column of the new items' ids.")] = "item_id",
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Add items to a bundle and remove others, between two trainings."""
    from serving.exporting.update import update as update_bundle
    from serving.recommend.load import local_bundle

    if items is None and not remove_item:
        raise UserError("update takes --items FILE, --remove-item ID, or both.")
    manifest = update_bundle(
        local_bundle(bundle),
        output,
        items=items,
        removed=remove_item or (),
        id_column=id_column,
        console=progress(),
    )
    if as_json:
        print_json(manifest.model_dump(mode="json"))


@app.command("ab-report", rich_help_panel="Operate")
def ab_report(
    log: Annotated[Path, typer.Argument(help="Directory of `recsys serve --log`.")],
    events: Annotated[
        Path | None, typer.Option(help="Outcomes from elsewhere, in Parquet; else the log's.")
    ] = None,
    event: Annotated[
        str | None, typer.Option(help="Type of the events that count; else all.")
    ] = None,
    window_hours: Annotated[
        float,
        typer.Option(help="Hours after an exposure in which an event counts.", min=0, max=MANY),
    ] = 24.0,
    level: Annotated[float, typer.Option(help="Significance level.", min=0.0, max=1.0)] = 0.05,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Directory for the report and JSON.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell which variant of an A/B test is better, by how much, and whether to trust that."""
    from serving.experiment.report import PAGE
    from serving.experiment.report import ab_report as report
    from serving.experiment.sentences import print_ab_report

    result = report(
        log,
        events=events,
        event_type=event,
        window_hours=window_hours,
        output=output,
        level=level,
    )
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    print_ab_report(result, Console())
    if output is not None:
        print(f"report: {output / PAGE}")


@app.command(rich_help_panel="Operate")
def promote(
    name: Annotated[str, typer.Argument(help="Name of the registered model.")],
    version: Annotated[str | None, typer.Option(help="Version; else the challenger.")] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Make the challenger, or another version, the champion; servers of the alias switch to it."""
    from serving.registry.registry import promote as promote_version

    print(promote_version(name, version=version, tracking_uri=tracking_uri).sentence())


@app.command(rich_help_panel="Operate")
def rollback(
    name: Annotated[str, typer.Argument(help="Name of the registered model.")],
    tracking_uri: TrackingUri = None,
) -> None:
    """Make the previous champion the champion again."""
    from serving.registry.registry import rollback as roll_back

    print(roll_back(name, tracking_uri=tracking_uri).sentence())
