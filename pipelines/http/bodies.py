"""Reading of a request's body by what stands before the application."""

from starlette.types import Message, Receive


async def read_body(receive: Receive, max_bytes: int) -> bytes | None:
    """Reads a body, and stops once it is too large: its announced length need not be true.

    Args:
        receive: Function that returns the next message of the request.
        max_bytes: Most bytes that are wanted.

    Returns:
        The body, or more than `max_bytes` of a larger one; None if the client has gone.
    """
    body, more = b"", True
    while more and len(body) <= max_bytes:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def replayed(body: bytes, receive: Receive) -> Receive:
    """Returns a function that gives a body that was read, and then what comes after it."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
