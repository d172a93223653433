"""The page on which to try the API: Swagger UI, from files of this machine alone."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse

PAGE = "/docs"
# Files by path; no value of a request becomes part of a name.
_HERE = Path(__file__).parent
_SWAGGER = Path(str(files("fastapi_standalone_docs"))) / "static" / "swagger"
_FILES = {
    PAGE: _HERE / "try_page.html",
    f"{PAGE}/try-page.js": _HERE / "try_page.js",
    f"{PAGE}/swagger-ui-bundle.js": _SWAGGER / "swagger-ui-bundle.js",
    f"{PAGE}/swagger-ui.css": _SWAGGER / "swagger-ui.css",
}
# Paths that a browser needs before anybody can give it a token; all servers answer them alike.
OPEN_PATHS = (*_FILES, "/openapi.json")
# Scripts and requests of this server alone. Swagger UI sets styles of single elements.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; "
    "font-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def add_try_page(app: FastAPI) -> None:
    """Adds the page and its files to an application."""
    for path, file in _FILES.items():
        app.add_api_route(path, _answer_with(file), include_in_schema=False)


def _answer_with(file: Path) -> Callable[[], Awaitable[FileResponse]]:
    async def answer() -> FileResponse:
        return FileResponse(file, headers=_HEADERS)

    return answer
