"""What takes a request to its backend and gives the answer: our transport as it is, or any other one of httpx.

What lives here: the form in which ``tree`` sees a transport, and another one's requests and answers put into it. Ours
is spoken to directly, since httpx's request and response cost more than all that it does itself.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Protocol, Self, cast

import httpx

from gateway.errors import BadResponse
from gateway.headers import check_response
from gateway.http1 import RawHeaders
from gateway.transport import BackendTransport, Hooks, Request


class Head(Protocol):
    """The status line and the header section of an answer."""

    @property
    def status(self) -> int:
        """The status of a final answer."""

    @property
    def http_version(self) -> str:
        """The backend's, as ``1.1`` or ``2``."""

    @property
    def headers(self) -> RawHeaders:
        """Names and values as they came."""


class Answer(Protocol):
    """An answer whose head has come."""

    @property
    def head(self) -> Head:
        """See Head."""

    @property
    def at_end(self) -> bool:
        """Whether what was read so far is known to be the whole body."""

    @property
    def trailers(self) -> RawHeaders:
        """The trailer section, once the body is complete."""

    def take_buffered(self) -> bytes:
        """What came of the body along with the head. Raises as the iteration does."""

    def __aiter__(self) -> Self:
        """The body's pieces, from where it was left off."""

    async def __anext__(self) -> bytes:
        """The next piece. Raises httpx.TransportError where the body broke off."""

    async def aclose(self) -> None:
        """Let go of it. Before the body's end that closes the connection."""


Carrier = Callable[[Request, Hooks], Awaitable[Answer]]
"""Sends a request and gives the answer once its head has come. Raises httpx.TransportError."""


def carrier_of(transport: httpx.AsyncBaseTransport, origin: str) -> Carrier:
    """The way to ``origin`` ("https://host:port"). A subclass of ours is asked for ``send``, not for httpx's method."""
    url = httpx.URL(origin)
    if isinstance(transport, BackendTransport):
        return partial(transport.send, transport.pool(url.scheme, url.host, url.port))
    return partial(send_by_httpx, transport, url)


async def send_by_httpx(
    transport: httpx.AsyncBaseTransport, origin: httpx.URL, request: Request, hooks: Hooks
) -> Answer:
    """Have another transport send it. It sees the exact target, and a path where the target's bytes make one.

    Raises BadResponse where its answer has a malformed field.
    """
    body = request.body
    outgoing = httpx.Request(
        "",
        url_of(origin, request.target),
        headers=request.headers,
        stream=httpx.ByteStream(body) if isinstance(body, bytes) else _Upload(body),
        extensions={"target": request.target, "gateway": hooks},
    )
    outgoing.method = request.method.decode("latin-1")  # its constructor would change the case
    answer = HttpxAnswer(await transport.handle_async_request(outgoing))
    try:
        check_response(answer.headers)
    except BadResponse:  # nobody else has the answer yet, to close it
        await answer.aclose()
        raise
    return answer


class _Upload(httpx.AsyncByteStream):
    """A body in pieces in the form that httpx's own transport insists on."""

    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._pieces)


def url_of(origin: httpx.URL, target: bytes) -> httpx.URL:
    """The URL of a request; the origin's where the target makes none."""
    try:
        return origin.copy_with(raw_path=target)
    except httpx.InvalidURL:
        return origin


class HttpxAnswer:
    """An answer of another transport. It knows its end only when it has got there."""

    def __init__(self, response: httpx.Response) -> None:
        self._stream = cast("httpx.AsyncByteStream", response.stream)
        self._pieces: AsyncIterator[bytes] | None = None
        self.status = response.status_code
        self.headers: RawHeaders = response.headers.raw
        version: bytes = response.extensions.get("http_version", b"HTTP/1.1")
        self.http_version = version.removeprefix(b"HTTP/").decode("ascii")
        self.at_end = False

    @property
    def head(self) -> Self:
        """See Answer. Itself, and not kept, which would be a cycle."""
        return self

    @property
    def trailers(self) -> RawHeaders:
        """See Answer. httpx has no word for them; a stream may have."""
        return list(getattr(self._stream, "trailers", ()))

    def take_buffered(self) -> bytes:
        """See Answer. Nobody can tell without waiting."""
        return b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """See Answer."""
        if self._pieces is None:
            self._pieces = aiter(self._stream)
        piece = await anext(self._pieces)
        self.at_end = getattr(self._stream, "at_end", False)
        return piece

    async def aclose(self) -> None:
        """See Answer. Another transport may wait here, so it gets the scope as it is: cancelled, it closes at once."""
        await self._stream.aclose()
