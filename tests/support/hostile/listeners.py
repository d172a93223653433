"""Ports that processes of this one listen on."""

import ipaddress
from contextlib import suppress
from typing import NamedTuple

import psutil


class Listener(NamedTuple):
    """A port and who listens on it.

    Attributes:
        process: Name of the process and its command line.
        address: Address of this machine, `::` or `0.0.0.0` for all of them.
        port: Number of the port.
    """

    process: str
    address: str
    port: int


def listeners() -> set[Listener]:
    """Lists the listening TCP ports of this process and all that descend from it."""
    own = psutil.Process()
    found = set()
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):  # It ended meanwhile.
            name = " ".join([process.name(), *process.cmdline()])
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add(Listener(name, connection.laddr.ip, connection.laddr.port))
    return found


def assert_on_loopback(listening: set[Listener], *processes: str) -> None:
    """Asserts that nobody listens elsewhere, and that each of these processes listens."""
    for name in processes:
        assert any(name in each.process for each in listening), name
    assert [each for each in listening if not _is_loopback(each.address)] == []


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
