"""The scope of one exchange, and the steps that run in it. The numbers are those of the package's docstring."""

from collections.abc import Callable

import httpx
import trio

from gateway import headers
from gateway.errors import BadRequest, BadResponse, ClientGone, GatewayError, PayloadTooLarge, Phase, RequestTimeout
from gateway.forward.body import ClientBody
from gateway.forward.carriers import Answer
from gateway.forward.exchange import Exchange, Message, Upstream
from gateway.forward.translation import first, translate
from gateway.http1 import RawHeaders
from gateway.transport import Hooks, Request

CONTINUE_SECONDS = 1.0
"""Seconds to wait for a backend's 100 Continue before the body is sent without it (RFC 9110 section 10.1.1)."""


async def forward(exchange: Exchange, upstream: Upstream, *, prefix: bytes, target: bytes) -> None:
    """Carry the exchange to its end.

    ``target`` is the request target for the backend, ``prefix`` what was taken off the client's. Raises GatewayError;
    ``exchange.status`` then tells whether an answer had begun. Cancelled from outside, the tree goes with it.
    """
    tree = Tree(exchange, upstream)
    exchange.cut = tree.fail
    with tree.scope:  # 1
        try:
            await tree.run(prefix, target)
        except* httpx.TransportError as group:
            tree.note(translate(first(group)))
        except* GatewayError as group:
            tree.note(first(group))
    exchange.cut = None
    if not exchange.complete:
        # What ends a tree without a word is its deadline.
        try:
            raise tree.failure or exchange.clock.failure(exchange.now())
        finally:
            tree.failure = None  # it knows our frame, and so the tree: a cycle


