"""The commands that make logs, configurations and prepared data."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from feature_store.core.bounds import EVENTS, ROWS
from feature_store.core.errors import UserError
from recsys.commands.options import AS_OF, AsJson, ConfigPath, Overrides, read_config
from recsys.console import Wait, print_json, progress

app = typer.Typer(add_completion=False)

_FOUND = "in place of the column that is found."
AsOf = Annotated[datetime | None, typer.Option(help=f"{AS_OF}.", metavar="DATE")]


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
    loaded = read_config(config, overrides)
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
    loaded = read_config(config, overrides)
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
    loaded = read_config(config, overrides)
    from recsys.stages.materialize import materialize as materialize_stage

    manifest = materialize_stage(loaded, console=progress())
    if as_json:
        print_json(manifest.model_dump(mode="json"))
