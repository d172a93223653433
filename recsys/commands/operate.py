"""The command of all stages, also as the nightly job."""

import sys
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console

from feature_store.core.errors import UserError
from recsys.commands.options import AS_OF, AsJson, ConfigPath, Overrides, read_config
from recsys.console import Wait, print_json, progress

app = typer.Typer(add_completion=False)


@app.command(rich_help_panel="Operate")
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(help=f"{AS_OF}: do the nightly job of this day.", metavar="DATE"),
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
    loaded = read_config(config, overrides)
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
