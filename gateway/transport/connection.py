"""One HTTP/1.1 connection to a backend. It carries one exchange at a time.

Nothing waits here but reads and writes of the stream, and the pieces of the caller's body. Errors are httpx's own:
``WriteError`` and ``ReadError`` where the network broke, ``RemoteProtocolError`` where the backend's bytes are no
answer, ``LocalProtocolError`` where the request is none.

A connection that an exchange has left in any other way than by its regular end is not fit for another one, and
``reusable`` says so. Cancelled at any point, the caller aborts it.
"""

from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass

import httpx
import trio

from gateway.errors import Phase
from gateway.http1 import (
    Decoder,
    ProtocolError,
    RawHeaders,
    ResponseHead,
    Truncated,
    encode_chunk,
    encode_last_chunk,
    find_head_end,
    may_become_response,
    parse_response_head,
    serialize_request_head,
)
from gateway.transport.streams import (
    NothingSent,
    Stream,
    abort,
    is_readable,
    plain,
    receive_some,
    tells_of_reset,
)

READ_SIZE = 65_536
"""Bytes asked of the stream at once; also all that is held of an answer whose reader is slow."""
MAX_INFORMATIONAL = 64
"""1xx responses before a final one. More is not progress but a way to keep us reading for ever."""


def _no_phase(_phase: Phase) -> None:
    """Nobody asked."""


@dataclass(slots=True)
class Hooks:
    """What a caller may lend to one request, as ``request.extensions["gateway"]``. Each part may be left out."""

    nursery: trio.Nursery | None = None
    """Where the upload of a streamed body runs, so that the answer may come before it ends. Without one the whole body
    is written first, as every simple client does it."""
    enter_phase: Callable[[Phase], object] = _no_phase
    """Called as the request gets from one phase to the next."""
    informational: Callable[[int, RawHeaders], Awaitable[None]] | None = None
    """Awaited with each 1xx response, 101 apart."""


def _no_trailers() -> RawHeaders:
    """Nobody has any."""
    return []


@dataclass(slots=True)
class Request:
    """A request with its framing decided: ``headers`` have its fields, and ``Connection`` where one is to go out."""

    method: bytes
    target: bytes
    headers: RawHeaders
    body: bytes | AsyncIterable[bytes]
    length: int | None
    """Bytes of the body, or None where it goes out in chunks."""
    keep_alive: bool = True
    trailers: Callable[[], RawHeaders] = _no_trailers
    """The fields behind a body that goes out in chunks; asked for once that is over."""


