"""Networks for tests: addresses, who listens there, and what a connection meets on its way.

What lives here: the weather (a name that does not resolve, a black hole, latency, a refusal), which is the same for
each network, and the network in memory. ``sockets.py`` has the one of real sockets. What never will: what is said on a
connection.
"""

import abc
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from gateway.testing.streams import (
    BUFFER_SIZE,
    FIRST_EPHEMERAL_PORT,
    Address,
    MemoryStream,
    address_text,
    memory_stream_pair,
    task_name,
)

__all__ = ["Address", "MemoryListener", "MemoryNetwork", "MemoryStream", "Network", "memory_stream_pair", "refused"]

StreamT = TypeVar("StreamT", bound=trio.abc.HalfCloseableStream)


@dataclass
class _Weather:
    """What a connection to one address meets on its way."""

    delay: float = 0.0
    error: OSError | None = None
    black_hole: bool = False
    healed: trio.Event = field(default_factory=trio.Event)


class Network(abc.ABC, Generic[StreamT]):
    """Addresses, and what happens to connections on their way to them.

    ``connect`` has the shape of ``trio.open_tcp_stream``, so it plugs in wherever a gateway asks for a connection. Host
    names are compared as they are written; nothing is resolved. A test that is written against this class runs in
    memory and over real sockets.
    """

    def __init__(self) -> None:
        self.connects: list[Address] = []
        """Every connection attempt in order, refused and lost ones included."""
        self._weather: dict[Address, _Weather] = {}
        self._unknown_names: set[str] = set()

    @abc.abstractmethod
    def listen(self, host: str, port: int = 0) -> trio.abc.Listener[StreamT]:
        """Listen at ``host:port``; port 0 takes a free one.

        :raises OSError: ``EADDRINUSE``.
        """

    @abc.abstractmethod
    async def _reach(self, address: Address, source: str) -> StreamT:
        """Connect in fine weather."""

    async def connect(self, host: str, port: int, *, source: str = "127.0.0.1") -> StreamT:
        """Connect to ``host:port``, seen there as coming from the address ``source``.

        Cancelled on its way, it leaves nothing behind.

        :raises ConnectionRefusedError: nobody listens there.
        :raises socket.gaierror: the name was declared unknown (:meth:`unknown_name`).
        :raises OSError: whatever :meth:`fail` was told.
        """
        await trio.lowlevel.checkpoint()
        address = (host, port)
        self.connects.append(address)
        if host in self._unknown_names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        weather = self._weather.get(address, _Weather())
        if weather.black_hole:
            await weather.healed.wait()
        if weather.delay:
            await trio.sleep(weather.delay)
        if weather.error is not None:
            # A fresh one for each: an exception raised twice gathers the tracebacks of both.
            raise type(weather.error)(*weather.error.args)
        return await self._reach(address, source)

    def black_hole(self, host: str, port: int) -> None:
        """From now on, connecting there never returns: packets to it get lost. :meth:`heal` lets them through."""
        self._weather.setdefault((host, port), _Weather()).black_hole = True

    def delay(self, host: str, port: int, seconds: float) -> None:
        """From now on, connecting there takes ``seconds``, whatever comes of it."""
        self._weather.setdefault((host, port), _Weather()).delay = seconds

    def fail(self, host: str, port: int, error: OSError) -> None:
        """From now on, connecting there raises a copy of ``error``, e.g. ``OSError(errno.EHOSTUNREACH, "…")``."""
        self._weather.setdefault((host, port), _Weather()).error = error

    def unknown_name(self, host: str) -> None:
        """From now on, ``host`` is a name that does not resolve, on any port."""
        self._unknown_names.add(host)

    def heal(self, host: str, port: int) -> None:
        """Take back all of the above; connections waiting in the black hole go on."""
        self._unknown_names.discard(host)
        weather = self._weather.pop((host, port), None)
        if weather is not None:
            weather.delay = 0.0
            weather.error = None
            weather.healed.set()


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """A listening address. A connection is made before it is accepted, as the kernel does it, up to ``backlog``."""

    def __init__(
        self, address: Address, *, buffer_size: int, backlog: int, on_close: Callable[["MemoryListener"], None]
    ) -> None:
        self.local_address = address
        self.buffer_size = buffer_size
        self.backlog = backlog
        self._on_close = on_close
        self._pending: deque[MemoryStream] = deque()
        self._closed = False
        self._acceptable = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._pending)} waiting to be accepted"
        return f"<MemoryListener {address_text(self.local_address)}, {state}>"

    async def accept(self) -> MemoryStream:
        """Wait for a connection and return its server end.

        :raises trio.ClosedResourceError: closed here, before or meanwhile.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._pending:
            if self._closed:
                raise trio.ClosedResourceError("this listener is closed")
            await self._acceptable.park()
        stream = self._pending.popleft()
        stream.opened_by = task_name()
        self._room.unpark()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return stream

    async def deliver(self, make: Callable[[], tuple[MemoryStream, MemoryStream]]) -> MemoryStream:
        """Queue the server end of what ``make`` makes and return the client's; wait while the backlog is full.

        :raises ConnectionRefusedError: closed while waiting.
        """
        while len(self._pending) >= self.backlog and not self._closed:
            await self._room.park()
        if self._closed:
            raise refused(self.local_address)
        client, server = make()
        self._pending.append(server)
        self._acceptable.unpark()
        return client

    def close(self) -> None:
        """Stop listening: connections not yet accepted are reset, further ones refused."""
        if self._closed:
            return
        self._closed = True
        self._on_close(self)
        while self._pending:
            self._pending.popleft().reset()
        self._acceptable.unpark_all()
        self._room.unpark_all()

    async def aclose(self) -> None:
        """Close as :meth:`close` does, and checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()


