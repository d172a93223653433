"""The command line: the commands of all panels, and what an error prints.

Each command parses, calls one public function and prints. Commands import from every folder, but
inside of themselves, for the engines take seconds, which `recsys --help` and a mistyped path need
not wait for. Progress goes to standard error, results to standard output.
"""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from feature_store.core.errors import UserError
from pipelines.process import sleep_while_waiting
from recsys.arguments import CheckedCommands
from recsys.commands.data import app as data_app
from recsys.commands.evaluate import app as evaluate_app
from recsys.commands.operate import app as operate_app
from recsys.commands.train import app as train_app
from recsys.console import never_silent, one_line
from recsys.disk_faults import disk_fault
from recsys.store_faults import store_fault
from serving.commands import app as serving_app
from serving.operations import app as operations_app

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


# The order of the panels, and of the commands in each, is that of `recsys --help`.
app.add_typer(data_app)
app.add_typer(train_app)
app.add_typer(evaluate_app)
app.add_typer(serving_app)
app.add_typer(operations_app)
app.add_typer(operate_app)


def main() -> None:
    """Runs the `recsys` command.

    A mistake of the user's, a disk that cannot be written, or an MLflow store that does not answer
    is one sentence and exit status 1.
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
        fault = disk_fault(error) or store_fault(error)
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
