"""The request's body, pulled from the client's side when the backend's side has room for it."""

from typing import TYPE_CHECKING, Self

import trio

from gateway import headers
from gateway.errors import BadRequest, GatewayError
from gateway.http1 import RawHeaders

if TYPE_CHECKING:
    from gateway.forward.tree import Tree

READ_AHEAD_SECONDS = 0.05
"""Clients that write head and body apart do so within less."""
SMALL_BODY = 16_384
"""Bytes that any socket's send buffer takes at once."""


class ClientBody:
    """The request's body, pulled from the server one message at a time, when the backend has room for it.

    A failure is not raised into the transport, whose failure it is not: the tree is told, and cancels us.
    """

    def __init__(self, tree: "Tree") -> None:
        self._tree = tree
        scope = tree.exchange.scope
        self.announced: int | None = None
        self.expects_continue = False
        chunked = False
        for name, value in scope["headers"]:
            match len(name):  # tells nearly every other field apart without lowering its case
                case 14 if name.lower() == b"content-length" and value.isdigit():
                    self.announced = int(value)
                case 17 if name.lower() == b"transfer-encoding":
                    chunked = True
                case 6 if name.lower() == b"expect" and value.lower() == b"100-continue":
                    self.expects_continue = True
        # Over HTTP/1.1 the head says whether a body comes; over HTTP/2 only the first message does.
        self.ended = self.announced == 0 or (self.announced is None and not chunked and scope["http_version"] != "2")
        self._extension = (scope.get("extensions") or {}).get("http.request.body")
        # Who has sent it, or the end of it, does not wait for anybody; nor does HTTP/1.0 (RFC 9110 section 10.1.1).
        waits = not (self.ended or self._is_here or scope["http_version"] == "1.0")
        self.expects_continue = self.expects_continue and waits
        self.first = b""
        # Over HTTP/2 a body may come unannounced; with Expect nobody looks at it before its head has gone out.
        self.goes_in_chunks = chunked or (self.expects_continue and self.announced is None)
        self.trailers: RawHeaders = []
        """The fields behind it that may go on; known once it has ended."""
        self.counted: int | None = None
        """Its length, where nobody announced it and it was whole at the first look: HTTP/1.1 has to be told."""

    async def read_ahead(self) -> None:
        """Wait a moment for the first piece, so that a body which is whole with it can travel along with the head.

        No longer than a moment: a client may say nothing more before the backend has said something. Where the server
        cannot tell that the piece is there, it is waited for: to set a clock costs more than to read.
        """
        if self._extension is None or self._is_here:
            self.first = await self._pull()
            self._decide_framing()
            return
        with trio.move_on_after(READ_AHEAD_SECONDS) as moment:
            self.first = await self._pull()
        if moment.cancelled_caught:
            self._tree.client_not_read()
        self._decide_framing()

    def _decide_framing(self) -> None:
        if self.announced is None and not self.goes_in_chunks:
            if not self.ended or self.trailers:
                self.goes_in_chunks = True
            elif self.first:
                self.counted = len(self.first)

    @property
    def _is_here(self) -> bool:
        """Whether some of it, or its end, has come; False too where the server cannot tell."""
        return self._extension is not None and bool(self._extension["is_ready"]())

    @property
    def length(self) -> int | None:
        """Bytes of it, as the backend is told; None where it goes in chunks."""
        if self.goes_in_chunks:
            return None
        return self.counted or 0 if self.announced is None else self.announced

    @property
    def is_small(self) -> bool:
        """Whether it is whole and goes out in one write with the head, before the answer is looked for.

        A larger one could fill what lies between us and a backend that answers without reading it; so that is
        uploaded by a task of its own, while the answer is read.
        """
        return self.ended and len(self.first) <= SMALL_BODY

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. A body that is refused does not raise: the tree is cancelled, and this with it."""
        if self.first:
            piece, self.first = self.first, b""
            return piece
        if self.ended:
            self._tree.watch_client()
            raise StopAsyncIteration
        await self._tree.wait_to_upload()
        return await self._pull()

    async def _pull(self) -> bytes:
        message = await self._tree.read_client()
        exchange = self._tree.exchange
        piece: bytes = message.get("body", b"")
        exchange.bytes_in += len(piece)
        self.ended = not message.get("more_body", False)
        if self.ended and self._extension is not None and self._extension["trailers"]:
            self.trailers = headers.trailer_fields(self._extension["trailers"], BadRequest)
        failure: GatewayError | None = None
        if exchange.bytes_in > self._tree.upstream.max_body_size:
            failure = self._tree.too_large()
        elif self.announced is not None and (
            exchange.bytes_in > self.announced or (self.ended and exchange.bytes_in < self.announced)
        ):
            failure = BadRequest("the request body is not as long as its Content-Length")
        if failure is not None:
            self._tree.fail(failure)
            await trio.sleep_forever()
        return piece