class MemoryNetwork(Network[MemoryStream]):
    """The network in memory; it knows of every connection on it, and ``repr`` tells who left which open."""

    def __init__(self, *, buffer_size: int = BUFFER_SIZE) -> None:
        super().__init__()
        self.buffer_size = buffer_size
        self._listeners: dict[Address, MemoryListener] = {}
        self._open: dict[MemoryStream, None] = {}  # a set that keeps the order of opening
        self._next_port = FIRST_EPHEMERAL_PORT

    def __repr__(self) -> str:
        lines = [f"<MemoryNetwork: {len(self._listeners)} listeners, {len(self._open)} open streams>"]
        lines += [f"  {listener!r}" for listener in self._listeners.values()]
        lines += [f"  {stream!r}" for stream in self._open]
        return "\n".join(lines)

    @property
    def open_streams(self) -> list[MemoryStream]:
        """Every end of a connection that nobody has closed, oldest first, those not yet accepted included."""
        return list(self._open)

    @property
    def listeners(self) -> list[MemoryListener]:
        """Everything that listens."""
        return list(self._listeners.values())

    def listen(
        self, host: str, port: int = 0, *, buffer_size: int | None = None, backlog: int = 4096
    ) -> MemoryListener:
        """Listen at ``host:port``; port 0 takes a free one (see ``listener.local_address``).

        ``buffer_size`` is that of each direction of its connections, in bytes; ``backlog`` how many connections may
        wait to be accepted.

        :raises OSError: ``EADDRINUSE``.
        """
        address = (host, port or self._free_port())
        if address in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {address_text(address)}")
        listener = MemoryListener(
            address, buffer_size=buffer_size or self.buffer_size, backlog=backlog, on_close=self._forget_listener
        )
        self._listeners[address] = listener
        return listener

    async def _reach(self, address: Address, source: str) -> MemoryStream:
        listener = self._listeners.get(address)
        if listener is None:
            raise refused(address)
        here = (source, self._free_port())
        return await listener.deliver(lambda: self._pair(here, address, listener.buffer_size))

    def _free_port(self) -> int:
        self._next_port += 1
        return self._next_port - 1

    def _pair(self, client: Address, server: Address, buffer_size: int) -> tuple[MemoryStream, MemoryStream]:
        near, far = memory_stream_pair(buffer_size, client=client, server=server, on_close=self._open.pop)
        far.opened_by = "nobody yet: not accepted"
        self._open[near] = self._open[far] = None
        return near, far

    def _forget_listener(self, listener: MemoryListener) -> None:
        del self._listeners[listener.local_address]


def refused(address: Address) -> ConnectionRefusedError:
    """What connecting says where nobody listens."""
    return ConnectionRefusedError(errno.ECONNREFUSED, f"{os.strerror(errno.ECONNREFUSED)}: {address_text(address)}")
