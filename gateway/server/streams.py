"""One request and its answer, as the app sees them: scope, ``receive``, ``send``.

What lives here: the ASGI side of an exchange, the same for HTTP/1.1 and HTTP/2, and the task that runs the app. What
never will: how an answer is framed; that is the protocol's, behind ``Wire``.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

import trio
from hypercorn.protocol.events import Event
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.typing import ASGIReceiveEvent, ConnectionState
from hypercorn.utils import UnexpectedMessageError

from gateway.http1 import RawHeaders
from gateway.server.failures import ClientGone, fatal_part, leaves
from gateway.server.inbox import Inbox
from gateway.server.responses import ResponsePlan, plan_response

if TYPE_CHECKING:
    from gateway.server.connection import Connection
    from gateway.server.transport import Address


class Departure(StrEnum):
    """Why a client is taken to have left, where it did not just leave: ``reason`` in the extension."""

    TOO_SLOW = "too slow"
    """It let a write wait for ``Limits.client_timeout``, and was cut off."""
    MALFORMED = "malformed"
    """Its body is not framed as announced, and no further byte of it can be understood."""


class Wire(Protocol):
    """The protocol underneath, as far as one exchange needs it. A coroutine of it raises ClientGone."""

    async def respond(self, stream: "RequestStream", plan: ResponsePlan, data: bytes, *, end: bool) -> None:
        """The head, with the first piece of the body; ``end``: and that was all of it.

        Sets ``stream.on_wire`` when there is no way back: cancelled before that, nothing was said.
        """

    async def send_body(self, stream: "RequestStream", data: bytes, *, end: bool) -> None:
        """A further piece."""

    async def send_informational(
        self, stream: "RequestStream", status: int, headers: list[tuple[bytes, bytes]]
    ) -> None:
        """A 1xx before the answer, where the scope has the extension."""

    async def send_trailers(self, stream: "RequestStream", headers: list[tuple[bytes, bytes]]) -> None:
        """The end of a body whose response announced trailers."""

    async def invite_body(self, stream: "RequestStream") -> None:
        """The app asks for the body for the first time."""

    def consumed(self, stream: "RequestStream", size: int) -> None:
        """The app took so many bytes of the body."""

    def abandon(self, stream: "RequestStream") -> None:
        """The app will not complete its answer. The client must not take what it has for an end."""

    def app_ended(self, stream: "RequestStream") -> None:
        """The app's task is over."""


async def _unused(event: Event) -> None:
    """What Hypercorn's stream would talk to its protocol through; ours does so through ``Wire``."""
    raise AssertionError(f"nobody sends {event}")


