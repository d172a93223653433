"""The `dashboard` command: pages over all runs of an MLflow store, and the file of one run."""

import logging
from importlib.resources import files
from pathlib import Path
from typing import Any

from feature_store.core.errors import UserError
from feature_store.core.files import write_text
from recsys.dashboard.run_store import RunStore
from recsys.reports.run.run_data import DAY_PAGE
from recsys.tracking import store_uri

_FAULT = "The dashboard could not draw this page because of an error of its own; see its log."
_PAGE, _BEGINNING = b"<!doctype html>", 100
# Milliseconds after which something has to stand where a view will be.
_SHORT = 200
_NO_SCRIPTS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
}
_INDEX = """<!DOCTYPE html>
<html lang="en" class="light">
  <head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}<style>STYLE</style></head>
  <body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>
"""


def build_app(store: RunStore, host: str = "127.0.0.1") -> Any:
    """Returns the dashboard as an application of Dash, whose server is one of FastAPI.

    Args:
        store: Store of the runs to show.
        host: Address or name that the server listens on.
    """
    from dash import Dash, Input, Output, State, dcc, html
    from fastapi import FastAPI, Response

    from pipelines.http.hosts import HostCheck
    from pipelines.reports.html import style
    from recsys.dashboard.components import KEYED, label
    from recsys.dashboard.pages import page
    from recsys.dashboard.requests import KnownRequests
    from recsys.dashboard.runs import DAY

    own_style = (files("recsys.dashboard") / "dashboard.css").read_text(encoding="utf-8")
    # FastAPI's own pages would load scripts from elsewhere, and have nothing to describe.
    server: Any = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @server.get(f"{DAY}{{run_id}}")
    def day(run_id: str) -> Response:
        return _day(store, run_id)

    app = Dash(
        "recsys.dashboard",
        server=server,
        backend="fastapi",
        include_assets_files=False,
        title="recsys",
        update_title="",
        # As a file of assets it would be missing from the first page (Dash 4.4 on FastAPI).
        index_string=_INDEX.replace("STYLE", style() + own_style),
        suppress_callback_exceptions=True,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    navigation = html.Nav(
        html.Ul(
            [
                html.Li(dcc.Link("Runs", href="/")),
                html.Li(dcc.Link("Compare", href="/compare")),
            ]
        ),
        **label("Pages"),
    )
    content = html.Main(id="page", tabIndex=-1)
    skeleton = html.Div("Loading...", className="skeleton", role="status")
    app.layout = [
        html.A("Skip to the content", href="#page", className="skip"),
        html.Header([html.Strong("recsys dashboard"), navigation]),
        dcc.Location(id="location", refresh="callback-nav"),
        dcc.Store(id="title"),
        html.Div(id="titled", hidden=True),
        dcc.Loading(content, delay_show=_SHORT, custom_spinner=skeleton),
    ]

    @app.callback(
        Output("page", "children"),
        Output("title", "data"),
        Input("location", "pathname"),
        Input("location", "search"),
    )
    def show(path: str, search: str) -> tuple[Any, str]:
        try:
            title, children = page(store, f"{path or '/'}{search or ''}")
        except Exception:  # A page that does not change would not say so.
            logging.exception("the page %s", path)
            title, children = "Error", html.P(_FAULT, className="warning")
        return children, title

    app.clientside_callback(
        "function (title) { if (title) { document.title = title + ' - recsys'; } return ''; }",
        Output("titled", "children"),
        Input("title", "data"),
    )
    # A click on an item of the map leads to its neighbours.
    app.clientside_callback(
        """function (clicked, path) {
            const key = clicked && clicked.points[0].customdata;
            if (typeof key !== "string") { return window.dash_clientside.no_update; }
            return path.replace(/map$/, "similar") + "?item=" + encodeURIComponent(key);
        }""",
        Output("location", "href"),
        Input(KEYED, "clickData"),
        State("location", "pathname"),
        prevent_initial_call=True,
    )
    app.server.add_middleware(KnownRequests, dash=app)
    app.server.add_middleware(HostCheck, host=host, advice="give its name as --host")
    return app


def _day(store: RunStore, run_id: str) -> Any:
    """Returns the page that the nightly job wrote on the day of a run, which has no scripts."""
    from fastapi.responses import HTMLResponse, PlainTextResponse

    try:
        path = store.data(run_id).find(DAY_PAGE)
    except UserError as error:
        return PlainTextResponse(str(error), 404)
    if path is None:
        return PlainTextResponse(f"the nightly job has left no page with run {run_id}.", 404)
    return HTMLResponse(path.read_text(encoding="utf-8"), headers=_NO_SCRIPTS)


def serve(uri: str | None, *, host: str, port: int) -> None:
    """Serves the dashboard until it is interrupted.

    Args:
        uri: URI of the MLflow store; None: see `store_uri`.
        host: Address to listen on.
        port: Port; 0: any free one.

    Raises:
        UserError: There is no such store, or the port is taken.
    """
    from pipelines.http.server import run_app

    run_app(build_app(RunStore(store_uri(uri)), host).server, host=host, port=port)


def export(uri: str | None, run_id: str, output: Path) -> None:
    """Writes one self-contained HTML file of a run.

    Args:
        uri: URI of the MLflow store; None: see `store_uri`.
        run_id: Id of the run in MLflow.
        output: File to write.

    Raises:
        UserError: There is no such store or run, or the file is there and is no page.
    """
    if output.is_dir() or (output.exists() and not _is_page(output)):
        raise UserError(
            f"{output} is there and is no page that was written before; choose another."
        )
    from recsys.dashboard.run_file import render_run

    store = RunStore(store_uri(uri))
    row, run = store.row(run_id), store.data(run_id)
    champion = store.champion(row.experiment)
    in_use = None if champion is None else store.data(champion)
    write_text(output, render_run(run, row.title, in_use))


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_BEGINNING).lstrip().lower().startswith(_PAGE)
