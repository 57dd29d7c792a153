"""HTTP/1.1 on one connection: requests in, answers out, and when the connection ends.

What lives here: the order of requests and answers (RFC 9112 section 9), framing of answers, 100 Continue, lingering.
What never will: the grammar of a head (``heads``), of a body (``gateway.http1``), or a socket.

The reader never waits for an app. While a request is in flight it goes on reading: its body into the inbox, pipelined
bytes into a small buffer. So it sees the client leave in every state; when both are full, the connection waits for
the kernel's word instead (``transport.HangupWatch``).
"""

from math import inf
from typing import TYPE_CHECKING

from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol
from hypercorn.typing import ConnectionState

from gateway.http1 import LAST_CHUNK, ChunkedDecoder, ProtocolError, RawHeaders, encode_chunk, encode_last_chunk
from gateway.server.failures import ClientGone
from gateway.server.heads import PREFACE, Refused, RequestHead, find_head, parse_request_head
from gateway.server.refusals import Refusal, refusal_of
from gateway.server.responses import ResponsePlan, own_fields, serialize_response_head
from gateway.server.streams import Departure, RequestStream
from gateway.server.transport import Address
from gateway.server.websocket import WebSocketStream, is_valid_handshake

if TYPE_CHECKING:
    from gateway.server.connection import Connection

STREAM_ID = 1
HEAD_READ = 16_384
BODY_READ = 262_144
"""Bytes asked of the connection at once: much of a body, for each piece costs the reader and the app a turn."""
CHUNKS_READ = 65_536
"""The same of a body in chunks: where each has one byte, 256 KiB take 50 ms, in which nobody else is served."""
PIPELINE_BUFFER = 65_536
"""Bytes of further requests that are taken in while one is in flight."""
OLD: dict[str, dict[str, object]] = {}
"""The extensions for a client of HTTP/1.0, which knows neither 1xx nor chunks."""
PLAIN: dict[str, dict[str, object]] = {"http.response.informational": {}}
TRAILERS: dict[str, dict[str, object]] = {**PLAIN, "http.response.trailers": {}}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


Stream = RequestStream | WebSocketStream


