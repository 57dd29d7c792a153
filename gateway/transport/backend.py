"""``BackendTransport``: the pools behind httpx's transport interface.

Any httpx client can use it, and the gateway can use any other httpx transport in its place. It differs from
``httpx.AsyncHTTPTransport`` where a proxy needs it to: it is safe under cancellation, reads an answer that comes before
the upload ends, keeps trailers, takes no timeouts (``extensions["timeout"]`` is ignored: use a cancel scope), and sends
a request again only where nobody can have acted on it.
"""

import ssl
from collections.abc import Awaitable, Callable
from typing import Self

import httpx
import trio

from gateway.http1 import RawHeaders, ResponseHead
from gateway.transport.connection import Connection, Hooks, Request
from gateway.transport.pool import MAX_IDLE, Pool
from gateway.transport.streams import Stream, start_tls

SWEEP_INTERVAL = 1.0
"""Seconds of trio's clock between two looks at the idle connections."""
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""RFC 9110 section 9.2.2."""
DEFAULT_PORTS = {"http": 80, "https": 443}

Connect = Callable[[str, int], Awaitable[Stream]]


async def open_tcp(host: str, port: int) -> Stream:
    """Open a TCP connection, racing a name's addresses (RFC 8305). Raises OSError. Cancelled, nothing stays open.

    Where there is one address, nothing is raced: trio would run a nursery, a task and a clock for it all the same. With
    500 connections that hang, those 500 clocks ring in one turn of the loop, and everybody else waits 50 ms for them.
    """
    targets = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    if len(targets) > 1:
        return await _race(host, port)
    ((family, kind, protocol, _, address),) = targets
    sock = trio.socket.socket(family, kind, protocol)
    try:
        await sock.connect(address)
    except OSError as error:
        sock.close()
        raise OSError(f"connecting to {host}:{port} failed") from error
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


async def _race(host: str, port: int) -> Stream:
    try:
        return await trio.open_tcp_stream(host, port)
    except OSError as error:
        # trio keeps the errors of all attempts in a list that their own tracebacks lead to: a cycle for each failure.
        cause = error.__cause__
        for attempt in cause.exceptions if isinstance(cause, BaseExceptionGroup) else [cause]:
            if attempt is not None:
                attempt.__traceback__ = None
        raise


class BackendTransport(httpx.AsyncBaseTransport):
    """Connections to backends, pooled by origin.

    ``max_connections`` bounds the open connections to each origin; 0 sets no bound. ``max_idle`` bounds those that are
    kept open for the next request. ``ssl_context`` is for https origins, the system's trust by default. ``connect``
    opens a stream to a host and port and raises OSError where it cannot.

    ``request.extensions`` may carry ``"gateway"``, a ``Hooks``, and ``"target"``, the exact request target in bytes.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_connections: int = 0,
        max_idle: int = MAX_IDLE,
        connect: Connect = open_tcp,
    ) -> None:
        self._max_idle = max_idle
        self._ssl_context = ssl_context
        self._max_connections = max_connections
        self._connect = connect
        self._pools: dict[tuple[str, str, int], Pool] = {}

    def __repr__(self) -> str:
        return f"<BackendTransport {list(self._pools.values())}>"

    async def __aenter__(self) -> Self:
        return self

    @property
    def leased(self) -> int:
        """Connections that carry an exchange now."""
        return sum(pool.leased for pool in self._pools.values())

    @property
    def idle(self) -> int:
        """Connections that wait for one."""
        return sum(pool.idle for pool in self._pools.values())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; return once the head of the final answer has come.

        Raises httpx.ConnectError, WriteError, ReadError, RemoteProtocolError, LocalProtocolError or
        UnsupportedProtocol. Cancelled, the connection is closed. The answer's stream must be read to its end or closed.
        """
        url = request.url
        hooks = request.extensions.get("gateway") or Hooks()
        answer = await self.send(self.pool(url.scheme, url.host, url.port), frame(request), hooks)
        head = answer.head
        return httpx.Response(
            head.status,
            headers=head.headers,
            stream=answer,
            extensions={"http_version": b"HTTP/1.%d" % head.minor_version, "reason_phrase": head.reason},
        )

    async def send(self, pool: Pool, request: Request, hooks: Hooks) -> "Answer":
        """What ``handle_async_request`` does, without httpx's objects: they cost more than all that is done here."""
        fresh = False
        while True:
            connection = await pool.lease(hooks, fresh=fresh)
            reused = connection.exchanges > 0
            try:
                head = await connection.exchange(request, hooks)
            except (httpx.ReadError, httpx.WriteError):
                stale = reused and not connection.answering and not fresh
                connection.abort()
                pool.give_back(connection)
                if not (stale and (connection.untouched or _may_be_repeated(request))):
                    raise
                fresh = True
            except BaseException:
                connection.abort()
                pool.give_back(connection)
                raise
            else:
                return Answer(head, connection, pool)

    async def watch_idle(self) -> None:
        """Look after idle connections until cancelled, so that one closed by its backend does not linger half closed.

        Every use looks again before it takes one; this is for the sockets, not for safety.
        """
        while True:
            await trio.sleep(SWEEP_INTERVAL)
            self.sweep()

    def sweep(self) -> None:
        """Close what is idle and dead, or idle for long."""
        for pool in self._pools.values():
            pool.sweep()

    async def aclose(self) -> None:
        """Close every connection at once, those under way included."""
        for pool in self._pools.values():
            pool.close()
        await trio.lowlevel.checkpoint()

    def pool(self, scheme: str, host: str, port: int | None) -> Pool:
        """The connections to an origin. Raises httpx.UnsupportedProtocol."""
        if scheme not in DEFAULT_PORTS:
            raise httpx.UnsupportedProtocol(f"the URL's scheme is {scheme!r}, not http or https")
        port = port or DEFAULT_PORTS[scheme]
        key = (scheme, host, port)
        pool = self._pools.get(key)
        if pool is None:

            async def open_connection() -> Connection:
                return await self._open(scheme, host, port)

            pool = Pool(
                open_connection,
                max_connections=self._max_connections,
                max_idle=self._max_idle,
                origin=f"{scheme}://{host}:{port}",
            )
            self._pools[key] = pool
        return pool

    async def _open(self, scheme: str, host: str, port: int) -> Connection:
        try:
            stream = await self._connect(host, port)
            if scheme == "https":
                if self._ssl_context is None:
                    self._ssl_context = ssl.create_default_context()
                stream = await start_tls(stream, self._ssl_context, host)
        except (OSError, UnicodeError) as error:  # a name that IDNA cannot encode
            raise httpx.ConnectError(str(error)) from error
        except trio.BrokenResourceError as error:
            raise httpx.ConnectError(
                f"no TLS with the backend: {error.__cause__ or 'it closed the connection'}"
            ) from error
        return Connection(stream)


