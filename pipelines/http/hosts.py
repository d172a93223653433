"""Check of the name by which a server is asked, against pages of other sites.

A page of another site can have its own name lead to this machine (DNS rebinding), and then asks as
if the server were its own. The name that the browser sends tells: it is a public one, of theirs.
"""

import ipaddress
import socket

from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.http.problems import problem

# Names that nobody can register: RFC 6761, RFC 6762, RFC 8375, and ICANN's `internal`.
_PRIVATE = (".localhost", ".local", ".internal", ".test", ".home.arpa")


class HostCheck:
    """Refuses requests that name another host than this one.

    An address, a name without a dot, a name of a private network, the name of the machine, and the
    name that the server was told to listen on are its own.

    Args:
        app: Application behind it.
        host: Address or name that the server listens on.
        advice: End of the sentence of a refusal: what else there is to do.
    """

    def __init__(self, app: ASGIApp, host: str, advice: str) -> None:
        self._app = app
        self._advice = advice
        self._names = frozenset(name.lower() for name in (host, socket.gethostname()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks the header and passes the request on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) == 1 and self._is_own(_name_of(given[0].decode("latin-1"))):
            await self._app(scope, receive, send)
            return
        text = f"the request must name this host once; ask by its address, or {self._advice}."
        await problem(421 if given else 400, text)(scope, receive, send)

    def _is_own(self, name: str) -> bool:
        if name in self._names or name.endswith(_PRIVATE):
            return True
        return bool(name) and ("." not in name or _is_address(name))


def _name_of(host: str) -> str:
    """Returns the name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
