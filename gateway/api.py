"""Every HTTP route, the gateway's own and the forwarded ones, and the one place where errors become answers.

| path | answered by |
|---|---|
| ``/health`` | ``health`` |
| ``/livez``, ``/readyz`` | ``livez``, ``readyz`` |
| ``/api/gateway/status``, ``/services``, ``/openapi.json`` | ``status``, ``services``, ``openapi_document`` |
| ``OPTIONS *`` | the gateway, for itself |
| a service's prefix | the service, by way of ``forward`` |
| anything else | 404 |

``ADMIN_ROUTES`` has those of the admin listener; ``admin`` answers them.

The owned endpoints are ordinary Quart routes. Proxied traffic does not pass through Quart: its request and response
objects change the case of headers, hold a body's data without backpressure and cut an answer after 60 s. So ``Entry``
stands before Quart's ASGI app and forks on the raw request target.
"""

import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from secrets import token_hex
from typing import Any, Protocol

import trio
from quart import Quart, Response, jsonify, request

from gateway import __version__, answers, headers, openapi
from gateway.clocks import ExchangeClock
from gateway.errors import (
    BadRequest,
    Cause,
    ClientGone,
    Draining,
    GatewayError,
    HeadTooLarge,
    Internal,
    MethodNotAllowed,
    NoRoute,
    NotImplementedMethod,
    Phase,
    RequestTimeout,
    VersionNotSupported,
)
from gateway.forward import Exchange, Message, Receive, Scope, Send, forward
from gateway.health import Verdict
from gateway.observe import Record, WallClock
from gateway.state import Gateway, Stage

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


ADMIN_ROUTES = {
    "/metrics": "metrics",
    "/debug/exchanges": "exchanges",
    "/health": "health",
    "/livez": "livez",
    "/readyz": "readyz",
}
"""Of the admin listener: the path, and the method of ``gateway.admin.Admin`` that makes its page."""

ID_SIZE = 16
"""Random bytes in a request id of ours."""
IDS_AT_ONCE = 64

_HOPS_ARE_COUNTED = frozenset(["OPTIONS", "TRACE"])
"""Of these alone a proxy must look at Max-Forwards (RFC 9110 section 7.6.2)."""
_REFUSED: dict[int, type[BadRequest] | type[RequestTimeout]] = {
    408: RequestTimeout,
    431: HeadTooLarge,
    501: NotImplementedMethod,
    505: VersionNotSupported,
}
"""What the server's refusals are to us; all others are a BadRequest."""


class AtTheDoor(Protocol):
    """A request that the server refuses before it reaches the app: gateway.server.Refusal."""

    @property
    def status(self) -> int:
        """The status of the answer."""

    @property
    def reason(self) -> str:
        """One sentence that quotes nothing of what came."""

    @property
    def http_version(self) -> str:
        """As in a scope."""

    @property
    def client(self) -> tuple[str, int] | None:
        """As in a scope."""

    @property
    def secure(self) -> bool:
        """Whether it came over TLS."""

    @property
    def method(self) -> str | None:
        """The method, where it could be read."""

    @property
    def target(self) -> bytes | None:
        """The request target, where it could be read."""

    @property
    def known_to_app(self) -> bool:
        """Whether the app had the request, and so has logged it."""


async def _nobody(_message: Message) -> None:
    """Nobody sends anything through an exchange that is over."""