class Answer(httpx.AsyncByteStream):
    """One answer: its head, and its body off the wire as it comes. The end of it, or ``aclose``, ends the lease.

    A class and not a generator: an abandoned generator is finished whenever the interpreter gets to it.
    """

    def __init__(self, head: ResponseHead, connection: Connection, pool: Pool) -> None:
        self.head = head
        self._connection: Connection | None = connection
        self._pool = pool
        self.at_end = False
        """Whether what was read so far is the whole body: a proxy can then send the end along with the last piece."""
        self.trailers: RawHeaders = []
        """The trailer section, once the body is complete."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Raises httpx.ReadError where the body broke off, RemoteProtocolError where it is nonsense."""
        if self._connection is None:
            raise StopAsyncIteration
        try:
            piece = await self._connection.read_body()
        except BaseException:
            self._connection.abort()
            self._end()
            raise
        self._look_for_end(self._connection)
        if not piece:
            raise StopAsyncIteration
        return piece

    def take_buffered(self) -> bytes:
        """What came of the body along with the head, without waiting; it may be nothing. Raises as the iteration does.

        A proxy can so send the head and a small body in one write, and learns of nonsense before it has sent anything.
        """
        if self._connection is None:
            return b""
        try:
            piece = self._connection.take_buffered()
        except BaseException:
            self._connection.abort()
            self._end()
            raise
        self._look_for_end(self._connection)
        return piece

    async def aclose(self) -> None:
        """End the lease. Before the body's end that closes the connection. Never waits, so it cannot be cancelled."""
        self._end()

    def _look_for_end(self, connection: Connection) -> None:
        # With its last byte here the connection is free, however long our own reader takes over it.
        if connection.at_end:
            self.at_end = True
            self.trailers = connection.trailers
            self._end()

    def _end(self) -> None:
        if self._connection is not None:
            self._pool.give_back(self._connection)
            self._connection = None


def frame(request: httpx.Request) -> Request:  # noqa: C901 -- one pass over the headers, a case per rule
    """Decide how the body goes out, by the headers the client has set. Raises httpx.LocalProtocolError."""
    headers: RawHeaders = request.headers.raw
    length: int | None = 0
    keep_alive = True
    has_host = names_te = has_te = False
    for name, value in headers:
        match name.lower():
            case b"host":
                has_host = True
            case b"content-length":
                if not value.isdigit():
                    raise httpx.LocalProtocolError("a malformed Content-Length")
                length = int(value)
            case b"transfer-encoding":
                length = None
            case b"connection":
                keep_alive = b"close" not in value.lower()
                names_te = value.lower() == b"te"
            case b"te":
                has_te = True
    if not has_host:
        headers = [(b"Host", request.url.netloc), *headers]
    if has_te and not names_te:
        headers = [*headers, (b"Connection", b"TE")]  # RFC 9110 section 10.1.4
    stream = request.stream
    body = b"".join(stream) if isinstance(stream, httpx.ByteStream) else stream
    if not isinstance(body, bytes) and not isinstance(body, httpx.AsyncByteStream):
        raise httpx.LocalProtocolError("the body is not an asynchronous stream")
    if isinstance(body, httpx.AsyncByteStream) and length == 0:
        body = b""
    target = request.extensions.get("target", request.url.raw_path)
    return Request(request.method.encode("latin-1"), target, headers, body, length, keep_alive)


def _may_be_repeated(request: Request) -> bool:
    """Whether sending a request twice is the same as sending it once: idempotent, and no body that is gone by now."""
    return request.method in IDEMPOTENT and request.body == b""
