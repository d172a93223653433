"""HTTP over a connection, within the bounds of `Limits`: uvicorn's protocol with deadlines."""

import asyncio
from math import inf
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipelines.http.admission import Admission, Reason, address_of
from pipelines.http.joined import JoinedWrites
from pipelines.http.problems import problem, raw_problem


class _TooMuchError(Exception):
    """A part of a request is larger than its bound."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    The parser of uvicorn calls `on_...`; see there for the order. A request is answered by an
    application of ASGI. Errors before that are answered here, with one sentence of JSON.

    Args:
        admission: Connections of the server.
        probes: Paths that are answered in the reserve, too.
        arguments: Arguments of uvicorn's protocol.
    """

    def __init__(self, *, admission: Admission, probes: tuple[str, ...], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.address = ""
        self._admission = admission
        self._limits = admission.limits
        self._probes = probes
        # The parser is reading nothing, the head of a request, or its body.
        self._reading = ""
        self._has_begun = False  # Whether a request has begun in the bytes that are being parsed.
        self._message_bytes = self._head_bytes = self._headers = 0
        self._is_done = False  # Whether nothing that still comes is read as a request.
        self._deadline = self._write_deadline = inf

    @property
    def unsent_bytes(self) -> int:
        """Bytes of answers that wait for the reader."""
        return self.transport.get_write_buffer_size()

    @property
    def _is_working(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a place among the connections."""
        super().connection_made(transport)
        self._writes: Any = JoinedWrites(transport, self.loop)
        self.address = address_of(self.client)
        if not self._admission.admit(self):
            self.app = _ProbesOnly(self.app, self._probes)
        self._expect(self._limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leaves the place to others."""
        self._admission.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses bytes, and refuses requests that are malformed or too large."""
        if self._is_done:
            self._message_bytes += len(data)
            if self._message_bytes > self._limits.message_bytes:
                self.drop()
            return
        self._unset_keepalive_if_required()
        self._has_begun = False
        try:
            self.parser.feed_data(data)
            if not self._has_begun and self._reading:
                self._message_bytes += len(data)
                self._check_size()
        except httptools.HttpParserUpgrade:
            self._end_after_answer()  # It is answered as an ordinary request, the last.
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _TooMuchError):
                self._refuse_size()
            else:
                self._refuse(400, "the request is not valid HTTP/1.1; send another one.")
        except _TooMuchError:
            self._refuse_size()

    def on_message_begin(self) -> None:
        """Starts the time of a request."""
        super().on_message_begin()
        self._reading, self._has_begun = "head", True
        self._message_bytes = self._head_bytes = self._headers = 0
        if not self._is_working:
            self._expect(self._limits.head_seconds)

    def on_url(self, url: bytes) -> None:
        """Takes a part of the path."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header, or one of a chunked body's trailers."""
        self._headers += 1
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Has the request answered."""
        if len(self.pipeline) >= self._limits.pipelined:
            raise _TooMuchError
        self._reading = "body"
        super().on_headers_complete()
        self.cycle.transport = self._writes
        if not self.pipeline:
            self._expect(self._limits.body_seconds)

    def on_message_complete(self) -> None:
        """Stops the time of a request, which is whole."""
        self._reading = ""
        super().on_message_complete()
        if self._is_working:
            self._deadline = inf
            self._admission.work(self)
        else:  # Its answer came before its end.
            self._expect(self._limits.idle_seconds)

    def on_response_complete(self) -> None:
        """Waits for the rest of the request, or for the next one."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        limits = self._limits
        if self._is_working:
            if self._reading == "body" and not self.pipeline:
                self._expect(limits.body_seconds)
                self._admission.wait(self)
        elif self._is_done:
            self._close()
        else:
            seconds = {"": limits.idle_seconds, "head": limits.head_seconds}
            self._expect(seconds.get(self._reading, limits.unread_seconds))
            self._admission.wait(self)

    def pause_writing(self) -> None:
        """Starts the time of a slow reader."""
        super().pause_writing()
        self._write_deadline = self._admission.clock() + self._limits.answer_seconds
        self._admission.stall(self)

    def resume_writing(self) -> None:
        """Ends the time of a slow reader."""
        super().resume_writing()
        self._write_deadline = inf
        self._admission.flow(self)

    def check(self, now: float) -> None:
        """Ends the connection if a time is up."""
        is_closing = self.transport.is_closing()
        if is_closing and self._write_deadline == inf:
            self._write_deadline = now + self._limits.answer_seconds
        if now >= self._write_deadline:
            self._admission.end(self, "unread answer")
        elif is_closing or now < self._deadline:
            return
        elif self._is_done or not self._reading:
            self.transport.close()
        else:
            self._refuse(408, "the request did not come in time; send it at once.", "slow request")

    def drop(self) -> None:
        """Ends the connection at once."""
        self.transport.abort()

    def _expect(self, seconds: float) -> None:
        self._deadline = self._admission.clock() + seconds

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        self._check_size()

    def _check_size(self) -> None:
        head_bytes = max(self._head_bytes, self._message_bytes * (self._reading == "head"))
        if (
            head_bytes > self._limits.head_bytes
            or self._headers > self._limits.headers
            or self._message_bytes > self._limits.message_bytes
        ):
            raise _TooMuchError

    def _refuse_size(self) -> None:
        if self._reading == "head":
            limits = f"{self._limits.head_bytes} bytes and {self._limits.headers} headers"
            self._refuse(431, f"the head of the request is larger than {limits}; send less.")
        else:
            self._refuse(413, "the request is too large; send less.")

    def _refuse(self, status: int, text: str, reason: Reason = "refused request") -> None:
        """Answers an error in the place of the application."""
        self._admission.closed[reason] += 1
        if self._is_working and (self._reading != "body" or self.pipeline):
            self._end_after_answer()  # Earlier requests have their answers first.
            return
        if self._reading == "body" and self.cycle.response_started:
            self._close()
            return
        if self._is_working:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(raw_problem(status, text))
        self._close()

    def _end_after_answer(self) -> None:
        """Reads no more requests, and closes after the answers to those that came."""
        self._is_done = True
        if not self._is_working:
            self._close()

    def _close(self) -> None:
        """Ends the answers; what is still sent is read for a while, or they would be lost."""
        self._is_done = True
        self._expect(self._limits.unread_seconds)
        self._admission.wait(self)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()


class _ProbesOnly:
    """Answers probes, and tells others to come back."""

    def __init__(self, app: ASGIApp, paths: tuple[str, ...]) -> None:
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        app: ASGIApp = self._app
        if scope["path"] not in self._paths:
            app = problem(503, "the server has too many connections; come back.", Retry_After="1")
        await app(scope, receive, send_last)
