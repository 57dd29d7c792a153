"""One WebSocket, as the app sees it, over HTTP/1.1 (RFC 6455) or a stream of HTTP/2 (RFC 8441).

What lives here: the handshake's checks, and the task that takes frames apart. What never will: the wire.

Stock Hypercorn takes frames apart in the task that reads the connection, and lets it wait for the app; so whatever is
wrong with one WebSocket, a bad frame or an app that does not read, is wrong with all that shares its connection. Here
each has a task of its own for that, and what that task meets ends this WebSocket alone.
"""

from collections import deque
from collections.abc import Mapping
from time import time
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

import trio
from hypercorn.protocol.events import Body, Data, EndBody, EndData, Event, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, Handshake, WSStream
from hypercorn.typing import WebsocketAcceptEvent
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason
from wsproto.handshake import server_extensions_handshake
from wsproto.utilities import ProtocolError

from gateway.http1 import RawHeaders
from gateway.server.failures import ClientGone, fatal_part, leaves
from gateway.server.responses import ResponsePlan, plan_response
from gateway.server.tasks import Tasks

if TYPE_CHECKING:
    from gateway.server.connection import Connection
    from gateway.server.transport import Address

PIECE = 4_096
"""Bytes that are taken apart in one go: compressed ones may become a thousand times as many before anybody can look
how long their message is."""


def is_valid_handshake(headers: RawHeaders, http_version: str) -> bool:
    """Whether an app may accept it. What an app could trip over later is looked at now: extensions, subprotocols."""
    try:
        handshake = Handshake(headers, http_version)
        if handshake.extensions is not None:
            server_extensions_handshake(handshake.extensions, [PerMessageDeflate()])
        return handshake.is_valid()
    except Exception:  # noqa: BLE001 -- a foreign parser on foreign bytes: whatever it raises, this is no handshake
        return False


class SocketWire(Protocol):
    """The protocol underneath. A coroutine of it raises ClientGone."""

    async def switch(self, stream: "WebSocketStream", status: int, headers: RawHeaders) -> None:
        """Accept: 101 or, over HTTP/2, 200."""

    async def send_raw(self, stream: "WebSocketStream", data: bytes) -> None:
        """Frames."""

    async def respond(self, stream: Any, plan: ResponsePlan, data: bytes, *, end: bool) -> None:
        """Refuse with an answer like any other."""

    async def send_body(self, stream: Any, data: bytes, *, end: bool) -> None:
        """More of that."""

    def consumed(self, stream: Any, size: int) -> None:
        """So many bytes were taken."""

    def finish(self, stream: "WebSocketStream") -> None:
        """Nothing more will be sent."""

    def abandon(self, stream: Any) -> None:
        """An answer broke off."""

    def app_ended(self, stream: Any) -> None:
        """The app's task is over."""


class Messages:
    """Whole messages on their way to the app; at the end the disconnect, which never waits."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[Any] = deque()
        self._farewell: dict[str, Any] | None = None
        self._changed = trio.lowlevel.ParkingLot()

    async def put(self, message: Mapping[str, Any]) -> None:
        """Waits while the app has too many to read."""
        while len(self._messages) >= self._limit and self._farewell is None:
            await self._changed.park()
        if self._farewell is None:
            self._messages.append(message)
            self._changed.unpark_all()

    def leave(self, code: int, reason: str) -> None:
        """What was read may still be taken, then comes the disconnect."""
        if self._farewell is None:
            self._farewell = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._changed.unpark_all()

    async def get(self) -> Any:
        """The app's ``receive``."""
        while not self._messages:
            if self._farewell is not None:
                return self._farewell
            await self._changed.park()
        message = self._messages.popleft()
        self._changed.unpark_all()
        return message


