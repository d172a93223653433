"""Bounds of the connections of a server, whoever opens them and whatever they do then."""

import ipaddress
import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

# Why a server ends a connection.
Reason = Literal["made way", "slow request", "unread answer", "refused request"]
REASONS: tuple[Reason, ...] = get_args(Reason)
# Files that a process opens beside its connections.
_OTHER_FILES = 256


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
        connections: Connections at a time.
        of_address: Connections at a time of one address.
        reserve: Further connections, on which only probes are answered.
        head_bytes: Bytes of a request's line and headers.
        headers: Number of a request's headers.
        message_bytes: Bytes of a whole request as it is sent.
        pipelined: Requests that a connection sends before it has answers to the earlier ones.
        head_seconds: Time within which a request's line and headers must come.
        body_seconds: Time within which the body after them must come.
        idle_seconds: Time without a request after an answer.
        unread_seconds: Time for the rest of a request that has its answer already.
        answer_seconds: Time within which an answer must be read.
        unsent_bytes: Bytes of all answers that wait for slow readers.
    """

    connections: int = 1024
    of_address: int = 512
    reserve: int = 32
    head_bytes: int = 32_768
    headers: int = 100
    message_bytes: int = 4 * 2**20
    pipelined: int = 16
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    idle_seconds: float = 5.0
    unread_seconds: float = 5.0
    answer_seconds: float = 30.0
    unsent_bytes: int = 256 * 2**20


class Connection(Protocol):
    """A connection of a server."""

    @property
    def address(self) -> str:
        """Address that the connection counts for; see `address_of`."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes of answers that wait for the reader."""

    def check(self, now: float) -> None:
        """Ends the connection if a time is up."""

    def drop(self) -> None:
        """Ends the connection at once."""


class Admission:
    """The connections of a server, and which of them gives way to a newer one.

    A connection that has no whole request to answer, because it is idle or the request is still
    coming, gives way when there are too many, the one that has waited longest first: of the newer
    one's address where that has too many, else of all. Where none can give way, the newer one gets
    a place in the reserve, where only probes are answered. So nobody keeps others out by opening
    connections.

    Args:
        limits: Bounds of the server.
        clock: Clock in seconds.

    Attributes:
        closed: Number of connections that the server has ended, by reason.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.clock = clock
        self.closed: Counter[Reason] = Counter()
        self._open: dict[Connection, None] = {}
        self._of_address: Counter[str] = Counter()
        # Here are those that can give way, the first to do so first.
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._waiting_of: dict[str, OrderedDict[Connection, None]] = {}
        self._reserve: OrderedDict[Connection, None] = OrderedDict()
        self._unsent: OrderedDict[Connection, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open) + len(self._reserve)

    @property
    def working(self) -> int:
        """Number of connections that have a whole request, which is being answered."""
        return len(self._open) - len(self._waiting)

    def admit(self, connection: Connection) -> bool:
        """Takes a new connection, which waits for its request; False: into the reserve."""
        address = connection.address
        oldest = None
        if self._of_address[address] >= self.limits.of_address:
            oldest = next(iter(self._waiting_of.get(address, ())), None)
        elif len(self._open) >= self.limits.connections:
            oldest = next(iter(self._waiting), None)
        else:
            self._add(connection)
            return True
        if oldest is None:
            self._add_to_reserve(connection)
            return False
        self._make_way(oldest)
        self._add(connection)
        return True

    def wait(self, connection: Connection) -> None:
        """Records that a connection's next request is not there yet: it can give way."""
        if connection in self._open:
            self._waiting[connection] = None
            self._waiting_of.setdefault(connection.address, OrderedDict())[connection] = None

    def work(self, connection: Connection) -> None:
        """Records that a connection has a whole request, which is being answered: it stays."""
        self._waiting.pop(connection, None)
        of_address = self._waiting_of.get(connection.address)
        if of_address is not None:
            of_address.pop(connection, None)
            if not of_address:
                del self._waiting_of[connection.address]

    def stall(self, connection: Connection) -> None:
        """Records that a reader is slow; the slowest are dropped where answers take too much."""
        self._unsent[connection] = None
        unsent = sum(each.unsent_bytes for each in self._unsent)
        while unsent > self.limits.unsent_bytes:
            slowest, _ = self._unsent.popitem(last=False)
            unsent -= slowest.unsent_bytes
            self.end(slowest, "unread answer")

    def flow(self, connection: Connection) -> None:
        """Records that a reader has caught up."""
        self._unsent.pop(connection, None)

    def end(self, connection: Connection, reason: Reason) -> None:
        """Drops a connection."""
        self.closed[reason] += 1
        self.leave(connection)
        connection.drop()

    def leave(self, connection: Connection) -> None:
        """Forgets a connection that has ended, perhaps again."""
        self._reserve.pop(connection, None)
        self._unsent.pop(connection, None)
        self.work(connection)
        if connection in self._open:
            del self._open[connection]
            self._of_address[connection.address] -= 1
            if not self._of_address[connection.address]:
                del self._of_address[connection.address]

    def check(self) -> None:
        """Ends the connections whose time is up."""
        now = self.clock()
        for connection in [*self._open, *self._reserve]:
            connection.check(now)

    def _add(self, connection: Connection) -> None:
        self._open[connection] = None
        self._of_address[connection.address] += 1
        self.wait(connection)

    def _add_to_reserve(self, connection: Connection) -> None:
        if len(self._reserve) >= self.limits.reserve:
            self._make_way(next(iter(self._reserve)))  # A probe takes a moment.
        self._reserve[connection] = None

    def _make_way(self, connection: Connection) -> None:
        self.end(connection, "made way")


def address_of(client: tuple[str, int] | None) -> str:
    """Returns the address that a client counts for: of IPv6 its network of 64 bits."""
    if client is None:
        return ""
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return client[0]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def limits_of_process() -> Limits:
    """Returns the bounds that the number of files allows, which is raised as far as need be."""
    limits = Limits()
    wanted = limits.connections + limits.reserve + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    connections = max(64, soft - limits.reserve - _OTHER_FILES)
    return replace(limits, connections=connections, of_address=connections // 2)
