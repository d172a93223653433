"""Real servers on free loopback ports: of Redis with its own directory, and of an application."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.types import ASGIApp

from pipelines.http.admission import Admission, Limits
from pipelines.http.server import Server

MISSING = "redis-server is not installed (on Debian and Ubuntu: apt-get install redis-server)"


def is_installed() -> bool:
    return shutil.which("redis-server") is not None


@contextmanager
def redis_server(directory: Path, password: str | None = None) -> Iterator[str]:
    """Starts a server and yields its URL; the server stops at the end of the block."""
    with redis_process(directory, password) as (url, _):
        yield url


@contextmanager
def redis_process(
    directory: Path, password: str | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Starts a server, and yields its URL and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"port": port, "bind": "127.0.0.1", "dir": directory, "save": "", "appendonly": "no"}
    if password is not None:
        options["requirepass"] = password
    command = ["redis-server", "--daemonize", "no"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    with (directory / "redis.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(process, port, directory / "redis.log")
            yield f"redis://127.0.0.1:{port}/0", process
        finally:
            process.terminate()
            process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"redis-server ended: {log.read_text()}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"redis-server does not answer: {log.read_text()}")


@contextmanager
def running(
    app: ASGIApp, admission: Admission | None = None, probes: tuple[str, ...] = ()
) -> Iterator[int]:
    """Runs a server in a thread, and yields its port."""
    if admission is None:
        admission = Admission(Limits())
    server = Server(app, admission, probes=probes)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
