"""HTTP/2 on one connection: streams in, answers out, flow control both ways, and when the connection ends.

What lives here: what RFC 9113 asks of a server beyond the state machine. What never will: the state machine
(``h2_connection``), the grammar of a head (``heads``), or a socket.

All of it is synchronous but the waiting: an app's ``send`` makes its frames itself when the windows allow it, and one
task per connection (``h2_sender``) carries them to the socket. So nothing is kept per stream: an app that may not send
waits, holding its own data. And no two tasks ever write.
"""

import contextlib
from math import inf
from typing import TYPE_CHECKING

import trio
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.events import Event as H2Event
from h2.exceptions import ProtocolError
from hypercorn.protocol.events import Request
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.typing import ConnectionState

from gateway.http1 import RawHeaders
from gateway.server.failures import ClientGone
from gateway.server.h2_connection import StreamwiseConnection, untie
from gateway.server.h2_sender import FrameSender, Stalled
from gateway.server.heads import Http2Head, Refused, check_http2_head, check_http2_trailers
from gateway.server.limits import Rate
from gateway.server.refusals import refusal_of
from gateway.server.responses import ResponsePlan, lowered, own_fields
from gateway.server.streams import Departure, RequestStream
from gateway.server.transport import Address
from gateway.server.websocket import WebSocketStream, is_valid_handshake

if TYPE_CHECKING:
    from gateway.server.connection import Connection

EXTENSIONS: dict[str, dict[str, object]] = {
    name: {} for name in ("http.response.trailers", "http.response.early_hint", "http.response.informational")
}
FRAMES_AT_ONCE = 16_384
"""Bytes of frames in one turn. In 64 KiB there is room for 5,000 WINDOW_UPDATEs, which take h2 a fifth of a second."""
ANY_STREAM = 2**31 - 1
RESET_WINDOW = 10.0
"""Seconds over which resets are counted."""
EARLY_ANSWER_GRACE = 0.5
"""Seconds between an early answer and the RST_STREAM that stops the upload: some clients drop the answer when both come
at once."""


Stream = RequestStream | WebSocketStream