class RequestStream(HTTPStream):
    """Hypercorn's stream, with a queue of its own towards the app and with the two extensions.

    ``state`` goes REQUEST (nothing said), RESPONSE (the head is said), TRAILERS (the body is), CLOSED (complete).
    ``closed`` is true from the moment the client has left.
    """

    def __init__(  # noqa: PLR0913 -- who, from where, over what
        self,
        wire: Wire,
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
            connection.tasks,
            secure,
            client,
            server,
            _unused,
            stream_id,
        )
        self.wire = wire
        self.connection = connection
        self.inbox = Inbox(self._consumed)
        self.plan: ResponsePlan | None = None
        self.on_wire = False
        """Something of the answer is on the wire."""
        self.left_to_send: int | None = None
        """Bytes until the Content-Length that the app gave."""
        self._trailers = False
        self._asked = False
        self._callbacks: list[Callable[[], None]] = []
        self.disconnect: dict[str, Any] = {"subscribe": self.subscribe, "reason": None}
        """The ``http.disconnect`` extension, see the package."""
        self.body: dict[str, Any] = {"is_ready": self.inbox.is_ready, "trailers": ()}
        """The ``http.request.body`` extension, see the package."""

    # ---- from the connection

    def begin(  # noqa: PLR0913, PLR0917 -- as Hypercorn's event has it, which takes longer to make than all of this
        self,
        method: str,
        target: bytes,
        http_version: str,
        headers: RawHeaders,
        state: ConnectionState,
        extensions: dict[str, dict[Any, Any]],
    ) -> None:
        """Make the scope and start the app."""
        path, _, query = target.partition(b"?")
        self.scope = {
            "type": "http",
            "asgi": {"spec_version": "2.4", "version": "3.0"},
            "http_version": http_version,
            "method": method,
            "scheme": self.scheme,
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": self.config.root_path,
            "headers": headers,
            "client": self.client,
            "server": self.server,
            "state": state,
            "extensions": {
                "http.request.target": {"target": target},
                "http.request.body": self.body,
                "http.disconnect": self.disconnect,
                **extensions,
            },
        }
        self.connection.nursery.start_soon(self._run, name="request")

    def data_came(self, data: bytes) -> None:
        """A piece of the body."""
        self.inbox.put(data)

    def trailers_came(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The fields behind the body, which ends with them."""
        self.body["trailers"] = trailers

    def data_ended(self) -> None:
        """The body is whole."""
        self.inbox.end()

    def retire(self) -> None:
        """The server is shutting down. The answer may take its time."""

    def client_left(self, reason: "Departure | None" = None) -> None:
        """The client is gone. Nothing happens when the answer is complete."""
        if self.closed or self.state is ASGIHTTPState.CLOSED:
            return
        self.closed = True
        self.disconnect["reason"] = reason or self.connection.departure
        self.inbox.leave()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 -- the app's code; the others must still be told
                self.connection.nursery.start_soon(self.config.log.error, "A disconnect callback failed: %r", error)

    def complete(self) -> None:
        """The answer is whole, as far as the wire is concerned."""
        self.state = ASGIHTTPState.CLOSED
        self._callbacks.clear()
        self.inbox.leave()

    def _consumed(self, size: int) -> None:
        self.wire.consumed(self, size)

    # ---- from the app

    def subscribe(self, callback: Callable[[], None]) -> None:
        """The ``http.disconnect`` extension, see the package."""
        if self.closed:
            callback()
        elif self.state is not ASGIHTTPState.CLOSED:
            self._callbacks.append(callback)

    async def receive(self) -> ASGIReceiveEvent:
        """The app's ``receive``."""
        if not self._asked:
            if not self.closed and not self.on_wire:
                try:
                    await self.wire.invite_body(self)
                except ClientGone:
                    self.client_left()
            self._asked = True  # not sooner: who is cancelled before the client is asked has to ask again
        return await self.inbox.get()

    async def app_send(self, message: Any) -> None:
        """The app's ``send``.

        Raises ClientGone (an OSError) when the client has left, ValueError for a response that cannot be sent as it
        is, UnexpectedMessageError out of turn.
        """
        kind = message["type"]
        if self.closed:
            raise ClientGone("the client has left")
        if kind == "http.response.body" and self.state is ASGIHTTPState.RESPONSE:
            await self._send_body(bytes(message.get("body", b"")), end=not message.get("more_body", False))
        elif kind == "http.response.start" and self.state is ASGIHTTPState.REQUEST:
            self.plan = plan_response(self.scope["method"], int(message["status"]), message.get("headers", ()))
            self._trailers = bool(message.get("trailers", False))
            self.left_to_send = None if self.plan.bodiless else self.plan.length
            self.state = ASGIHTTPState.RESPONSE
        elif kind == "http.response.trailers" and self.state is ASGIHTTPState.TRAILERS:
            trailers = plan_response("GET", 200, message.get("headers", ())).headers
            await self.wire.send_trailers(self, trailers)
        elif kind == "http.response.early_hint" and self._may_hint():
            hints = plan_response("GET", 200, [(b"link", link) for link in message["links"]]).headers
            await self.wire.send_informational(self, 103, hints)
        elif kind == "http.response.informational" and self._may_inform(message["status"]):
            fields = plan_response("GET", 200, message["headers"]).headers
            await self.wire.send_informational(self, message["status"], fields)
        else:
            raise UnexpectedMessageError(self.state, kind)

    def _may_hint(self) -> bool:
        return self.state is ASGIHTTPState.REQUEST and "http.response.early_hint" in self.scope["extensions"]

    def _may_inform(self, status: int) -> bool:
        """Before the answer, and any 1xx but the one that ends HTTP on this connection (RFC 9110 section 15.2)."""
        may = self.state is ASGIHTTPState.REQUEST and "http.response.informational" in self.scope["extensions"]
        return may and 100 <= status < 200 and status != 101

    async def _send_body(self, data: bytes, *, end: bool) -> None:
        assert self.plan is not None  # noqa: S101 -- RESPONSE comes with a plan
        if self.plan.bodiless:
            data = b""
        left = None if self.left_to_send is None else self.left_to_send - len(data)
        if left is not None and (left < 0 or (end and left > 0)):
            self.abandon()
            raise ValueError(f"the body is {'longer' if left < 0 else 'shorter'} than its Content-Length")
        trailers = end and self._trailers
        end = end and not trailers
        if self.on_wire:
            await self.wire.send_body(self, data, end=end)
        else:
            await self.wire.respond(self, self.plan, data, end=end)
        # Not sooner: of a message that is cancelled before its first byte nothing was sent.
        self.left_to_send = left
        if trailers:
            self.state = ASGIHTTPState.TRAILERS

    def abandon(self) -> None:
        """Break off: reset or close, so that nobody takes what was sent for the whole."""
        if not self.closed and self.state is not ASGIHTTPState.CLOSED:
            self.closed = True
            self._callbacks.clear()
            self.inbox.leave()
            self.wire.abandon(self)

    async def _run(self) -> None:
        try:
            await self.app(self.scope, self.receive, self.app_send, trio.to_thread.run_sync, trio.from_thread.run)
        except BaseException as error:  # noqa: BLE001 -- what is fatal is raised again
            # Whatever an app raises is the end of one exchange, and of no more.
            fatal = fatal_part(error)
            if fatal is not error and not all(isinstance(leaf, ClientGone) for leaf in leaves(error)):
                await self.config.log.exception("The app failed")
            if fatal is not None:
                self.abandon()
                raise fatal from None
            await self._finish()
        else:
            await self._finish()
        finally:
            self.wire.app_ended(self)
            # The scope knows us and we know it: a cycle per request is what keeps the garbage collector busy.
            self.disconnect.pop("subscribe")
            self.inbox.forget()

    async def _finish(self) -> None:
        if self.closed or self.state is ASGIHTTPState.CLOSED:
            return
        if self.on_wire:
            self.abandon()
            return
        # The app has said nothing that reached the client: that is ours to say.
        plan = plan_response(self.scope["method"], 500, [(b"content-length", b"0")])
        try:
            await self.wire.respond(self, plan, b"", end=True)
        except ClientGone:
            self.client_left()