class Connection:
    """See the module's docstring. Made by a pool, of an open stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = plain(stream)
        self._buffer = bytearray()
        self._head: ResponseHead | None = None
        self._request_sent = False
        self._keep_alive = True
        self._reset_while_writing = False
        self.exchanges = 0
        """How many exchanges it has begun."""
        self.answering = False
        """Whether a byte has come since the current exchange began."""
        self.untouched = False
        """Whether not a byte of the current request could be written: nobody can have acted on it."""

    def __repr__(self) -> str:
        state = "idle" if self.reusable else "answering" if self.answering else "busy"
        return f"<Connection {state}, {self.exchanges} exchanges>"

    @property
    def reusable(self) -> bool:
        """Whether the exchange is over, both ways, and left the connection fit for another one."""
        return (
            self._keep_alive
            and self._request_sent
            and self._head is not None
            and self._head.keep_alive
            and self._head.body.done
            and not self._head.body.rest
            and not self._buffer
        )

    @property
    def at_end(self) -> bool:
        """Whether the answer's body is complete."""
        return self._head is not None and self._head.body.done

    @property
    def trailers(self) -> RawHeaders:
        """The fields behind the answer's body; known once it is complete."""
        return self._head.body.trailers if self._head is not None else []

    def is_stale(self) -> bool:
        """Whether the backend has closed an idle connection, or sent what nobody asked for."""
        return is_readable(self._stream)

    def abort(self) -> None:
        """Close at once. An upload under way notices and ends."""
        self._keep_alive = False
        abort(self._stream)

    async def exchange(self, request: Request, hooks: Hooks) -> ResponseHead:
        """Send the request and return the head of the final answer; the body is then read by ``read_body``.

        With a streamed body and a nursery to run it in, the upload may outlive this call.
        """
        self.exchanges += 1
        self.answering = False
        self.untouched = False
        self._head = None
        self._request_sent = False
        self._keep_alive = request.keep_alive
        try:
            head = serialize_request_head(request.method, request.target, request.headers)
        except ValueError as error:
            raise httpx.LocalProtocolError(str(error)) from error
        hooks.enter_phase(Phase.SEND)
        if isinstance(request.body, bytes):
            await self._write_all(head, request, request.body, hooks)
        # The head goes out here and now, whoever uploads the body: nothing that comes before it is an answer to it.
        elif await self._write_first(head):
            if hooks.nursery is not None:
                hooks.nursery.start_soon(self._upload, request, request.body, hooks, name="upload")
            else:
                await self._upload(request, request.body, hooks)
        self._head = await self._read_head(request.method, hooks)
        return self._head

    def take_buffered(self) -> bytes:
        """Content that came along with the head, without waiting; it may be nothing. Raises as ``read_body``."""
        if self._head is None:
            raise RuntimeError("there is no answer to read")
        if not self._buffer or self._head.body.done:
            return b""
        data = bytes(self._buffer)
        self._buffer.clear()
        return self._decode(self._head.body, data)

    async def read_body(self) -> bytes:
        """The next piece of the answer's content as it came off the wire, ``b""`` once it is complete."""
        if content := self.take_buffered():
            return content
        assert self._head is not None  # noqa: S101 -- for the type checker; take_buffered has looked
        decoder = self._head.body
        while not decoder.done:
            if content := self._decode(decoder, await self._receive()):
                return content
        return b""

    def _decode(self, decoder: Decoder, data: bytes) -> bytes:
        try:
            if data:
                return decoder.feed(data)
            decoder.feed_eof()
        except Truncated as error:
            raise httpx.ReadError(str(error)) from error
        except ProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        return b""

    # Writing. A write that fails is no failure of the exchange yet: the backend may have answered and closed, as one
    # does that refuses a large upload. So the reader goes on and decides.

    async def _write_all(self, head: bytes, request: Request, body: bytes, hooks: Hooks) -> None:
        if request.length is None:
            body = (encode_chunk(body) if body else b"") + encode_last_chunk(request.trailers())
        elif len(body) != request.length:
            raise httpx.LocalProtocolError("the body is not as long as its Content-Length")
        if await self._write_first(head + body):
            self._request_sent = True
            hooks.enter_phase(Phase.FIRST_BYTE)

    async def _upload(self, request: Request, body: AsyncIterable[bytes], hooks: Hooks) -> None:
        left = request.length
        try:
            async for piece in body:
                if not piece:
                    continue
                if left is None:
                    await self._stream.send_all(encode_chunk(piece))
                    continue
                left -= len(piece)
                if left < 0:
                    break
                await self._stream.send_all(piece)
            if left is None:
                await self._stream.send_all(encode_last_chunk(request.trailers()))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._write_failed(error)
            return
        if left:
            raise httpx.LocalProtocolError("the body is not as long as its Content-Length")
        self._request_sent = True
        hooks.enter_phase(Phase.FIRST_BYTE)

    def _write_failed(self, error: Exception) -> None:
        self._keep_alive = False
        self._reset_while_writing = tells_of_reset(error)

    async def _write_first(self, data: bytes) -> bool:
        """Write what no byte of the request has gone before. Gives whether that went well."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.untouched = isinstance(error, NothingSent)
            self._write_failed(error)
            return False
        return True

    # Reading

    async def _read_head(self, method: bytes, hooks: Hooks) -> ResponseHead:
        informational = 0
        searched = 0
        while True:
            try:
                end = find_head_end(self._buffer, searched)
                if end < 0:
                    if not may_become_response(self._buffer):
                        raise httpx.RemoteProtocolError("the backend's answer does not begin as HTTP/1 does")
                    searched = len(self._buffer)
                    data = await self._receive(patiently=True)
                    if not data:
                        raise httpx.ReadError("the backend closed the connection before its answer was complete")
                    self._buffer += data
                    continue
                head = parse_response_head(bytes(self._buffer[:end]), method=method)
            except ProtocolError as error:
                raise httpx.RemoteProtocolError(str(error)) from error
            del self._buffer[:end]
            searched = 0
            if head.status >= 200:
                # With no body to come, what is left in the buffer belongs to nobody, and ``reusable`` looks there.
                return head
            if head.status == 101:
                raise httpx.RemoteProtocolError("the backend switches protocols unasked")
            informational += 1
            if informational > MAX_INFORMATIONAL:
                raise httpx.RemoteProtocolError("the backend sends informational responses without end")
            if hooks.informational is not None:
                await hooks.informational(head.status, head.headers)

    async def _receive(self, *, patiently: bool = False) -> bytes:
        try:
            data = await receive_some(self._stream, READ_SIZE, patiently=patiently)
        except trio.BrokenResourceError as error:
            raise httpx.ReadError("the backend reset the connection") from error
        except trio.ClosedResourceError as error:
            raise httpx.ReadError("the connection was closed") from error
        if data:
            self.answering = True
        elif self._reset_while_writing:
            raise httpx.ReadError("the backend reset the connection")
        return data