class Http2(H2Protocol):
    """Hypercorn's HTTP/2 protocol over ``StreamwiseConnection``."""

    connection: StreamwiseConnection
    streams: dict[int, Stream]  # type: ignore[assignment]  # ours in place of Hypercorn's

    def __init__(self, link: "Connection", client: Address, server: Address, *, secure: bool) -> None:
        super().__init__(*link.for_hypercorn(client, server, secure=secure))
        self.link = link
        self.limits = link.limits
        self._shared = link.context
        untie(self.connection)  # Hypercorn has made one of its own
        self.connection = StreamwiseConnection(link.limits, trio.current_time)
        self._sender = FrameSender(link, self.connection)
        self._running = 0
        """Apps that have not ended, those of streams that are gone included."""
        self._newest = 0
        """The highest stream that was looked at. h2 knows of later ones: it reads ahead of the events it gives."""
        self._last_accepted = ANY_STREAM
        """Streams beyond this one are refused: we have said GOAWAY."""
        self._ending = False
        """Close when no stream is left and everything is written."""
        self._lingering = False
        self._resets = Rate(RESET_WINDOW)

    async def initiate(self, headers: RawHeaders | None = None, settings: bytes | None = None) -> None:  # noqa: ARG002 -- for h2c upgrades, which are not served
        """A connection begins."""
        self.connection.initiate_connection()
        self._sender.gather()
        self.link.set_clock(self.limits.keep_alive_timeout)
        self.link.nursery.start_soon(self.send_task)
        if self._shared.retiring:
            self.retire()

    # ---- from the connection

    @property
    def read_size(self) -> int:
        """See Protocols. What the bytes ask for is done in one turn, and small frames ask for much."""
        return FRAMES_AT_ONCE

    @property
    def wants_data(self) -> bool:
        """See Protocols."""
        return self._lingering or not self._sender.is_congested

    def received(self, data: bytes) -> None:
        """See Protocols."""
        if self._lingering:
            return
        try:
            events = self.connection.receive_data(data)
        except ProtocolError:
            self._fail()
        else:
            for event in events:
                self._handle_event(event)
        self._sender.gather()

    def client_left(self) -> None:
        """See Protocols."""
        for stream in list(self.streams.values()):
            self._forget(stream.stream_id)
            stream.client_left()
        self._sender.wake()
        self._sender.streams_closed()
        untie(self.connection)

    async def timed_out(self) -> bool:
        """Idle for too long: say so, as RFC 9113 section 6.8 asks, and close."""
        if not self._lingering:
            self._say_goaway(self._newest)
            with contextlib.suppress(ClientGone):
                await self._sender.write_now()
        return False

    def prepare_to_retire(self) -> None:
        """Tell the client to open its next streams elsewhere, and serve what is under way (RFC 9113 section 6.8)."""
        self._say_goaway(ANY_STREAM)

    def retire(self) -> None:
        """GOAWAY with the last stream that is served; close when it is done."""
        if self._last_accepted == ANY_STREAM:
            self._ending = True
            self._last_accepted = self._newest
            self._say_goaway(self._last_accepted)
            for stream in list(self.streams.values()):
                stream.retire()

    def _fail(self, code: ErrorCodes | None = None) -> None:
        """The client broke the protocol beyond repair. With ``code``, GOAWAY is ours to write; else h2 has done it."""
        if code is not None:
            self._say_goaway(self._newest, code)
        self._sender.gather()
        self._ending = self._lingering = True
        self.client_left()

    def _say_goaway(self, last_stream_id: int, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        self._sender.goaway(last_stream_id, code)

    async def send_task(self) -> None:
        """Carry frames to the socket, as long as there is a connection; it alone writes. Then end it."""
        if await self._sender.run(lambda: self._ending and not self.streams):
            self._end()

    def _end(self) -> None:
        if self._newest or self._lingering:
            self._lingering = True
            self.link.linger()
        else:
            self.link.lose()

    # ---- requests

    def _handle_event(self, event: H2Event) -> None:  # noqa: C901 -- one branch per event
        if self._lingering:  # an event before this one was the end
            return
        match event:
            case RequestReceived():
                self._request(event)
            case DataReceived():
                self._data(event)
            case TrailersReceived():
                self._trailers(event)
            case StreamEnded():
                stream = self.streams.get(event.stream_id)
                if stream is not None:
                    stream.data_ended()
            case StreamReset():
                self._reset_by_client(event)
            case WindowUpdated():
                self._sender.window_opened(event.stream_id or 0)
            case RemoteSettingsChanged():
                self._sender.window_opened(0)
            case ConnectionTerminated():
                # The client opens no more streams; those it has are answered.
                self._ending = True
                self._sender.wake()

    def _request(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        if stream_id > self._last_accepted or self._too_many():
            self._reset(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        self._newest = stream_id
        self.keep_alive_requests += 1
        try:
            head = self._check(event.headers)
        except Refused as refused:
            self._refuse(stream_id, refused, event.headers)
            return
        if not self.streams:  # to set it costs as much as to decode the head
            self.link.set_clock(inf)
        self._running += 1
        method, state = head.method.decode("ascii"), ConnectionState(self.connection_state.copy())
        if head.websocket:
            socket = WebSocketStream(self, self.link, self.client, self.server, secure=self.ssl, stream_id=stream_id)
            self.streams[stream_id] = socket
            socket.begin(
                Request(
                    stream_id=stream_id,
                    headers=head.headers,
                    http_version="2",
                    method=method,
                    raw_path=head.target,
                    state=state,
                )
            )
        else:
            stream = RequestStream(self, self.link, self.client, self.server, secure=self.ssl, stream_id=stream_id)
            self.streams[stream_id] = stream
            stream.begin(method, head.target, "2", head.headers, state, EXTENSIONS)
        if self.keep_alive_requests >= self.config.keep_alive_max_requests:
            self.retire()

    def _check(self, fields: RawHeaders) -> Http2Head:
        head = check_http2_head(fields)
        if self.config.server_names and head.headers[0][1].decode("latin-1") not in self.config.server_names:
            raise Refused(404, "not the name of this server")
        if head.websocket and not is_valid_handshake(head.headers, "2"):
            raise Refused(400, "a malformed WebSocket handshake")
        return head

    def _too_many(self) -> bool:
        # An app may have a little to do after its answer, or after its client has left. Not without end, though: a
        # client that opens and resets streams all the time would have as many apps run as it likes.
        return len(self.streams) >= self.limits.max_streams or self._running >= 2 * self.limits.max_streams

    def _refuse(self, stream_id: int, refused: Refused, received: RawHeaders) -> None:
        pseudo = dict(received)
        start = pseudo.get(b":method", b"") + b" " + pseudo.get(b":path", b"")
        refusal = refusal_of(refused, http_version="2", client=self.client, secure=self.ssl, start=start)
        said, body = self._shared.explain(refusal)
        dated = any(name.lower() == b"date" for name, _ in said)
        fields = [(b":status", b"%d" % refusal.status), *lowered(said), (b"content-length", b"%d" % len(body))]
        fields += own_fields(self.config, dated=dated)
        with contextlib.suppress(ClientGone, ProtocolError):  # it may have reset the stream in the same breath
            # Where its window is shut the body would have to wait; the fields say enough.
            shut = refusal.method == "HEAD" or self.connection.local_flow_control_window(stream_id) < len(body)
            self._send_fields(stream_id, fields, end=shut or not body)
            if body and not shut:
                self.connection.send_data(stream_id, body, end_stream=True)
                self._sender.gather()
        self._stop_upload(stream_id)

    def _data(self, event: DataReceived) -> None:
        self.connection.took_in(event.flow_controlled_length)
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        if event.data:
            stream.data_came(event.data)
        padding = event.flow_controlled_length - len(event.data)
        if padding:
            self.consumed(stream, padding)

    def _trailers(self, event: TrailersReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if not isinstance(stream, RequestStream):
            return
        try:
            check_http2_trailers(event.headers)
        except Refused:
            stream.client_left(Departure.MALFORMED)
            self._drop(stream, ErrorCodes.PROTOCOL_ERROR)
        else:
            stream.trailers_came(event.headers)

    def consumed(self, stream: Stream, size: int) -> None:
        """See Wire. The stream's window is given back as the app takes the body."""
        if stream.stream_id in self.streams:
            self.connection.give_back(stream.stream_id, size)
            self._sender.gather()

    def _reset_by_client(self, event: StreamReset) -> None:
        stream = self._forget(event.stream_id)
        if stream is not None:
            # Where it is we who reset the stream, it is for what the client sent on it.
            stream.client_left(None if event.remote_reset else Departure.MALFORMED)
            self._sender.streams_closed()
        if self._resets.one_more(trio.current_time()) > self.limits.max_resets:
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM)

    def _forget(self, stream_id: int) -> Stream | None:
        """The stream is over, for us. None when it was already."""
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self.connection.forget(stream_id)
            self._sender.forget(stream_id)
            if not self.streams:
                self.link.set_clock(self.limits.keep_alive_timeout)
                self.link.rest()
                self._sender.wake()
        return stream

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        try:
            self.connection.reset_stream(stream_id, code)
        except ProtocolError:
            return
        self._sender.gather()

    # ---- answers: streams.Wire

    async def invite_body(self, stream: RequestStream) -> None:
        """The window invites already. ``Expect: 100-continue`` gets its 100 (RFC 9110 section 10.1.1)."""
        if stream.inbox.ended:
            return  # it has come already
        if any(name == b"expect" and value.lower() == b"100-continue" for name, value in stream.scope["headers"]):
            self._send_fields(stream.stream_id, [(b":status", b"100")])

    def _send_fields(self, stream_id: int, fields: RawHeaders, *, end: bool = False) -> None:
        try:
            self.connection.send_headers(stream_id, fields, end_stream=end)
        except ProtocolError as error:
            raise ClientGone("the stream is closed") from error
        self._sender.gather()

    async def send_informational(self, stream: RequestStream, status: int, headers: RawHeaders) -> None:
        """See Wire."""
        self._send_fields(stream.stream_id, [(b":status", b"%d" % status), *lowered(headers)])

    async def respond(self, stream: Stream, plan: ResponsePlan, data: bytes, *, end: bool) -> None:
        """See Wire."""
        fields = plan.headers
        if plan.length is None and not plan.bodiless and end:
            fields = [*fields, (b"content-length", b"%d" % len(data))]
        fields = [(b":status", b"%d" % plan.status), *lowered(fields), *own_fields(self.config, dated=plan.dated)]
        last = end and not data
        stream.on_wire = True
        self._send_fields(stream.stream_id, fields, end=last)
        if last:
            self._response_complete(stream)
        elif data:
            await self.send_body(stream, data, end=end)

    async def send_body(self, stream: Stream, data: bytes, *, end: bool) -> None:
        """See Wire. Returns when all of it is on its way; waits while a window is shut or the socket is full."""
        stream_id = stream.stream_id

        def torn() -> None:
            # Nobody could tell where in the body it stopped; whatever the app said next would be taken for the rest.
            stream.client_left()
            self._drop(stream, ErrorCodes.INTERNAL_ERROR)

        try:
            await self._sender.pour(stream_id, data, end=end, wanted=lambda: stream_id in self.streams, torn=torn)
        except Stalled:
            stream.client_left(Departure.TOO_SLOW)
            self._drop(stream, ErrorCodes.CANCEL)
            raise
        if end:
            self._response_complete(stream)

    async def send_trailers(self, stream: Stream, headers: RawHeaders) -> None:
        """See Wire."""
        if headers:
            self._send_fields(stream.stream_id, lowered(headers), end=True)
            self._response_complete(stream)
        else:
            await self.send_body(stream, b"", end=True)

    def _response_complete(self, stream: Stream) -> None:
        stream.complete()
        self._forget(stream.stream_id)
        self._stop_upload(stream.stream_id)

    def _stop_upload(self, stream_id: int) -> None:
        """After an answer that came before the body had: let the client read it, then tell it to stop."""
        if self.connection.is_open(stream_id):
            self.link.nursery.start_soon(self._reset_later, stream_id)

    async def _reset_later(self, stream_id: int) -> None:
        await trio.sleep(EARLY_ANSWER_GRACE)
        if not self.link.gone and self.connection.is_open(stream_id):
            self._reset(stream_id, ErrorCodes.NO_ERROR)

    def abandon(self, stream: Stream) -> None:
        """RST_STREAM: what the client has is not the whole."""
        self._drop(stream, ErrorCodes.INTERNAL_ERROR)

    def _drop(self, stream: Stream, code: ErrorCodes) -> None:
        if self._forget(stream.stream_id) is not None:
            self._reset(stream.stream_id, code)

    def app_ended(self, stream: Stream) -> None:  # noqa: ARG002 -- Wire
        """See Wire."""
        self._running -= 1

    # ---- WebSockets: websocket.SocketWire

    async def switch(self, stream: WebSocketStream, status: int, headers: RawHeaders) -> None:
        """See SocketWire. Over HTTP/2 it is the stream that switches (RFC 8441 section 5)."""
        fields = [(b":status", b"%d" % status), *lowered(headers), *own_fields(self.config, dated=False)]
        self._send_fields(stream.stream_id, fields)

    async def send_raw(self, stream: WebSocketStream, data: bytes) -> None:
        """See SocketWire."""
        await self.send_body(stream, data, end=False)

    def finish(self, stream: WebSocketStream) -> None:
        """See SocketWire."""
        if self._forget(stream.stream_id) is not None:
            with contextlib.suppress(ProtocolError):
                self.connection.end_stream(stream.stream_id)
            self._sender.gather()
            self._stop_upload(stream.stream_id)
