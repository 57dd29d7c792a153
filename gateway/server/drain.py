"""What all connections of one ``serve()`` share: the limits, and how far its shutdown has come.

What lives here: counters and flags. What never will: I/O; a connection looks here, and is told through its methods.
"""

from enum import Enum
from typing import Protocol

import trio
from hypercorn.trio.worker_context import WorkerContext

from gateway.server.limits import Limits
from gateway.server.refusals import Explain, say_no_more
from gateway.server.shares import Shares


class Leave(Enum):
    """Why a server is to shut down: what its ``shutdown`` may return."""

    STOP = "stop"
    """Nobody else serves here. New connections are accepted for ``drain_delay``: whoever sends them is to learn."""
    REPLACED = "replaced"
    """Another process accepts from the same sockets. This one leaves the new connections to it, at once."""


class Addresses(Protocol):
    """A set of IP addresses, given as text."""

    def __contains__(self, address: str, /) -> bool: ...


class Drainable(Protocol):
    """A connection, as far as the shutdown is concerned. All of it is synchronous: telling cannot block."""

    def prepare_to_retire(self) -> None:
        """The shutdown has begun: say so to the client where the protocol can, and go on."""

    def retire(self) -> None:
        """Close now when idle, else as soon as what is in flight is done."""

    def abort(self) -> None:
        """Close now, whatever is in flight, without waiting for the client."""


class Context(WorkerContext):
    """Hypercorn's worker context, with the connections in it.

    ``draining``: the shutdown has begun, connections are still accepted. ``terminated`` (Hypercorn's): no more are.
    """

    def __init__(
        self,
        limits: Limits,
        max_requests: int | None = None,
        *,
        proxies: Addresses = (),
        shares: Shares | None = None,
        explain: Explain = say_no_more,
    ) -> None:
        super().__init__(max_requests)
        self.limits = limits
        self.proxies = proxies
        """The addresses whose connections begin with a PROXY header."""
        self.explain = explain
        """What is said to whom is refused at the door."""
        self.draining = False
        self.retiring = False
        self.connections: set[Drainable] = set()
        self._changed = trio.lowlevel.ParkingLot()
        self._shares = shares

    def add(self, connection: Drainable) -> None:
        """A connection was accepted."""
        self.connections.add(connection)
        self._tell_the_others()

    def discard(self, connection: Drainable) -> None:
        """A connection is over, its apps included."""
        self.connections.discard(connection)
        self._tell_the_others()
        self._changed.unpark_all()

    def _tell_the_others(self) -> None:
        if self._shares is not None and not self.draining:
            self._shares.have(len(self.connections))

    async def wait_for_room(self) -> None:
        """Until one more connection may be accepted."""
        while len(self.connections) >= self.limits.max_connections:
            await self._changed.park()

    async def wait_for_none(self) -> None:
        """Until every connection is over."""
        while self.connections:
            await self._changed.park()

    async def drain(self) -> None:
        """Begin the shutdown: connections are told, new ones are still accepted."""
        self.draining = True
        for connection in list(self.connections):
            connection.prepare_to_retire()

    async def retire(self) -> None:
        """No new connections any more: idle ones close now, the others as soon as they are done."""
        self.retiring = True
        await self.terminated.set()
        for connection in list(self.connections):
            connection.retire()