class Tree:
    """The scope of one exchange, and the steps that run in it."""

    __slots__ = (
        "_due",
        "_expected",
        "_extensions",
        "_last_said",
        "_may_upload",
        "_nursery",
        "_uninvited",
        "exchange",
        "failure",
        "scope",
        "upstream",
    )

    def __init__(self, exchange: Exchange, upstream: Upstream) -> None:
        self.exchange = exchange
        self.upstream = upstream
        self._due = exchange.clock.deadline
        """The scope's deadline; to ask the scope takes longer."""
        self.scope = trio.CancelScope(deadline=self._due)
        self.failure: GatewayError | None = None
        self._extensions = exchange.scope.get("extensions") or {}
        self._nursery: trio.Nursery | None = None
        self._may_upload: trio.Event | None = None
        self._expected = False
        """Whether the client waits for 100 Continue, which the server sends it once its body is asked for."""
        self._last_said = False
        self._uninvited = False

    # Ending it

    def note(self, failure: GatewayError) -> None:
        """Keep the first failure: what follows from it is not news."""
        if self.failure is None:
            if failure.phase is None:
                failure.phase = self.exchange.clock.phase
            self.failure = failure

    def fail(self, failure: GatewayError) -> None:
        """End the tree for this reason. Synchronous, so that whoever learns of the reason first can call it."""
        now = self.exchange.now()
        # A clock that has run out comes first. What ends then may tell of itself: the server aborts the connection that
        # the tree was writing to, and so says that the client has left.
        self.note(self.exchange.clock.failure(now) if now >= self._due else failure)
        self.scope.cancel()

    def client_left(self) -> None:
        """The client is gone, so nothing of this matters any more. The server may know of a reason."""
        match self._extensions.get("http.disconnect", {}).get("reason"):
            case "too slow":
                self.fail(RequestTimeout("the client read nothing more of the answer, and was cut off"))
            case "malformed":
                self.fail(BadRequest("the framing of the request's body is malformed"))
            case _:
                self.fail(ClientGone("the client left before the answer was complete"))

    def _tell(self, clock_method: Callable[[float], None]) -> None:
        now = self._be_in_time()
        clock_method(now)
        self._follow_clock()

    def _enter(self, phase: Phase) -> float:
        now = self._be_in_time()
        self.exchange.clock.enter(phase, now)
        if phase is not Phase.BODY:  # which begins with a wait for the client: to move the clock once is enough
            self._follow_clock()
        return now

    def _be_in_time(self) -> float:
        """End the tree where what was waited for came in the turn of its deadline, or later: the deadline has won."""
        now = self.exchange.now()
        if now >= self._due:
            self.fail(self.exchange.clock.failure(now))
        return now

    def _follow_clock(self) -> None:
        deadline = self.exchange.clock.deadline
        if deadline != self._due:  # moving it costs trio a place in a heap, even to where it is
            self._due = self.scope.deadline = deadline

    # The steps

    async def run(self, prefix: bytes, target: bytes) -> None:
        """Steps 2 to 5."""
        exchange, upstream = self.exchange, self.upstream
        extension = self._extensions.get("http.disconnect")
        if extension is not None:
            extension["subscribe"](self.client_left)

        body = ClientBody(self)  # 2
        if body.announced is not None and body.announced > upstream.max_body_size:
            raise self.too_large()
        outgoing = headers.request_headers(
            exchange.scope["headers"],
            exchange.inbound,
            trusted=upstream.trusted,
            prefix=prefix,
            request_id=exchange.request_id,
            authority=upstream.service.authority,
            preserve_host=upstream.service.preserve_host,
        )
        if body.expects_continue:
            self._may_upload, self._expected = trio.Event(), True
        elif not body.ended:
            await body.read_ahead()
        if body.goes_in_chunks:
            outgoing.append((b"transfer-encoding", b"chunked"))
        elif body.counted is not None:
            outgoing.append((b"content-length", b"%d" % body.counted))

        if body.is_small and extension is not None:
            await self._carry(body, outgoing, target)
            return
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if body.is_small:
                self.watch_client()
            await self._carry(body, outgoing, target)
            nursery.cancel_scope.cancel()

    async def _carry(self, body: ClientBody, outgoing: RawHeaders, target: bytes) -> None:
        request = Request(
            self.exchange.scope["method"].encode("latin-1"),
            target,
            outgoing,
            body.first if body.is_small else body,
            body.length,
            trailers=lambda: body.trailers,
        )
        hooks = Hooks(self._nursery, self._enter, self._informational)
        answer = await self.upstream.carry(request, hooks)  # 3
        try:
            await self._answer(answer)
        finally:
            await answer.aclose()

    async def _answer(self, answer: Answer) -> None:
        exchange, head = self.exchange, answer.head
        now = self._enter(Phase.BODY)  # 4
        if self._may_upload is not None:
            self._uninvited = not self._may_upload.is_set()
            self._may_upload.set()
        outgoing = headers.response_headers(
            head.headers,
            http_version=head.http_version,
            request_id=exchange.request_id,
            date=self.upstream.date(now),
        )
        # What came along with the head is looked at first: nonsense in it can still be answered with a 502.
        piece = answer.take_buffered()
        ended = answer.at_end
        start: Message = {"type": "http.response.start", "status": head.status, "headers": outgoing}
        # Whether any come is known at the end alone: not every backend announces them (RFC 9110 section 6.6.2).
        trailers = (
            "http.response.trailers" in self._extensions
            and (not ended or bool(answer.trailers))
            and any(name.lower() == b"transfer-encoding" for name, _ in head.headers)
        )
        if trailers:
            start["trailers"] = True
        await trio.lowlevel.checkpoint_if_cancelled()  # one that is ended by now can still be told why
        exchange.status = head.status
        # A server holds the head back until a body message comes, so an empty one goes where there is nothing yet.
        await self._pass_on(piece, start, more_body=not ended)
        if not ended:
            async for piece in answer:
                ended = answer.at_end
                await self._pass_on(piece, more_body=not ended)
            if not ended:  # 5
                await self._pass_on(b"", more_body=False)
        if trailers:
            fields = headers.trailer_fields(answer.trailers, BadResponse)
            await self._send({"type": "http.response.trailers", "headers": fields})
        exchange.complete = True

    async def _pass_on(self, piece: bytes, *before: Message, more_body: bool) -> None:
        self._last_said = not more_body
        await self._send(*before, {"type": "http.response.body", "body": piece, "more_body": more_body})
        self.exchange.bytes_out += len(piece)
        if more_body:
            self._tell(self.exchange.clock.client_was_written)

    async def _send(self, *messages: Message) -> None:
        """Hand messages to the server, on the client's clock, which runs until a body message has been taken."""
        self._tell(self.exchange.clock.write_client)
        try:
            for message in messages:
                await self.exchange.send(message)
        except OSError as error:  # what an ASGI server may raise once the client is gone
            raise ClientGone("the client left before the answer was complete") from error

    async def _informational(self, status: int, fields: RawHeaders) -> None:
        if status == 100 and self._may_upload is not None:
            self._may_upload.set()
        elif "http.response.informational" in self._extensions:
            # All of them, as a proxy must (RFC 9110 section 15.2), but for the 100 that the server itself sends.
            if status != 100 or not self._expected:
                kept = headers.informational_headers(fields)
                await self._send({"type": "http.response.informational", "status": status, "headers": kept})
                self._tell(self.exchange.clock.client_was_written)
        elif status == 103 and "http.response.early_hint" in self._extensions:
            links = [value for name, value in fields if name.lower() == b"link"]
            await self._send({"type": "http.response.early_hint", "links": links})
            self._tell(self.exchange.clock.client_was_written)

    def too_large(self) -> PayloadTooLarge:
        """The failure of a body over the limit, announced or sent."""
        return PayloadTooLarge(f"the request body is larger than {self.upstream.max_body_size} bytes")

    # What the body, running in the transport's hands, asks of the tree

    async def wait_to_upload(self) -> None:
        """Wait for the backend's 100 Continue, its answer, or the end of the patience with one that knows neither."""
        if self._may_upload is not None:
            with trio.move_on_after(CONTINUE_SECONDS):
                await self._may_upload.wait()
            self._may_upload = None

    async def read_client(self) -> Message:
        """The next message of the client's body, on the client's clock.

        With the answer begun, a client that waits for its 100 Continue gets none any more and need not send its body
        (RFC 9110 section 10.1.1). So nobody waits for it either.
        """
        if not self._uninvited:
            self._tell(self.exchange.clock.read_client)
        message = await self.exchange.receive()
        self._uninvited = False
        self._tell(self.exchange.clock.client_was_read)
        if message["type"] != "http.disconnect":
            return message
        self.client_left()
        await trio.sleep_forever()  # the scope is cancelled, so this ends where it stands
        raise AssertionError("unreachable")

    def client_not_read(self) -> None:
        """Reading was given up for now: the client is not waited for."""
        self._tell(self.exchange.clock.read_later)

    def watch_client(self) -> None:
        """The body is whole, so nobody reads from the client: on a server that does not tell, a task must watch."""
        if "http.disconnect" not in self._extensions and self._nursery is not None:
            self._nursery.start_soon(self._watch_client, name="watch client")

    async def _watch_client(self) -> None:
        while (await self.exchange.receive())["type"] != "http.disconnect":
            pass
        # Stock Hypercorn also says it of an answer that is complete, from within the very send that completes it.
        if not self._last_said:
            self.client_left()
