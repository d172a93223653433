"""The requests that the dashboard answers; others are refused before Dash would fail on them."""

import json
from typing import Annotated, Any, Literal

from dash import Dash
from dash.fingerprint import check_fingerprint
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.http.bodies import read_body, replayed
from pipelines.http.problems import problem

CALLBACK = "/_dash-update-component"
_SUITES = "/_dash-component-suites/"
_MAX_BYTES = 65_536


class _Property(BaseModel):
    """A property of a component, and its value."""

    model_config = ConfigDict(strict=True)

    id: str
    property: str
    value: Annotated[str, Field(max_length=10_000)] | None = None


class _Callback(BaseModel):
    """The body of a callback: the location has changed."""

    model_config = ConfigDict(strict=True)

    output: str
    outputs: list[_Property]
    inputs: list[_Property]
    state: list[_Property] = []
    changed: list[str] = Field([], alias="changedPropIds")


class KnownRequests:
    """Refuses requests that are none of the dashboard's pages.

    Args:
        app: Application behind it.
        dash: Dashboard, which knows its callbacks and its files.
    """

    def __init__(self, app: ASGIApp, dash: Dash) -> None:
        self._app = app
        self._dash = dash

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_callback = scope["path"] == CALLBACK
        allowed: Literal["POST", "GET"] = "POST" if is_callback else "GET"
        if scope["method"] != allowed:
            refusal = problem(405, f"expected {allowed} for {scope['path']}.", Allow=allowed)
            await refusal(scope, receive, send)
        elif is_callback:
            await self._call_back(scope, receive, send)
        elif scope["path"].startswith(_SUITES) and not self._is_file(scope["path"]):
            await problem(404, f"there is no {scope['path']}.")(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _call_back(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A page of another site may make a browser send anything but JSON.
        kinds = [value for name, value in scope["headers"] if name == b"content-type"]
        if not kinds or kinds[0].partition(b";")[0].strip().lower() != b"application/json":
            await problem(415, "expected content-type: application/json.")(scope, receive, send)
            return
        body = await read_body(receive, _MAX_BYTES)
        if body is None:  # The client has gone.
            return
        if len(body) > _MAX_BYTES:
            text = f"the callback is larger than {_MAX_BYTES} bytes."
            await problem(413, text)(scope, receive, send)
            return
        if not self._is_callback(body):
            await problem(400, "expected a callback of the dashboard.")(scope, receive, send)
            return
        await self._app(scope, replayed(body, receive), send)

    def _is_callback(self, body: bytes) -> bool:
        """Tells whether a body has what the callback that it names takes, in its order."""
        try:
            sent: Any = json.loads(body)
            given = _Callback.model_validate(sent)
        except (ValueError, RecursionError, ValidationError):
            return False
        callback = self._dash.callback_map.get(given.output)
        if callback is None:
            return False
        expected = [(e["id"], e["property"]) for e in (*callback["inputs"], *callback["state"])]
        names = [(each.id, each.property) for each in (*given.inputs, *given.state)]
        return names == expected and _output(given.outputs) == given.output

    def _is_file(self, path: str) -> bool:
        package, _, name = path.removeprefix(_SUITES).partition("/")
        file, _ = check_fingerprint(name)
        return file in self._dash.registered_paths.get(package, ())


def _output(properties: list[_Property]) -> str:
    """Returns the name of a callback of several outputs."""
    return "..{}..".format("...".join(f"{each.id}.{each.property}" for each in properties))
