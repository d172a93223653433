"""The commands that make bundles and answer from them, which `recsys.cli` adds to the others."""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from feature_store.core.bounds import LARGE, MANY
from feature_store.core.errors import UserError
from pipelines.process import spare_pandas
from recsys.console import Wait, print_json, progress

app = typer.Typer(add_completion=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Bundle = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="A directory, or models:/NAME@champion.")
]
Online = Annotated[
    Path | None,
    typer.Option(
        metavar="CONFIG", help="Configuration of an online store, for histories and features."
    ),
]
Tail = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, help="0: rank as evaluated; 1: with the most rare items."),
]


@app.command(rich_help_panel="Serve")
def export(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="Configuration of the trained model; not with --ab."),
    ] = None,
    ab: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--ab",
            metavar="RUN_A RUN_B",
            help="Exported runs to write as an A/B test, in place of CONFIG.",
        ),
    ] = None,
    split: Annotated[
        float, typer.Option(help="Fraction of the queries that B answers, with --ab.")
    ] = 0.5,
    salt: Annotated[
        str, typer.Option(help="Salt of the hash that divides queries, with --ab.")
    ] = "",
    name: Annotated[
        str | None, typer.Option(help="Name of the experiment, with --ab; else the directory's.")
    ] = None,
    allow_same: Annotated[
        bool, typer.Option("--allow-same", help="Allow an A/A test of one bundle, with --ab.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Directory of the experiment.")
    ] = None,
    may_be_worse: Annotated[
        bool,
        typer.Option("--may-be-worse", help="Export a model that is worse than the champion, too."),
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value of CONFIG."),
    ] = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Write the trained model as a sealed, registered bundle; or two bundles as an A/B test."""
    if ab is not None:
        from serving.experiment.export import export_experiment
        from serving.recommend.load import local_bundle

        if output is None or config is not None or may_be_worse:
            raise UserError(
                "export --ab takes two bundles and -o DIRECTORY, and no CONFIG or --may-be-worse."
            )
        a, b = (local_bundle(each) for each in ab)
        experiment = export_experiment(
            a, b, output, split=split, salt=salt, name=name, allow_same=allow_same
        )
        if as_json:
            print_json(experiment.model_dump(mode="json"))
        else:
            print(f"experiment: {output}")
            print(f"next: recsys serve {output} --log {output}.log")
        return
    from recsys.config.load import load_config

    if config is None:
        raise UserError("export takes a CONFIG, or --ab with two bundles.")
    loaded = load_config(config, overrides or ())
    from serving.exporting.export import export as export_stage  # After it, as it takes seconds.

    manifest = export_stage(loaded, may_be_worse=may_be_worse, console=progress())
    if as_json:
        print_json(manifest.model_dump(mode="json"))
    else:
        print(f"bundle: {loaded.bundle_dir}")


@app.command(rich_help_panel="Serve")
def query(
    bundle: Bundle,
    query_id: Annotated[str, typer.Option(help="Id of the query to recommend to.")],
    k: Annotated[int, typer.Option("-k", help="Number of items.")] = 10,
    context: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Context feature, its value in YAML; repeatable."),
    ] = None,
    at: Annotated[
        datetime | None, typer.Option(help="UTC time of the request; else now.", metavar="DATE")
    ] = None,
    tail: Tail = 0.0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the parts of each score, and its reasons.")
    ] = False,
    online: Online = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to one query."""
    spare_pandas()
    from recsys.config.load import parse_assignment
    from serving.recommend.options import RecommendOptions
    from serving.recommend.store import load_for_command

    given = [parse_assignment("--context", text, "name=value") for text in context or ()]
    options = RecommendOptions(dict(given), at, tail=tail, explain=explain)
    store = _online_store(online)
    recommender = load_for_command(bundle, store, late="when_needed")
    answer = recommender.recommend(query_id, k, options)
    if as_json:
        histories_to = None if store else recommender.manifest.data_window.histories_to
        print_json({**answer.model_dump(mode="json"), "histories_to": histories_to})
        return
    from serving.recommend.display import print_recommendations, snapshot_note

    manifest = recommender.manifest
    liked = recommender.liked(query_id, k)
    print_recommendations(answer, liked, Console(), query=manifest.query)
    if store is None:
        note = snapshot_note(manifest)
        progress().print(f"query: {note}", highlight=False, soft_wrap=True)