class Entry:
    """The ASGI app in front of Quart's: one exchange per call, one log line per exchange."""

    def __init__(self, gateway: Gateway, quart: AsgiApp) -> None:
        self._gateway = gateway
        self._quart = quart
        self._ids = fresh_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Cancelled, the exchange's tree goes, and its end is logged as drained."""
        match scope["type"]:
            case "http":
                await self._exchange(scope, receive, send)
            case "websocket":
                await self._refuse_websocket(scope, receive, send)
            case _:
                await self._quart(scope, receive, send)

    def _begin(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        target, now = raw_target(scope), self._gateway.now
        return Exchange(
            scope,
            receive,
            send,
            headers.Inbound(
                client=(scope.get("client") or ("",))[0],
                scheme=scope.get("scheme", "http"),
                http_version=scope["http_version"],
            ),
            headers.request_id(scope["headers"]) or next(self._ids),
            ExchangeClock(self._gateway.limits, now()),
            target,
            target.partition(b"?")[0].decode("latin-1"),
            now,
        )

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        exchange = self._begin(scope, receive, send)
        gateway.in_flight.add(exchange)
        failure: GatewayError | None = None
        try:
            await self._answer(exchange)
        except GatewayError as error:
            failure = error
            await self._explain(exchange, error)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is a defect of ours, and is told as one
            failure = Internal("the gateway failed; its log tells why", detail=repr(error))
            trace = "".join(traceback.format_exception(error))
            gateway.sink.event("ERROR", "defect", request_id=exchange.request_id.decode("latin-1"), traceback=trace)
            await self._explain(exchange, failure)
        except BaseException:
            if not exchange.complete:
                failure = Draining("the process stopped before the request was over", phase=exchange.clock.phase)
            raise
        finally:
            gateway.in_flight.discard(exchange)
            self._log(exchange, failure)
            # It knows our frame, and our frame it: a cycle that holds whatever was on its way when it failed.
            failure = None

    async def _answer(self, exchange: Exchange) -> None:
        gateway = self._gateway
        scope = exchange.scope
        if scope["method"] == "CONNECT":
            raise NotImplementedMethod("CONNECT is not spoken here")
        match = gateway.routes.resolve(exchange.target)
        if match is None:
            if exchange.target == b"*":
                await self._options(exchange)
            else:
                await self._owned(exchange)
            return
        if scope["method"] in _HOPS_ARE_COUNTED and (hops := headers.hops_left(scope["headers"])) is not None:
            if hops == 0:
                await self._last_hop(exchange)
                return
            scope["headers"] = headers.one_hop_less(scope["headers"])
        upstream = gateway.upstreams[match.route.service]
        exchange.service = match.route.service
        exchange.target_url = upstream.service.origin + match.target.partition(b"?")[0].decode("latin-1")
        exchange.clock.hold_to(upstream.limits)
        if match.authority is not None:
            exchange.inbound = exchange.inbound._replace(authority=match.authority)
        await forward(exchange, upstream, prefix=match.route.prefix, target=match.target)

    async def _owned(self, exchange: Exchange) -> None:
        """Let Quart answer, and send what it said once it is done.

        Quart cancels the nursery of its request while its last message is being sent, which would reach into the
        server. And it would take a body that none of these endpoints wants; so it is shown none. What a route of ours
        raises comes out here, and is told as the defect that it is.
        """
        said: list[Message] = []

        async def hear(message: Message) -> None:
            said.append(message)
            await trio.lowlevel.checkpoint()

        told = False

        async def tell() -> Message:
            nonlocal told
            if told:
                await trio.sleep_forever()
            told = True
            await trio.lowlevel.checkpoint()
            return {"type": "http.request", "body": b"", "more_body": False}

        await self._quart(exchange.scope, tell, hear)
        start, *rest = said
        refuse_what_quart_refused(start)
        fields = [*start["headers"], (b"x-request-id", exchange.request_id)]
        body = b"".join(message.get("body", b"") for message in rest)
        await self._say(exchange, answers.Answer(start["status"], fields, body))

    async def _options(self, exchange: Exchange) -> None:
        if exchange.scope["method"] != "OPTIONS":
            raise BadRequest("the target * is for OPTIONS alone")
        fields = [(b"allow", b"GET, HEAD, OPTIONS"), (b"x-request-id", exchange.request_id)]
        await self._say(exchange, answers.Answer(204, fields, b""))

    async def _last_hop(self, exchange: Exchange) -> None:
        """The request must not be forwarded any more: it asks about us. To reflect a TRACE would tell credentials."""
        if exchange.scope["method"] == "TRACE":
            raise NotImplementedMethod("TRACE is not answered here")
        await self._say(exchange, answers.Answer(204, [(b"x-request-id", exchange.request_id)], b""))

    async def _explain(self, exchange: Exchange, failure: GatewayError) -> None:
        """Answer with the failure. Where an answer has begun, leave it unfinished: the server then breaks it off."""
        if exchange.status is not None or isinstance(failure, ClientGone):
            return
        now = trio.current_time()
        answer = answers.explain(
            failure,
            path=exchange.path,
            timestamp=self._gateway.wall.iso(now),
            request_id=exchange.request_id.decode("latin-1"),
            service=exchange.service,
            timings=exchange.clock.timings(now) if exchange.service is not None else None,
        )
        exchange.clock.enter(Phase.BODY, now)  # whoever failed us, the time that the client takes over it is not theirs
        with suppress(ClientGone):  # the log tells what it was to be answered
            await self._say(exchange, answer)

    async def _say(self, exchange: Exchange, answer: answers.Answer) -> None:
        """Send a whole answer of the gateway's own. Raises ClientGone."""
        exchange.status = answer.status
        fields = [*answer.headers, (b"date", self._gateway.date(trio.current_time()))]
        body = b"" if exchange.scope["method"] == "HEAD" else answer.body
        try:
            await exchange.send({"type": "http.response.start", "status": answer.status, "headers": fields})
            await exchange.send({"type": "http.response.body", "body": body, "more_body": False})
        except OSError as error:
            raise ClientGone("the client left before it had its answer") from error
        exchange.bytes_out += len(body)
        exchange.complete = True

    def refused(self, refusal: "AtTheDoor") -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Log what the server refused at the door, and give the fields and the body of its answer."""
        target = refusal.target or b"-"
        scope: Scope = {
            "http_version": refusal.http_version,
            "method": refusal.method or "-",
            "scheme": "https" if refusal.secure else "http",
            "headers": [],
            "client": refusal.client,
            "extensions": {"http.request.target": {"target": target}},
        }
        exchange = self._begin(scope, trio.sleep_forever, _nobody)
        failure = _REFUSED.get(refusal.status, BadRequest)(refusal.reason)
        now = trio.current_time()
        answer = answers.explain(
            failure,
            path=exchange.path,
            timestamp=self._gateway.wall.iso(now),
            request_id=exchange.request_id.decode("latin-1"),
        )
        exchange.status, exchange.bytes_out = refusal.status, len(answer.body)
        if not refusal.known_to_app:
            self._log(exchange, failure)
        fields = [field for field in answer.headers if field[0] != b"content-length"]  # the server counts for itself
        return [*fields, (b"date", self._gateway.date(now))], answer.body

    async def _refuse_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """WebSockets are not forwarded: a close before the handshake's end is answered with 403 by the server."""
        exchange = self._begin({"method": "GET", **scope}, receive, send)
        exchange.status = 403
        try:
            await receive()
            with suppress(OSError):  # the client has left
                await send({"type": "websocket.close", "code": 1000})
        finally:
            self._log(exchange, BadRequest("WebSockets are not forwarded"))

    def _log(self, exchange: Exchange, failure: GatewayError | None) -> None:
        gateway, scope = self._gateway, exchange.scope
        now = exchange.now()
        if gateway.stage is Stage.STOPPING:
            drained = failure is not None and failure.cause is Cause.DRAINED
            gateway.cut_off += drained
            gateway.finished += not drained
        status = exchange.status if exchange.status is not None else failure.status if failure is not None else 500
        if isinstance(failure, ClientGone):
            status = failure.status
        method, path = scope["method"], exchange.path
        gateway.ended(
            Record(
                timestamp=gateway.wall.iso(now),
                level=level_of(failure),
                message=f"{method} {path} {status}",
                request_id=exchange.request_id.decode("latin-1"),
                method=method,
                path=path,
                protocol=f"HTTP/{scope['http_version']}",
                client_ip=headers.client_address(scope["headers"], exchange.inbound, gateway.trusted),
                target_service=exchange.service,
                target_url=exchange.target_url,
                status_code=status,
                bytes_in=exchange.bytes_in,
                bytes_out=exchange.bytes_out,
                duration_ms=round((now - exchange.clock.started) * 1000, 3),
                timings_ms=answers.milliseconds(exchange.clock.timings(now)),
                cause=Cause.OK if failure is None else failure.cause,
                phase=None if failure is None else failure.phase,
                error=None if failure is None else why(failure),
            )
        )


def fresh_ids() -> Iterator[bytes]:
    """Random request ids without end. Randomness is fetched for many at once: each fetch is a system call."""
    while True:
        digits = token_hex(ID_SIZE * IDS_AT_ONCE).encode("ascii")
        for at in range(0, len(digits), 2 * ID_SIZE):
            yield digits[at : at + 2 * ID_SIZE]


def refuse_what_quart_refused(start: Message) -> None:
    """Turn Quart's own error answers, which are HTML, into failures of ours."""
    match start["status"]:
        case 404:
            raise NoRoute("the gateway has no such endpoint")
        case 405:
            allow = next(value for name, value in start["headers"] if name.lower() == b"allow")
            raise MethodNotAllowed("this endpoint does not take the method", allow=allow)


def raw_target(scope: Scope) -> bytes:
    """The request target as it came. A server without the extension loses a ``?`` with nothing behind it."""
    extension = (scope.get("extensions") or {}).get("http.request.target")
    if extension is not None:
        return bytes(extension["target"])
    path, query = scope["raw_path"], scope["query_string"]
    return bytes(path + b"?" + query if query else path)


def why(failure: GatewayError) -> str:
    """The reason as the log tells it: with what the answer had to leave out."""
    return failure.message if failure.detail is None else f"{failure.message} ({failure.detail})"


def level_of(failure: GatewayError | None) -> str:
    """The log level of an exchange's end: a client's fault is business as usual, a backend's is not."""
    if failure is None or failure.status < 500:
        return "INFO"
    return "ERROR" if failure.cause is Cause.INTERNAL else "WARNING"


def register(app: Quart, gateway: Gateway) -> None:
    """Declare the gateway's own routes on the Quart app."""

    def services_now() -> list[dict[str, Any]]:
        now = trio.current_time()
        return [
            {
                "name": route.service,
                "prefix": route.prefix.decode("ascii"),
                "status": "configured",
                "health": verdict_facts(gateway.verdict(route.service, now), gateway.wall),
            }
            for route in gateway.routes.routes
        ]

    @app.get("/health")
    async def health() -> tuple[Response, int]:
        facts, status = health_now(gateway)
        return jsonify(facts), status

    @app.get("/livez")
    async def livez() -> tuple[str, int, dict[str, str]]:
        return livez_now(gateway, verbose="verbose" in request.args)

    @app.get("/readyz")
    async def readyz() -> tuple[str, int, dict[str, str]]:
        return readyz_now(gateway, verbose="verbose" in request.args)

    @app.get("/api/gateway/status")
    async def status() -> Response:
        return jsonify({"status": gateway.stage, "version": __version__, "services": services_now()})

    @app.get("/api/gateway/services")
    async def services() -> Response:
        return jsonify(services_now())

    @app.get("/api/gateway/openapi.json")
    async def openapi_document() -> Response:
        return jsonify(openapi.document(__version__))

    @app.after_request
    async def never_stored(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response


def health_now(gateway: Gateway) -> tuple[dict[str, Any], int]:
    """What ``/health`` tells, and the status that goes with it."""
    healthy = gateway.stage is Stage.RUNNING and not gateway.crashed
    facts = {
        "status": "healthy" if healthy else "unhealthy",
        "service": "api-gateway",
        "version": __version__,
        "timestamp": gateway.wall.iso(trio.current_time()),
    }
    return facts, 200 if healthy else 503


def livez_now(gateway: Gateway, *, verbose: bool) -> tuple[str, int, dict[str, str]]:
    """Whether the process lives, as ``probe`` says it."""
    return probe("livez", {"ping": True, "tasks": not gateway.crashed}, verbose=verbose)


def readyz_now(gateway: Gateway, *, verbose: bool) -> tuple[str, int, dict[str, str]]:
    """Whether to send requests here, as ``probe`` says it."""
    checks = {
        "started": gateway.stage is not Stage.STARTING,
        "not-stopping": gateway.stage is not Stage.STOPPING,
        "tasks": not gateway.crashed,
    }
    return probe("readyz", checks, verbose=verbose)


def verdict_facts(verdict: Verdict, wall: WallClock) -> dict[str, Any]:
    """A verdict as the endpoints tell it."""
    return {
        "state": verdict.state,
        "since": None if verdict.since is None else wall.iso(verdict.since),
        "checked_at": None if verdict.checked_at is None else wall.iso(verdict.checked_at),
        "age_seconds": None if verdict.age is None else round(verdict.age, 3),
        "latency_ms": None if verdict.latency is None else round(verdict.latency * 1000, 3),
        "last_error": verdict.last_error,
    }


def probe(name: str, checks: Mapping[str, bool], *, verbose: bool) -> tuple[str, int, dict[str, str]]:
    """Answer a probe as Kubernetes' own endpoints do: ``ok``, or a line per check where asked, or where one fails."""
    passed = all(checks.values())
    if passed and not verbose:
        text = "ok"
    else:
        lines = [f"[{'+' if good else '-'}]{check} {'ok' if good else 'failed'}" for check, good in checks.items()]
        text = "\n".join([*lines, f"{name} check {'passed' if passed else 'failed'}", ""])
    return text, 200 if passed else 503, {"Content-Type": "text/plain; charset=utf-8"}
