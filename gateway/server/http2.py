"""HTTP/2 on one connection: streams in, answers out, flow control both ways, and when the connection ends.

What lives here: what RFC 9113 asks of a server beyond the state machine. What never will: the state machine
(``h2_connection``), the grammar of a head (``heads``), or a socket.

All of it is synchronous but the waiting: an app's ``send`` makes its frames itself when the windows allow it, and one
task per connection, the sender, carries what has gathered to the socket. So nothing is kept per stream: an app that may
not send waits, holding its own data. And no two tasks ever write.
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
    WindowUpdated,
)
from h2.events import Event as H2Event
from h2.exceptions import ProtocolError
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Request
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.typing import ConnectionState
from hyperframe.frame import GoAwayFrame

from gateway.http1 import RawHeaders
from gateway.server.failures import ClientGone
from gateway.server.h2_connection import CONNECTION_WINDOW, StreamwiseConnection
from gateway.server.heads import Http2Head, Refused, check_http2_head
from gateway.server.responses import DATE, ResponsePlan, lowered
from gateway.server.streams import RequestStream
from gateway.server.tasks import Tasks
from gateway.server.transport import Address
from gateway.server.websocket import WebSocketStream, is_valid_handshake

if TYPE_CHECKING:
    from gateway.server.connection import Connection

EXTENSIONS: dict[str, dict[str, object]] = {"http.response.trailers": {}}
ANY_STREAM = 2**31 - 1
CONTROL_BUFFER = 65_536
"""Bytes of acknowledgements and the like that may wait for the socket beyond ``response_buffer``, before the client is
not read any more: one that asks without end and reads nothing (PING, SETTINGS) fills this much and no more."""
RESET_WINDOW = 10.0
"""Seconds over which resets are counted."""
EARLY_ANSWER_GRACE = 0.5
"""Seconds between an early answer and the RST_STREAM that stops the upload: some clients drop the answer when both come
at once."""


Stream = RequestStream | WebSocketStream


class Http2(H2Protocol):
    """Hypercorn's HTTP/2 protocol over ``StreamwiseConnection``."""

    connection: StreamwiseConnection
    # Ours in place of Hypercorn's.
    streams: dict[int, Stream]  # type: ignore[assignment]

    def __init__(self, link: "Connection", client: Address, server: Address, *, secure: bool) -> None:
        super().__init__(
            link.app,
            link.config,
            link.context,
            Tasks(link.nursery),
            ConnectionState(link.state),
            secure,
            client,
            server,
            link.protocol_send,
        )
        self.link = link
        self.limits = link.limits
        self._shared = link.context
        self.connection = StreamwiseConnection(link.limits)
        self._outgoing: list[bytes] = []
        self._outgoing_size = 0
        self._sender = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        """Apps that wait for a window or for the socket."""
        self._running = 0
        """Apps that have not ended, those of streams that are gone included."""
        self._newest = 0
        """The highest stream that was looked at. h2 knows of later ones: it reads ahead of the events it gives."""
        self._last_accepted = ANY_STREAM
        """Streams beyond this one are refused: we have said GOAWAY."""
        self._ending = False
        """Close when no stream is left and everything is written."""
        self._lingering = False
        self._uncredited = 0
        self._resets: tuple[float, int] = (0.0, 0)

    async def initiate(self, headers: RawHeaders | None = None, settings: bytes | None = None) -> None:  # noqa: ARG002 -- for h2c upgrades, which are not served
        """A connection begins."""
        self.connection.initiate_connection()
        self._gather()
        self.link.set_clock(self.limits.keep_alive_timeout)
        self.link.nursery.start_soon(self.send_task)
        if self._shared.retiring:
            self.retire()

    # ---- from the connection

    @property
    def wants_data(self) -> bool:
        """See Protocols."""
        return self._lingering or self._outgoing_size <= self.limits.response_buffer + CONTROL_BUFFER

    async def handle(self, event: Event) -> None:
        """Bytes came, or the connection closed."""
        if isinstance(event, Closed):
            self.client_left()
        elif isinstance(event, RawData) and not self._lingering:
            try:
                events = self.connection.receive_data(event.data)
            except ProtocolError:
                self._fail()
            else:
                for h2_event in events:
                    self._handle_event(h2_event)
            self._gather()

    def client_left(self) -> None:
        """See Protocols."""
        self.closed = True
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.client_left()
        self._room.unpark_all()
        self._sender.unpark_all()

    async def timed_out(self) -> bool:
        """Idle for too long: say so, as RFC 9113 section 6.8 asks, and close."""
        if not self._lingering:
            self._say_goaway(self._newest)
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            with contextlib.suppress(ClientGone):
                await self.link.write(data)
        return False

    def prepare_to_retire(self) -> None:
        """Tell the client to open its next streams elsewhere, and serve what is under way (RFC 9113 section 6.8)."""
        self._say_goaway(ANY_STREAM)

    def retire(self) -> None:
        """GOAWAY with the last stream that is served; close when it is done."""
        if not self._ending:
            self._ending = True
            self._last_accepted = self._newest
            self._say_goaway(self._last_accepted)
            for stream in list(self.streams.values()):
                stream.retire()

    def _fail(self, code: ErrorCodes | None = None) -> None:
        """The client broke the protocol beyond repair. With ``code``, GOAWAY is ours to write; else h2 has done it."""
        if code is not None:
            self._say_goaway(self._newest, code)
        self._gather()
        self._ending = True
        self._lingering = True
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.client_left()
        self._room.unpark_all()
        self._sender.unpark_all()

    def _say_goaway(self, last_stream_id: int, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        # Not h2's close_connection: that closes its state machine, and answers in flight could not be sent.
        self._gather()
        frame = GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code)
        self._queue(frame.serialize())

    # ---- the sender

    def _gather(self) -> None:
        data = self.connection.data_to_send()
        if data:
            self._queue(data)

    def _queue(self, data: bytes) -> None:
        self._outgoing.append(data)
        self._outgoing_size += len(data)
        self._sender.unpark_all()

    async def send_task(self) -> None:
        """Carry frames to the socket until the connection is gone. It alone writes."""
        while not self.link.gone:
            if self._outgoing:
                data = b"".join(self._outgoing)
                self._outgoing.clear()
                try:
                    await self.link.write(data)
                except ClientGone:
                    return
                held = not self.wants_data
                self._outgoing_size -= len(data)
                self._room.unpark_all()
                if held:
                    self.link.read_on()
            elif self._ending and not self.streams:
                self._end()
                return
            else:
                await self._sender.park()

    def _end(self) -> None:
        if self._newest or self._lingering:
            self._lingering = True
            self.link.linger()
        else:
            self.link.lose()

    # ---- requests

    def _handle_event(self, event: H2Event) -> None:
        if self._lingering:  # an event before this one was the end
            return
        match event:
            case RequestReceived():
                self._request(event)
            case DataReceived():
                self._data(event)
            case StreamEnded():
                stream = self.streams.get(event.stream_id)
                if stream is not None:
                    stream.data_ended()
            case StreamReset():
                self._reset_by_client(event)
            case WindowUpdated() | RemoteSettingsChanged():
                self._room.unpark_all()
            case ConnectionTerminated():
                # The client opens no more streams; those it has are answered.
                self._ending = True
                self._sender.unpark_all()

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
            self._refuse(stream_id, refused.status)
            return
        self.link.set_clock(inf)
        self._running += 1
        request = Request(
            stream_id=stream_id,
            headers=head.headers,
            http_version="2",
            method=head.method.decode("ascii"),
            raw_path=head.target,
            state=ConnectionState(self.connection_state.copy()),
        )
        if head.websocket:
            socket = WebSocketStream(self, self.link, self.client, self.server, secure=self.ssl, stream_id=stream_id)
            self.streams[stream_id] = socket
            socket.begin(request)
        else:
            stream = RequestStream(self, self.link, self.client, self.server, secure=self.ssl, stream_id=stream_id)
            self.streams[stream_id] = stream
            stream.begin(request, EXTENSIONS)
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

    def _refuse(self, stream_id: int, status: int) -> None:
        fields = [(b":status", b"%d" % status), (b"content-length", b"0"), *self._own_fields(dated=False)]
        self.connection.send_headers(stream_id, fields, end_stream=True)
        self._stop_upload(stream_id)

    def _data(self, event: DataReceived) -> None:
        # The connection's window is given back at once, so that a stream that nobody reads holds up no other; what the
        # client may have under way on one stream is bounded by that stream's window.
        self._uncredited += event.flow_controlled_length
        if self._uncredited >= CONNECTION_WINDOW // 2:
            self.connection.increment_flow_control_window(self._uncredited)
            self._uncredited = 0
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        if event.data:
            stream.data_came(event.data)
        padding = event.flow_controlled_length - len(event.data)
        if padding:
            self.consumed(stream, padding)

    def consumed(self, stream: Stream, size: int) -> None:
        """See Wire. The stream's window is given back as the app takes the body, in large steps."""
        if isinstance(stream, RequestStream) and stream.inbox.ended:
            return
        stream.uncredited += size
        if stream.uncredited >= self.limits.request_buffer // 2 and stream.stream_id in self.streams:
            try:
                self.connection.increment_flow_control_window(stream.uncredited, stream.stream_id)
            except (KeyError, ProtocolError):
                return  # the stream is closed
            stream.uncredited = 0
            self._gather()

    def _reset_by_client(self, event: StreamReset) -> None:
        stream = self.streams.pop(event.stream_id, None)
        if stream is not None:
            stream.client_left()
            self._stream_gone()
        now = trio.current_time()
        since, count = self._resets
        self._resets = (since, count + 1) if now - since < RESET_WINDOW else (now, 1)
        if self._resets[1] > self.limits.max_resets:
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM)

    def _stream_gone(self) -> None:
        self._room.unpark_all()
        if not self.streams:
            self.link.set_clock(self.limits.keep_alive_timeout)
            self._sender.unpark_all()

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        try:
            self.connection.reset_stream(stream_id, code)
        except ProtocolError:
            return
        self._gather()

    # ---- answers: streams.Wire

    async def invite_body(self, stream: RequestStream) -> None:
        """The window invites already. ``Expect: 100-continue`` gets its 100 (RFC 9110 section 10.1.1)."""
        if any(name == b"expect" and value.lower() == b"100-continue" for name, value in stream.scope["headers"]):
            try:
                self.connection.send_headers(stream.stream_id, [(b":status", b"100")])
            except ProtocolError:
                return
            self._gather()

    async def respond(self, stream: Stream, plan: ResponsePlan, data: bytes, *, end: bool) -> None:
        """See Wire."""
        fields = plan.headers
        if plan.length is None and not plan.bodiless and end:
            fields = [*fields, (b"content-length", b"%d" % len(data))]
        fields = [(b":status", b"%d" % plan.status), *lowered(fields), *self._own_fields(dated=plan.dated)]
        last = end and not data
        try:
            self.connection.send_headers(stream.stream_id, fields, end_stream=last)
        except ProtocolError as error:
            raise ClientGone("the stream is closed") from error
        if last:
            self._gather()
            self._response_complete(stream)
        elif data:
            await self.send_body(stream, data, end=end)
        else:
            self._gather()

    async def send_body(self, stream: Stream, data: bytes, *, end: bool) -> None:
        """See Wire. Returns when all of it is on its way; waits while a window is shut or the socket is full."""
        stream_id = stream.stream_id
        rest = memoryview(data)
        patience = self.limits.client_timeout
        deadline = trio.current_time() + patience
        while True:
            if stream.closed or stream_id not in self.streams:
                raise ClientGone("the client has left")
            try:
                size = min(len(rest), self._room_for(stream_id))
                if size > 0 or (end and not rest):
                    last = end and size == len(rest)
                    self.connection.send_data(stream_id, bytes(rest[:size]), end_stream=last)
                    self._gather()
                    rest = rest[size:]
                    deadline = trio.current_time() + patience
            except (ProtocolError, KeyError) as error:
                raise ClientGone("the stream is closed") from error
            if not rest:
                break
            if size <= 0 and not await self._wait_for_room(deadline):
                stream.client_left()
                self._drop(stream, ErrorCodes.CANCEL)
                raise ClientGone("the client was too slow to read")
        if end:
            self._response_complete(stream)

    def _room_for(self, stream_id: int) -> int:
        if self._outgoing_size >= self.limits.response_buffer:
            return 0
        return min(self.connection.local_flow_control_window(stream_id), self.connection.max_outbound_frame_size)

    async def _wait_for_room(self, deadline: float) -> bool:
        with trio.CancelScope(deadline=deadline) as clock:
            await self._room.park()
        return not clock.cancelled_caught

    async def send_trailers(self, stream: Stream, headers: RawHeaders) -> None:
        """See Wire."""
        try:
            if headers:
                self.connection.send_headers(stream.stream_id, lowered(headers), end_stream=True)
            else:
                self.connection.end_stream(stream.stream_id)
        except ProtocolError as error:
            raise ClientGone("the stream is closed") from error
        self._gather()
        self._response_complete(stream)

    def _own_fields(self, *, dated: bool) -> RawHeaders:
        fields: RawHeaders = []
        if self.config.include_date_header and not dated:
            fields.append(DATE.now())
        fields.extend((b"alt-svc", value.encode("ascii")) for value in self.config.alt_svc_headers)
        return fields

    def _response_complete(self, stream: Stream) -> None:
        stream.complete()
        self.streams.pop(stream.stream_id, None)
        self._stop_upload(stream.stream_id)
        self._stream_gone()

    def _stop_upload(self, stream_id: int) -> None:
        """After an answer that came before the body had: let the client read it, then tell it to stop."""
        state = self.connection.streams.get(stream_id)
        if state is not None and state.open:
            self.link.nursery.start_soon(self._reset_later, stream_id)

    async def _reset_later(self, stream_id: int) -> None:
        await trio.sleep(EARLY_ANSWER_GRACE)
        state = self.connection.streams.get(stream_id)
        if not self.link.gone and state is not None and state.open:
            self._reset(stream_id, ErrorCodes.NO_ERROR)

    def abandon(self, stream: Stream) -> None:
        """RST_STREAM: what the client has is not the whole."""
        self._drop(stream, ErrorCodes.INTERNAL_ERROR)

    def _drop(self, stream: Stream, code: ErrorCodes) -> None:
        if self.streams.pop(stream.stream_id, None) is not None:
            self._reset(stream.stream_id, code)
            self._stream_gone()

    def app_ended(self, stream: Stream) -> None:  # noqa: ARG002 -- Wire
        """See Wire."""
        self._running -= 1

    # ---- WebSockets: websocket.SocketWire

    async def switch(self, stream: WebSocketStream, status: int, headers: RawHeaders) -> None:
        """See SocketWire. Over HTTP/2 it is the stream that switches (RFC 8441 section 5)."""
        fields = [(b":status", b"%d" % status), *lowered(headers), *self._own_fields(dated=False)]
        try:
            self.connection.send_headers(stream.stream_id, fields)
        except ProtocolError as error:
            raise ClientGone("the stream is closed") from error
        self._gather()

    async def send_raw(self, stream: WebSocketStream, data: bytes) -> None:
        """See SocketWire."""
        await self.send_body(stream, data, end=False)

    def finish(self, stream: WebSocketStream) -> None:
        """See SocketWire."""
        if self.streams.pop(stream.stream_id, None) is not None:
            with contextlib.suppress(ProtocolError):
                self.connection.end_stream(stream.stream_id)
            self._gather()
            self._stop_upload(stream.stream_id)
            self._stream_gone()