class WebSocketStream(WSStream):
    """Hypercorn's, with its frames taken apart in a task of its own, and the client's close code kept."""

    def __init__(  # noqa: PLR0913 -- who, from where, over what
        self,
        wire: SocketWire,
        connection: "Connection",
        client: "Address",
        server: "Address",
        *,
        secure: bool,
        stream_id: int,
    ) -> None:
        super().__init__(
            connection.app,
            connection.config,
            connection.context,
            Tasks(connection.nursery),
            secure,
            client,
            server,
            self._send_event,
            stream_id,
        )
        self.wire = wire
        self.link = connection
        self.on_wire = False
        self._arrived = bytearray()
        self._all_arrived = False
        self._news = trio.lowlevel.ParkingLot()
        self._messages = Messages(connection.config.max_app_queue_size)
        self.app_put = self._messages.put
        self._plan: ResponsePlan | None = None

    # ---- from the connection

    def begin(self, request: Request) -> None:
        """Make the scope and start the app. The handshake has been found valid."""
        self.start_time = time()  # Hypercorn's access log looks at it
        self.handshake = Handshake(request.headers, request.http_version)
        path, _, query = request.raw_path.partition(b"?")
        self.scope = {
            "type": "websocket",
            "asgi": {"spec_version": "2.4", "version": "3.0"},
            "scheme": self.scheme,
            "http_version": request.http_version,
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": self.config.root_path,
            "headers": request.headers,
            "client": self.client,
            "server": self.server,
            "state": request.state,
            "subprotocols": self.handshake.subprotocols or [],
            "extensions": {"websocket.http.response": {}},
        }
        self.link.nursery.start_soon(self._run)

    @property
    def wants_data(self) -> bool:
        """Whether there is room for more."""
        return len(self._arrived) < self.link.limits.request_buffer

    def data_came(self, data: bytes) -> None:
        """Bytes of frames, perhaps before the app has accepted; then they wait."""
        if not self.closed:
            self._arrived += data
            self._news.unpark_all()

    def data_ended(self) -> None:
        """HTTP/2: the client's half of the stream is over. What it said before still counts, its close above all."""
        self._all_arrived = True
        self._news.unpark_all()
        if self.state is not ASGIWebsocketState.CONNECTED:  # nobody takes frames apart yet
            self.client_left()
            self.wire.abandon(self)

    def client_left(self, _reason: object = None) -> None:
        """The client is gone without a word."""
        self._over(CloseReason.ABNORMAL_CLOSURE, "")

    def retire(self) -> None:
        """The server is shutting down: 1001 (RFC 6455 section 7.4.1)."""
        if self.state is ASGIWebsocketState.CONNECTED and not self.closed:
            self.link.nursery.start_soon(self._close, CloseReason.GOING_AWAY, "")

    def _over(self, code: int, reason: str) -> None:
        if not self.closed:
            self.closed = True
            self._arrived.clear()
            self._messages.leave(code, reason)
            self._news.unpark_all()

    async def _take_apart(self) -> None:
        while not self.closed:
            if not self._arrived:
                if self._all_arrived:
                    self.client_left()
                    self.wire.finish(self)
                    return
                await self._news.park()
                continue
            data = bytes(self._arrived[:PIECE])
            del self._arrived[:PIECE]
            try:
                self.connection.receive_data(data)
                await self._handle_events()
            except (ProtocolError, ClientGone):
                self._over(CloseReason.ABNORMAL_CLOSURE, "")
                return
            self.wire.consumed(self, len(data))

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                try:
                    self.buffer.extend(event)
                except FrameTooLargeError:
                    await self._close(CloseReason.MESSAGE_TOO_BIG, "")
                    return
                if event.message_finished:
                    await self._messages.put(self.buffer.to_message())
                    self.buffer.clear()
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                    self._over(event.code, event.reason or "")
                    self.wire.finish(self)
                else:  # frames that are none, or the answer to our own close
                    await self._close(event.code, event.reason or "")
                return

    async def _close(self, code: int, reason: str) -> None:
        """Say so, and be done with it; how the client replies to that does not matter any more."""
        if self.closed:
            return
        try:
            if self.connection.state is ConnectionState.OPEN:
                await self._send_wsproto_event(CloseConnection(code=code, reason=reason))
        except ClientGone:
            pass
        self._over(code, reason)
        self.wire.finish(self)

    # ---- from the app

    async def app_send(self, message: Any) -> None:
        """The app's ``send``. Raises ClientGone (an OSError) when the WebSocket is over."""
        if self.closed:
            raise ClientGone("the client has left")
        if message["type"] == "websocket.http.response.start" and self.state is ASGIWebsocketState.HANDSHAKE:
            self._plan = plan_response("GET", int(message["status"]), message.get("headers", ()))
        await super().app_send(message)

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        checked = plan_response("GET", 200, message.get("headers", ())).headers
        status, headers, self.connection = self.handshake.accept(message.get("subprotocol"), checked)
        self.state = ASGIWebsocketState.CONNECTED
        self.on_wire = True
        await self.wire.switch(self, status, headers)
        self.link.nursery.start_soon(self._take_apart)
        if self.config.websocket_ping_interval is not None:
            self.link.nursery.start_soon(self._ping)

    async def _ping(self) -> None:
        try:
            await self._send_pings()
        except ClientGone:
            self.client_left()

    async def _send_event(self, event: Event) -> None:
        """What Hypercorn's half of this class says to its protocol."""
        match event:
            case Data():
                await self.wire.send_raw(self, event.data)
            case EndData():  # the app has closed; its client may still reply
                self._over(CloseReason.NORMAL_CLOSURE, "")
                self.wire.finish(self)
            case Response():
                self._plan = self._plan or plan_response("GET", event.status_code, event.headers)
                await self.wire.respond(self, self._plan, b"", end=False)
            case Body():
                await self.wire.send_body(self, event.data, end=False)
            case EndBody():
                await self.wire.send_body(self, b"", end=True)
            case StreamClosed():
                pass

    def complete(self) -> None:
        """A refusal is whole, as far as the wire is concerned."""
        self._over(CloseReason.NORMAL_CLOSURE, "")

    async def _run(self) -> None:
        try:
            await self._messages.put({"type": "websocket.connect"})
            await self.app(self.scope, self._messages.get, self.app_send, trio.to_thread.run_sync, trio.from_thread.run)
        except BaseException as error:  # noqa: BLE001 -- whatever an app raises is the end of one WebSocket, no more
            fatal = fatal_part(error)
            if fatal is not error and not all(isinstance(leaf, ClientGone) for leaf in leaves(error)):
                await self.config.log.exception("The app failed")
            if fatal is not None:
                raise fatal from None
        finally:
            self.wire.app_ended(self)
        await self._finish()

    async def _finish(self) -> None:
        if self.closed:
            return
        try:
            if self.state is ASGIWebsocketState.HANDSHAKE and not self.on_wire:
                await self._send_error_response(500)
            elif self.state is ASGIWebsocketState.CONNECTED:
                await self._close(CloseReason.INTERNAL_ERROR, "")
            else:
                self._over(CloseReason.ABNORMAL_CLOSURE, "")
                self.wire.abandon(self)
        except ClientGone:
            self.client_left()
