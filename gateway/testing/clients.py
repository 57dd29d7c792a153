"""Clients: httpx on a network of the kit, and raw bytes.

What lives here: the door between a network and httpcore's public interface for one, so that the HTTP that is spoken to
the gateway is not the gateway's own; and a raw client for everything that a decent client would not say. What never
will: a client of our own that is decent.
"""

import math
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

import httpcore
import httpx
import trio

from gateway.testing import sockets
from gateway.testing.network import Network
from gateway.testing.peer import Peer, Response

HEAD_ENDS = b"\r\n\r\n"


class _Stream(httpcore.AsyncNetworkStream):
    """A stream of the kit, as httpcore wants it. Its timeouts run on trio's clock, as everything here."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's interface
        try:
            with trio.fail_after(_seconds(timeout)):
                return bytes(await self._stream.receive_some(max_bytes))
        except trio.TooSlowError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's interface
        try:
            with trio.fail_after(_seconds(timeout)):
                await self._stream.send_all(buffer)
        except trio.TooSlowError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        sockets.close(self._stream)
        await trio.lowlevel.checkpoint()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
    ) -> httpcore.AsyncNetworkStream:
        secure: Any = trio.SSLStream(self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True)
        try:
            with trio.fail_after(_seconds(timeout)):
                await secure.do_handshake()
        except BaseException as error:
            sockets.close(self._stream)  # httpcore forgets it
            if isinstance(error, trio.TooSlowError):
                raise httpcore.ConnectTimeout(str(error)) from error
            if isinstance(error, trio.BrokenResourceError):
                raise httpcore.ConnectError(str(error.__cause__ or error)) from error
            raise
        return _Stream(secure)

    def get_extra_info(self, info: str) -> Any:
        carrier = sockets.carrier(self._stream)
        if info == "is_readable":
            return carrier.socket.is_readable() if isinstance(carrier, trio.SocketStream) else carrier.is_readable()
        if info == "ssl_object" and isinstance(self._stream, trio.SSLStream):
            return self._stream
        return None


class _NetworkBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, network: Network[Any], source: str) -> None:
        self._network = network
        self._source = source

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - httpcore's interface
    ) -> httpcore.AsyncNetworkStream:
        try:
            with trio.fail_after(_seconds(timeout)):
                return _Stream(await self._network.connect(host, port, source=local_address or self._source))
        except trio.TooSlowError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error


class _Upload(httpx.AsyncByteStream):
    """A request's body that can be closed before its end.

    httpx makes bodies of async generators and closes none of them when an exchange breaks off in the middle. Trio then
    warns of what the garbage collector finds, some time later, in another test.
    """

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._chunks = aiter(stream)
        self._given = getattr(stream, "_stream", None)
        """What the test gave, where that was a generator: it stands behind httpx's."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def aclose(self) -> None:
        for generator in (self._chunks, self._given):
            if isinstance(generator, AsyncGenerator):
                await generator.aclose()


class _Transport(httpx.AsyncHTTPTransport):
    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        super().__init__(verify=False)
        self._pool = pool  # httpx has no parameter for it, and its mapping of exceptions is wanted

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)  # noqa: S101 - for the type checker: an AsyncClient's is
        request.stream = upload = _Upload(request.stream)
        try:
            return await super().handle_async_request(request)
        finally:
            await upload.aclose()


def http_client(
    network: Network[Any],
    *,
    http2: bool = False,
    base_url: str = "http://gateway",
    source: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> httpx.AsyncClient:
    """Make an httpx client on ``network`` that speaks HTTP/1.1, or HTTP/2 and nothing else (prior knowledge, or ALPN).

    ``source`` is the address it comes from. ``options`` are httpx.AsyncClient's; there is no timeout unless one is
    given, so that what a test sees end was ended by the gateway.
    """
    transport = http_transport(network, http2=http2, source=source, tls=tls)
    return httpx.AsyncClient(transport=transport, base_url=base_url, **{"timeout": None, **options})


def http_transport(
    network: Network[Any],
    *,
    http2: bool = False,
    source: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    max_connections: int | None = None,
) -> httpx.AsyncHTTPTransport:
    """Make httpx's own transport on ``network``, with httpcore's pool of at most ``max_connections``."""
    pool = httpcore.AsyncConnectionPool(
        ssl_context=tls,
        http1=not http2,
        http2=http2,
        max_connections=max_connections,
        network_backend=_NetworkBackend(network, source),
    )
    return _Transport(pool)


class RawClient(Peer):
    """A client that sends the bytes it is told."""

    async def read_head_of_response(self) -> Response:
        """Read the head of a response and leave its body. :raises PeerGoneError: it did not come, or not whole."""
        return Response.parse(await self.read_until(HEAD_ENDS))

    async def read_response(self, *, method: bytes = b"GET") -> Response:
        """Read a response; a 1xx is one of its own. ``method`` is what was asked: HEAD is answered without a body.

        A body without any length ends with the connection; ``was_reset`` tells an end from a reset.

        :raises PeerGoneError: it did not come, or broke off.
        """
        response = await self.read_head_of_response()
        if method != b"HEAD" and response.status >= 200 and response.status not in (204, 304):
            await self.read_body_of(response, to_end=True)
        return response


async def raw_client(
    network: Network[Any], host: str = "gateway", port: int = 80, *, source: str = "127.0.0.1"
) -> RawClient:
    """Connect a raw client. It is closed at the end of ``async with``.

    :raises OSError: as Network.connect.
    """
    return RawClient(await network.connect(host, port, source=source))


def _seconds(timeout: float | None) -> float:
    return math.inf if timeout is None else timeout