class Http1(H11Protocol):
    """Hypercorn's HTTP/1.1 protocol, with the parser and serializer of ``gateway.http1`` in place of h11."""

    stream: RequestStream | WebSocketStream | None

    def __init__(self, link: "Connection", client: Address, server: Address, *, secure: bool) -> None:
        super().__init__(*link.for_hypercorn(client, server, secure=secure))
        self.link = link
        self.limits = link.limits
        self._shared = link.context
        self._buffer = bytearray()
        """What has not been looked at: part of a head, or pipelined requests."""
        self._searched = 0
        self._head: RequestHead | None = None
        """That of the request in flight."""
        self._continue_due = False
        self._chunked = False
        self._until_close = False
        """The answer in flight ends where the connection does, so that breaking off must look different from FIN."""
        self._last = False
        """The connection is closed after the answer in flight."""
        self._lingering = False
        self._switched = False
        """The connection is a WebSocket's now."""

    async def initiate(self) -> None:
        """A connection begins."""
        if self._shared.retiring:
            self.link.lose()
        self.link.set_clock(self.limits.keep_alive_timeout)

    # ---- from the connection

    @property
    def wants_data(self) -> bool:
        """See Protocols."""
        if self.stream is None or self._head is None or self._lingering:
            return True
        if isinstance(self.stream, WebSocketStream):
            return self.stream.wants_data and len(self._buffer) < PIPELINE_BUFFER
        if not self._head.body.done:
            return self.stream.inbox.size < self.limits.request_buffer
        return len(self._buffer) < PIPELINE_BUFFER

    @property
    def read_size(self) -> int:
        """See Protocols."""
        if self._head is None or self._head.body.done:
            return HEAD_READ
        return CHUNKS_READ if isinstance(self._head.body, ChunkedDecoder) else BODY_READ

    def received(self, data: bytes) -> None:
        """See Protocols. Raises H2ProtocolAssumedError where the first of them are HTTP/2's."""
        if self._lingering:
            return
        if self._switched and self.stream is not None:
            self.stream.data_came(data)
            return
        if self.stream is not None and self._head is not None and not self._head.body.done:
            self._body_came(self.stream, self._head, data)
            return
        self._buffer += data
        if self.stream is None:
            self._next_request()

    def client_left(self) -> None:
        """See Protocols."""
        if self.stream is not None:
            self.stream.client_left()

    async def timed_out(self) -> bool:
        """Idle: just close. In the middle of a head: 408 (RFC 9110 section 15.5.9)."""
        if self._lingering or not self._buffer:
            return False
        start = bytes(self._buffer)
        await self._answer_refusal(self._refusal(Refused(408, "the head of the request did not come in time"), start))
        return True

    def prepare_to_retire(self) -> None:
        """Answers that begin from now on say ``connection: close``; nothing else can be said in HTTP/1.1."""

    def retire(self) -> None:
        """Idle: close. Else the answer in flight is the last."""
        self._last = True
        if self.stream is not None:
            self.stream.retire()
        elif not self._buffer and not self._lingering:
            self.link.lose()

    # ---- requests

    def _next_request(self) -> None:
        """Start what the buffer holds, if that is a whole head by now."""
        block = b""
        try:
            # Empty lines before a request are tolerated (RFC 9112 section 2.2).
            while self._buffer[:2] == b"\r\n":
                del self._buffer[:2]
            if not self._buffer:
                return
            end = -1
            if not self._may_become_http2():
                end = find_head(self._buffer, self._searched, self.limits.max_head_size)
            if end < 0:
                if self._searched == 0:
                    self.link.set_clock(self.limits.header_timeout)
                self._searched = len(self._buffer)
                return
            self._searched = 0
            block = bytes(self._buffer[:end])
            rest = bytes(self._buffer[end:])
            self._buffer.clear()
            self._start(parse_request_head(block), rest)
        except Refused as refused:
            self._refuse(self._refusal(refused, block or bytes(self._buffer)))

    def _may_become_http2(self) -> bool:
        """HTTP/2 with prior knowledge: raises H2ProtocolAssumedError when it is, true while it may yet be.

        Only as the first thing said, and not over TLS, where ALPN has made the choice.
        """
        if self.keep_alive_requests or self.ssl:
            return False
        if self._buffer.startswith(PREFACE):
            raise H2ProtocolAssumedError(bytes(self._buffer))
        return PREFACE.startswith(self._buffer)

    def _start(self, head: RequestHead, rest: bytes) -> None:
        self.link.set_clock(inf)
        self.keep_alive_requests += 1
        self._head = head
        self._last = (
            not head.keep_alive
            or self._shared.draining
            or self.keep_alive_requests >= self.config.keep_alive_max_requests
        )
        self._continue_due = head.expects_continue
        if not self._is_served_here(head.headers):
            raise Refused(404, "not the name of this server")
        headers = head.headers if self.config.h11_pass_raw_headers else [(n.lower(), v) for n, v in head.headers]
        method, state = head.method.decode("ascii"), ConnectionState(self.connection_state.copy())
        if head.websocket:
            if not is_valid_handshake(headers, head.http_version):
                raise Refused(400, "a malformed WebSocket handshake")
            self._last = True
            socket = self.stream = WebSocketStream(
                self, self.link, self.client, self.server, secure=self.ssl, stream_id=STREAM_ID
            )
            socket.begin(
                Request(
                    stream_id=STREAM_ID,
                    headers=headers,
                    http_version=head.http_version,
                    method=method,
                    raw_path=head.target,
                    state=state,
                )
            )
            self._buffer += rest  # frames already, or nonsense: it waits for the app to accept
            return
        stream = self.stream = RequestStream(
            self, self.link, self.client, self.server, secure=self.ssl, stream_id=STREAM_ID
        )
        extensions = TRAILERS if head.takes_trailers else OLD if head.http_version == "1.0" else PLAIN
        stream.begin(method, head.target, head.http_version, headers, state, extensions)
        if head.body.done:
            stream.data_ended()
            self._buffer += rest
        elif rest:
            self._body_came(stream, head, rest)

    def _is_served_here(self, headers: RawHeaders) -> bool:
        names = self.config.server_names
        if not names:
            return True
        return any(name.lower() == b"host" and value.decode("latin-1") in names for name, value in headers)

    def _body_came(self, stream: Stream, head: RequestHead, data: bytes) -> None:
        self._continue_due = False
        try:
            content = head.body.feed(data)
        except ProtocolError:
            # Its bytes mean nothing any more: no later request can be found in them.
            started = stream.on_wire
            stream.client_left(Departure.MALFORMED)
            self.stream = None
            if started:
                self.link.lose(reset=self._until_close)
            else:
                self._refuse(self._refusal(Refused(400, "the framing of the request's body is malformed"), in_app=True))
            return
        if content:
            stream.data_came(content)
        if head.body.done:
            if head.body.trailers and isinstance(stream, RequestStream):
                stream.trailers_came(head.body.trailers)
            stream.data_ended()
            self._buffer += head.body.rest

    def _refusal(self, refused: Refused, start: bytes = b"", *, in_app: bool = False) -> Refusal:
        return refusal_of(
            refused, http_version="1.1", client=self.client, secure=self.ssl, start=start, known_to_app=in_app
        )

    def _refuse(self, refusal: Refusal) -> None:
        self._lingering = True
        self._buffer.clear()
        self.link.set_clock(inf)
        self.link.nursery.start_soon(self._answer_refusal, refusal)

    async def _answer_refusal(self, refusal: Refusal) -> None:
        self._lingering = True
        said, body = self._shared.explain(refusal)
        dated = any(name.lower() == b"date" for name, _ in said)
        fields = [*said, (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        block = serialize_response_head(refusal.status, [*fields, *own_fields(self.config, dated=dated)])
        try:
            await self.link.write(block if refusal.method == "HEAD" else block + body)
        except ClientGone:
            return
        self.link.linger()

    # ---- answers: streams.Wire

    async def invite_body(self, stream: RequestStream) -> None:
        """100 Continue, when the client waits for it. Only now: before, the app could still refuse the body unread."""
        if self._continue_due and stream is self.stream:
            await self.link.turn()
            # Another task of the app may have begun to answer meanwhile, and it must not stand in the middle of that.
            if self._continue_due and stream is self.stream:
                self._continue_due = False
                await self.link.write(CONTINUE)
            else:
                self.link.pass_turn()

    async def send_informational(self, stream: RequestStream, status: int, headers: RawHeaders) -> None:
        """See Wire."""
        await self.link.turn()
        if stream is not self.stream or stream.on_wire:  # as in ``respond``
            self.link.pass_turn()
            raise ClientGone("the connection has moved on")
        await self.link.write(serialize_response_head(status, headers))

    async def respond(self, stream: Stream, plan: ResponsePlan, data: bytes, *, end: bool) -> None:
        """See Wire. One write for a small answer."""
        head = self._head
        if head is None or stream is not self.stream:
            raise ClientGone("the connection has moved on")
        await self.link.turn()
        if stream is not self.stream:  # its body has turned out malformed meanwhile, and 400 is said: one answer is all
            self.link.pass_turn()
            raise ClientGone("the connection has moved on")
        stream.on_wire = True
        fields = plan.headers
        self._chunked = self._until_close = False
        if plan.length is None and not plan.bodiless:
            if end and plan.status != 204:
                fields = [*fields, (b"content-length", b"%d" % len(data))]
            elif head.http_version == "1.1":
                self._chunked = True
                fields = [*fields, (b"transfer-encoding", b"chunked")]
            else:
                self._until_close = self._last = True
        # A client that was never asked for its body may send it or not: the next request could not be found.
        self._last = self._last or plan.close or self._shared.draining or self._continue_due
        self._continue_due = False
        if self._last:
            fields = [*fields, (b"connection", b"close")]
        elif head.http_version == "1.0":
            fields = [*fields, (b"connection", b"keep-alive")]
        fields = [*fields, *own_fields(self.config, dated=plan.dated)]
        block = serialize_response_head(plan.status, fields)
        await self._send(stream, block, data, end=end)

    async def send_body(self, stream: Stream, data: bytes, *, end: bool) -> None:
        """See Wire."""
        if stream is not self.stream:
            raise ClientGone("the connection has moved on")
        await self._send(stream, b"", data, end=end)

    async def _send(self, stream: Stream, block: bytes, data: bytes, *, end: bool) -> None:
        if self._chunked:
            data = (encode_chunk(data) if data else b"") + (LAST_CHUNK if end else b"")
        if block or data:
            await self.link.write(block + data if block else data)
        if end:
            self._response_complete(stream)

    async def send_trailers(self, stream: RequestStream, headers: RawHeaders) -> None:
        """See Wire. Without chunks there is no place for trailers; they are dropped (RFC 9110 section 6.5.1)."""
        if self._chunked:
            await self.link.write(encode_last_chunk(headers))
        self._response_complete(stream)

    def _response_complete(self, stream: Stream) -> None:
        stream.complete()
        head, self._head, self.stream = self._head, None, None
        if self._last or head is None or not head.body.done:
            self._lingering = True
            self._buffer.clear()
            self.link.linger()
        else:
            self.link.set_clock(self.limits.keep_alive_timeout)
            self.link.rest()
            self.link.read_on()
            self._next_request()

    def consumed(self, stream: Stream, size: int) -> None:  # noqa: ARG002 -- Wire
        """See Wire."""
        self.link.read_on()

    def abandon(self, stream: Stream) -> None:
        """No last chunk, fewer bytes than announced; where the end of the connection is the end of the body, RST."""
        if stream is self.stream:
            self.stream = None
            self._lingering = True  # nothing that still comes is a request
            self._buffer.clear()
            self.link.lose(reset=self._until_close)

    def app_ended(self, stream: Stream) -> None:
        """See Wire. Where the client has left, the stream is still here: it knows us as we know it, a cycle."""
        if stream is self.stream and self.link.gone:
            self.stream = None

    # ---- WebSockets: websocket.SocketWire

    async def switch(self, stream: WebSocketStream, status: int, headers: RawHeaders) -> None:
        """See SocketWire."""
        await self.link.write(serialize_response_head(status, [*headers, *own_fields(self.config, dated=False)]))
        self._switched = True
        if self._buffer:
            stream.data_came(bytes(self._buffer))
            self._buffer.clear()

    async def send_raw(self, stream: WebSocketStream, data: bytes) -> None:
        """See SocketWire."""
        if stream is not self.stream:
            raise ClientGone("the connection has moved on")
        await self.link.write(data)

    def finish(self, stream: WebSocketStream) -> None:
        """See SocketWire."""
        if stream is self.stream:
            self.stream = None
            self._lingering = True
            self.link.linger()
