"""The server of an application of ASGI: uvicorn with bounds, which ends when it is told to."""

import asyncio
import functools
import os
import signal
import sys
import threading
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from feature_store.core.errors import UserError
from pipelines.http.admission import Admission, limits_of_process
from pipelines.http.protocol import BoundedProtocol

# Seconds that requests have to end after a signal, and seconds after which the process ends anyway:
# containers are given ten.
_GRACE_SECONDS, _END_SECONDS = 5, 9
_CHECK_SECONDS = 1.0


class Server(uvicorn.Server):
    """uvicorn's server with bounds.

    Args:
        app: Application.
        host: Address to listen on.
        port: Port; 0 takes any free one.
        probes: Paths that are answered even where there are too many connections.
        admission: Connections of the server.
    """

    def __init__(
        self,
        app: ASGIApp,
        admission: Admission,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        probes: tuple[str, ...] = (),
    ) -> None:
        self._admission = admission
        self._signalled = threading.Event()
        protocol = functools.partial(BoundedProtocol, admission=admission, probes=probes)
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                access_log=False,
                http=protocol,  # type: ignore[arg-type]
                # A web socket would be a connection without bounds.
                ws="none",
                proxy_headers=False,
                timeout_keep_alive=int(admission.limits.idle_seconds),
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )

    async def serve(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Serves, and ends connections whose time is up."""
        checks = asyncio.create_task(self._check())
        try:
            await super().serve(sockets)  # type: ignore[arg-type]
        finally:
            checks.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins the end at a signal."""
        self._signalled.set()
        super().handle_exit(sig, frame)

    def end_in_time(self) -> None:
        """Ends the process some seconds after a signal, whatever its threads wait for."""
        # Started before the signal: a handler must not start a thread.
        threading.Thread(target=self._end, name="end", daemon=True).start()

    def _end(self) -> None:
        self._signalled.wait()
        threading.Event().wait(_END_SECONDS)
        print(f"a request hangs; ended {_END_SECONDS} seconds after the signal", file=sys.stderr)
        os._exit(128 + signal.SIGTERM)

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            self._admission.check()


def run_app(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    probes: tuple[str, ...] = (),
    admission: Admission | None = None,
) -> None:
    """Answers until the process is told to end, which it does within seconds.

    Args:
        app: Application.
        host: Address to listen on.
        port: Port; 0 takes any free one, which the log names.
        probes: Paths that are answered even where there are too many connections.
        admission: Connections of the server; None: new ones, within what the process may open.

    Raises:
        UserError: The address is taken.
    """
    if admission is None:
        admission = Admission(limits_of_process())
    server = Server(app, admission, host=host, port=port, probes=probes)
    server.end_in_time()
    try:
        server.run()
    except SystemExit as error:  # Uvicorn ends so where it could not start.
        raise UserError(f"cannot listen on {host}:{port}; choose another --port.") from error
