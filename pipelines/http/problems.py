"""The answer of every error: JSON with one sentence."""

import json
from http import HTTPStatus

from starlette.responses import JSONResponse


def problem(status: int, text: str, **headers: str) -> JSONResponse:
    """Makes the answer of an error.

    Args:
        status: Status of the answer.
        text: One sentence.
        headers: Headers by name, with _ for -.
    """
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": text}, status_code=status, headers=names)


def raw_problem(status: int, text: str) -> bytes:
    """Makes the bytes of the answer of an error that comes before there is a request."""
    body = json.dumps({"error": text}).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
