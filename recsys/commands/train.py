"""The commands that train and tune a model, and plan and check that."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from feature_store.core.bounds import LARGE, MANY
from recsys.commands.options import AsJson, ConfigPath, Overrides, read_config
from recsys.console import Wait, print_json, progress

app = typer.Typer(add_completion=False)


@app.command(rich_help_panel="Train")
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Train to the best checkpoint, tracked in MLflow; resumes after a kill."""
    loaded = read_config(config, overrides)
    from recsys.stages.train import train as train_stage

    manifest = train_stage(loaded, console=progress())
    if as_json:
        print_json(manifest.model_dump(mode="json"))


@app.command(rich_help_panel="Train")
def doctor(config: ConfigPath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check whether the trained model can be continued under a changed configuration."""
    loaded = read_config(config, overrides)
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
    loaded = read_config(config, overrides)
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
    loaded = read_config(config, [*(overrides or ()), *given])
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
    loaded = read_config(config, overrides)
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