@app.command(rich_help_panel="Serve")
def recommend(
    bundle: Bundle,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write.")],
    everyone: Annotated[
        bool, typer.Option("--all", help="Recommend to every query of the bundle.")
    ] = False,
    queries: Annotated[
        Path | None, typer.Option(help="Parquet with a column query_id, instead of --all.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Number of items.")] = 10,
    at: Annotated[
        datetime | None, typer.Option(help="UTC time of the request; else now.", metavar="DATE")
    ] = None,
    tail: Tail = 0.0,
    online: Online = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Processes; else one for each CPU.", min=1, max=MANY)
    ] = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Write the best items for many queries to Parquet, for e-mails and caches."""
    from serving.batch.recommend_all import recommend_all
    from serving.recommend.load import local_bundle

    if everyone == (queries is not None):
        raise UserError("recommend takes either --all or --queries FILE.")
    manifest = recommend_all(
        local_bundle(bundle),
        output,
        k=k,
        queries=queries,
        at=at,
        tail=tail,
        online=_online_store(online),
        concurrency=concurrency,
        console=progress(),
    )
    if as_json:
        print_json(manifest.model_dump(mode="json"))


@app.command(rich_help_panel="Serve")
def vectors(
    bundle: Bundle,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="Format: vertex, pinecone, milvus, opensearch, pgvector or npy."
        ),
    ],
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Write the item vectors of a bundle in the import format of a vector database."""
    from serving.batch.vector_files import Format, write_vectors
    from serving.recommend.load import local_bundle

    manifest = write_vectors(local_bundle(bundle), output, cast(Format, form))
    if as_json:
        print_json(manifest.model_dump(mode="json"))
    else:
        print(f"{manifest.items:,} vectors of {manifest.dim} numbers in {output}")


@app.command(rich_help_panel="Serve")
def serve(
    bundle: Annotated[
        str,
        typer.Argument(help="A bundle, an experiment of `export --ab`, or models:/NAME@champion."),
    ],
    other: Annotated[
        str | None, typer.Argument(metavar="[BUNDLE_B]", help="Second bundle: an A/B test.")
    ] = None,
    split: Annotated[
        float, typer.Option(help="Fraction of the queries that BUNDLE_B answers.")
    ] = 0.5,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65_535)] = 8000,
    log: Annotated[
        Path | None, typer.Option(help="Directory for a log of answers and outcomes.")
    ] = None,
    reload_seconds: Annotated[
        float,
        typer.Option(help="Seconds between checks for a newer bundle; 0: none.", min=0, max=LARGE),
    ] = 10.0,
    online: Online = None,
    replicas: Annotated[
        int, typer.Option(help="Replicas of Ray Serve, over a cluster; 0: none.", min=0, max=MANY)
    ] = 0,
) -> None:
    """Answer over HTTP: recommendations, similar items, events, metrics; see docs/serving.md.

    If RECSYS_TOKEN is set, requests must carry it as a bearer token.
    """
    from serving.server.build import ServerSettings
    from serving.server.launch import serve as serve_bundle

    settings = ServerSettings(
        bundle=bundle,
        other=other,
        split=split,
        log=log,
        reload_seconds=reload_seconds,
        store=_online_store(online),
        token=os.environ.get("RECSYS_TOKEN") or None,
    )
    serve_bundle(settings, host=host, port=port, replicas=replicas)


def _online_store(config: Path | None) -> Any:
    """Returns the online store of a configuration."""
    if config is None:
        return None
    from recsys.config.load import load_config
    from serving.recommend.store import Store

    loaded = load_config(config)
    return Store(loaded.feature_store, loaded.feature_store_dir.resolve())
