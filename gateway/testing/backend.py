r"""Backends that do what a script says, byte by byte and second by second, in memory and over real sockets.

    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel")
        await conn.sleep(29)
        conn.reset()

    async with Backend(network, "service1", 8001, script) as backend:
        ...

What lives here: connections handed to scripts, and the two scripts that every test wants. What never will: a server.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeAlias

import trio

from gateway.server.failures import plain_errors
from gateway.testing.network import MemoryListener, Network
from gateway.testing.peer import Peer, PeerGoneError, Request

HEAD_ENDS = b"\r\n\r\n"


class UnexpectedConnectionError(AssertionError):
    """A connection came for which there is no script in the list."""


class Connection(Peer):
    """One connection to a backend, in the hands of its script."""

    def __init__(self, stream: trio.abc.Stream, number: int) -> None:
        super().__init__(stream)
        self.number = number
        """0 for the backend's first connection."""
        self.requests: list[Request] = []
        """What :meth:`read_head` has read."""
        self.finished = trio.Event()
        """Set once the script is over and the connection closed."""

    async def read_head(self) -> Request:
        """Read a request's head. :raises PeerGoneError: it did not come, or not whole."""
        request = Request.parse(await self.read_until(HEAD_ENDS))
        self.requests.append(request)
        return request

    async def peek_head(self) -> Request:
        """Read a request's head and leave it to be read. :raises PeerGoneError: it did not come, or not whole."""
        head = await self.read_until(HEAD_ENDS)
        self.unread(head)
        return Request.parse(head)

    async def read_body(self) -> bytes:
        """Read the body of the request whose head was read last. :raises PeerGoneError: it broke off."""
        await self.read_body_of(self.requests[-1], to_end=False)
        return self.requests[-1].body

    async def read_request(self) -> Request:
        """Read a request, head and body."""
        request = await self.read_head()
        await self.read_body()
        return request


Script: TypeAlias = Callable[[Connection], Awaitable[None]]
"""What a backend does with a connection. When it returns, the connection is closed; a PeerGoneError ends it quietly."""


class Backend:
    """Serves each connection to ``host:port`` in a task of its own, by ``script``.

    A list of scripts is for one connection each, in order; a connection too many is reset and raises
    UnexpectedConnectionError. What a script raises, but for PeerGoneError, fails the test. With ``tls`` it speaks TLS.
    Without ``keep``, connections that are over are forgotten: there may be too many of them.

    It listens from the moment it is made, and serves within ``async with``, or as ``nursery.start(backend.run)``. On
    cancellation everything is closed at once.
    """

    def __init__(  # noqa: PLR0913 - all but the first four have a default
        self,
        network: Network[Any],
        host: str,
        port: int,
        script: Script | Sequence[Script],
        *,
        tls: ssl.SSLContext | None = None,
        keep: bool = True,
    ) -> None:
        self.host = host
        self.port = port
        self.connections: list[Connection] = []
        """Every connection so far, in order of acceptance, closed ones included unless they are not kept."""
        self._script = script
        self._keep = keep
        listener: trio.abc.Listener[Any] = network.listen(host, port)
        self._listener = listener if tls is None else trio.SSLListener(listener, tls, https_compatible=True)
        self._accepted = 0
        self._came = trio.lowlevel.ParkingLot()
        self._background = AsyncExitStack()

    @property
    def requests(self) -> list[Request]:
        """Every request whose head was read, connection by connection."""
        return [request for connection in self.connections for request in connection.requests]

    async def connection(self, number: int = 0) -> Connection:
        """Wait for the connection of that number."""
        while len(self.connections) <= number:
            await self._came.park()
        return self.connections[number]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with self._listener, trio.open_nursery() as nursery:
            task_status.started()
            while True:
                try:
                    stream = await self._listener.accept()
                except trio.ClosedResourceError:  # stopped; the connections go on
                    return
                connection = Connection(stream, self._accepted)
                self._accepted += 1
                self.connections.append(connection)
                nursery.start_soon(
                    self._serve, connection, name=f"backend {self.host}:{self.port} #{connection.number}"
                )
                self._came.unpark_all()

    def stop(self) -> None:
        """Listen no more: from now on connections are refused, and another backend may take the address.

        Those that are there go on. Harmless when repeated.
        """
        carrier = self._listener.transport_listener if isinstance(self._listener, trio.SSLListener) else self._listener
        if isinstance(carrier, MemoryListener):
            carrier.close()
        elif isinstance(carrier, trio.SocketListener):
            carrier.socket.close()

    async def __aenter__(self) -> Self:
        await self._background.enter_async_context(_in_background(self.run))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._background.__aexit__(kind, error, traceback)

    async def _serve(self, connection: Connection) -> None:
        try:
            await self._script_for(connection)(connection)
        except PeerGoneError:
            pass
        except trio.ClosedResourceError:
            if not connection.closed:  # a test may close or reset it in the midst of its script
                raise
        except UnexpectedConnectionError:
            connection.reset()
            raise
        finally:
            connection.close()
            connection.finished.set()
            if not self._keep:
                self.connections.remove(connection)

    def _script_for(self, connection: Connection) -> Script:
        if callable(self._script):
            return self._script
        if connection.number >= len(self._script):
            raise UnexpectedConnectionError(
                f"connection {connection.number + 1} to {self.host}:{self.port}, but scripts for {len(self._script)}"
            )
        return self._script[connection.number]


@asynccontextmanager
async def _in_background(run: Callable[..., Awaitable[None]]) -> AsyncIterator[None]:
    # A failure in the body or in a script comes out as it is, not in a group: a test reads better so.
    with plain_errors():
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield
            nursery.cancel_scope.cancel()


def response(status: int = 200, headers: Iterable[tuple[bytes, bytes]] = (), body: bytes = b"") -> bytes:
    """Bytes of a response with a ``content-length``."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"HTTP/1.1 %d \r\n%bcontent-length: %d\r\n\r\n%b" % (status, b"".join(lines), len(body), body)


def respond(status: int = 200, headers: Iterable[tuple[bytes, bytes]] = (), body: bytes = b"") -> Script:
    """Make a script that answers every request on the connection with the same response."""
    answer = response(status, headers, body)

    async def script(conn: Connection) -> None:
        while True:
            await conn.read_request()
            await conn.send(answer)

    return script


def hang() -> Script:
    """Make a script that takes everything and never answers."""

    async def script(conn: Connection) -> None:
        await conn.read_head()
        await conn.wait_closed()

    return script
