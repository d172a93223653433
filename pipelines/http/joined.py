"""Writing of an answer's head and body at once."""

import asyncio


class JoinedWrites:
    """The transport of an answer, whose writes of one turn of the loop leave in pairs.

    uvicorn writes the head and the body of an answer one after the other. Apart, each would be a
    system call and a segment, and wake the reader up.

    Args:
        transport: Transport of the connection.
        loop: Loop of the connection.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Writes bytes together with those before, or holds them until the loop's next turn."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines([held, data])
        elif data:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Writes what is held, and closes the connection."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Tells whether the connection is closed, or about to be."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            if not self._transport.is_closing():
                self._transport.write(held)
