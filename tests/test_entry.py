"""The entry before the routes: how each exchange ends, the one line that tells of it, and what a defect comes to."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from gateway.app import GatewayApp, create_app
from gateway.config import Service, Settings
from gateway.errors import Cause, Phase
from gateway.forward import Message, Scope, Send
from gateway.health import Verdict
from gateway.observe import Collector
from gateway.server import Limits
from gateway.testing.app import TWO_SERVICES, RunningGateway, running_gateway
from gateway.testing.backend import Backend, Connection, respond, response
from gateway.testing.http2 import h2_client
from gateway.testing.network import MemoryNetwork


class Answers(httpx.AsyncBaseTransport):
    """A transport that answers as it is told: what an exchange meets without a network."""

    def __init__(self, answer: Callable[[], Awaitable[httpx.Response]]) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("user-agent") == "api-gateway/health":
            return httpx.Response(200)
        return await self._answer()


class Pieces(httpx.AsyncByteStream):
    """A body that begins well and ends with a defect."""

    async def __aiter__(self) -> Any:
        yield b"begun"
        raise RuntimeError("a bug in the transport")


async def raises() -> httpx.Response:
    raise RuntimeError("a bug in the transport")


async def begins_and_raises() -> httpx.Response:
    return httpx.Response(200, headers={"content-length": "10"}, stream=Pieces())


async def hangs() -> httpx.Response:
    await trio.sleep_forever()
    raise AssertionError


def stock(app: GatewayApp) -> httpx.AsyncClient:
    """A client of a server that has none of our extensions."""
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type] # Hypercorn's types spell each message out
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


def scope_of(path: str, **changes: Any) -> Scope:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"gateway")],
        "client": None,
        **changes,
    }


async def call(app: GatewayApp, scope: Scope, send: Send) -> None:
    """Call the app as a server does whose client has sent its request and waits."""
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        for message in asked:
            return message
        await trio.sleep_forever()
        raise AssertionError

    await app(scope, receive, send)  # type: ignore[arg-type] # Hypercorn's types spell each message out


async def gone(_message: Message) -> None:
    raise OSError("the client has left")


# Every end of an exchange, and the one line that tells of it


async def backend(conn: Connection) -> None:
    while True:
        request = await conn.read_head()
        match request.target:
            case b"/api/ok":
                await conn.send(response(body=b"hello"))
            case b"/api/hangs":
                await conn.wait_closed()
            case b"/api/nonsense":
                await conn.send(b"SSH-2.0-OpenSSH_9\r\n\r\n")
            case b"/api/half":
                await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
                return
            case b"/api/stalls":
                await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
                await conn.wait_closed()
            case _:
                return


PATIENT = Service(name="patient", host="service1", port=8001, timeout=60)
SETTINGS = Settings(services=(*TWO_SERVICES.services, PATIENT), client_timeout=20, max_body_size=10)


@pytest.mark.requirement("FR-009")
@pytest.mark.parametrize(
    ("request_line", "rest", "status", "cause", "level", "phase"),
    [
        ("GET /health", "\r\n", 200, Cause.OK, "INFO", None),
        ("GET /api/service1/ok", "\r\n", 200, Cause.OK, "INFO", None),
        ("GET /nowhere", "\r\n", 404, Cause.NO_ROUTE, "INFO", None),
        ("POST /health", "\r\n", 405, Cause.BAD_REQUEST, "INFO", None),
        ("GET /api/service1/../x", "\r\n", 400, Cause.BAD_REQUEST, "INFO", None),
        ("POST /api/service1/ok", "Content-Length: 2000\r\n\r\n", 413, Cause.BODY_TOO_LARGE, "INFO", Phase.QUEUE),
        ("POST /api/patient/hangs", "Content-Length: 5\r\n\r\nab", 408, Cause.CLIENT_TOO_SLOW, "INFO", Phase.SEND),
        ("GET /api/patient/hangs", "\r\n", 499, Cause.CLIENT_GONE, "INFO", Phase.FIRST_BYTE),
        ("GET /api/patient/stalls", "\r\n", 499, Cause.CLIENT_GONE, "INFO", Phase.BODY),
        ("GET /api/service1/breaks-off", "\r\n", 502, Cause.BACKEND_BROKE_OFF, "WARNING", Phase.FIRST_BYTE),
        ("GET /api/service1/nonsense", "\r\n", 502, Cause.BAD_RESPONSE, "WARNING", Phase.FIRST_BYTE),
        ("GET /api/service1/half", "\r\n", 200, Cause.BACKEND_BROKE_OFF, "WARNING", Phase.BODY),
        ("GET /api/service1/stalls", "\r\n", 200, Cause.BACKEND_TIMEOUT, "WARNING", Phase.BODY),
        ("GET /api/service1/hangs", "\r\n", 504, Cause.BACKEND_TIMEOUT, "WARNING", Phase.FIRST_BYTE),
        ("GET /api/service2/x", "\r\n", 503, Cause.CONNECT_FAILED, "WARNING", Phase.CONNECT),
    ],
)
async def test_every_end_is_logged_exactly_once(
    network: MemoryNetwork,
    autojump_clock: MockClock,
    request_line: str,
    rest: str,
    status: int,
    cause: Cause,
    level: str,
    phase: Phase | None,
) -> None:
    async with (
        Backend(network, "service1", 8001, backend),
        running_gateway(network, SETTINGS) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(f"{request_line} HTTP/1.1\r\nHost: gateway\r\n{rest}".encode())
        with trio.move_on_after(40):  # longer than every clock but the patient one
            await client.read_to_end()
    (record,) = gateway.log
    assert (record.status_code, record.cause, record.level, record.phase) == (status, cause, level, phase)
    assert (record.error is None) == (cause is Cause.OK)
    assert record.message == f"{request_line} {status}"


async def test_exchange_that_the_drain_cuts_is_logged_once_and_counted(
    network: MemoryNetwork, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    answers = []

    async def ask(gateway: RunningGateway, path: str) -> None:
        async with gateway.client() as client:
            answers.append((path, (await client.get(path)).status_code, trio.current_time()))

    async def slow(conn: Connection) -> None:
        if (await conn.read_head()).target == b"/api/slow":
            await conn.sleep(3)
            await conn.send(response())
        await conn.wait_closed()

    async with Backend(network, "service1", 8001, slow):
        async with running_gateway(network, limits=Limits(drain_timeout=10)) as gateway:
            nursery.start_soon(ask, gateway, "/api/service1/hangs")
            nursery.start_soon(ask, gateway, "/api/service1/slow")
            await trio.sleep(1)
        assert answers == [("/api/service1/slow", 200, 3), ("/api/service1/hangs", 503, 11)]
    assert [(record.status_code, record.cause) for record in gateway.log] == [(200, Cause.OK), (503, Cause.DRAINED)]
    assert gateway.events[-1] == {"level": "INFO", "message": "the gateway has stopped", "finished": 1, "cut": 1}


async def test_line_tells_who_asked_for_what_and_where_it_went(network: MemoryNetwork) -> None:
    async with Backend(network, "service1", 8001, backend), running_gateway(network) as gateway:
        async with await gateway.raw_client(source="192.0.2.7") as client:
            await client.send(b"GET /api/service1/ok HTTP/1.1\r\nHost: gateway\r\n\r\n")
            await client.read_response()
            await client.send(b"GET /api/service1/%6Fk?token=secret HTTP/1.0\r\n\r\n")
            await client.read_to_end()
        first, second = await gateway.logged(2)
    assert (first.client_ip, first.method, first.path, first.protocol) == (
        "192.0.2.7",
        "GET",
        "/api/service1/ok",
        "HTTP/1.1",
    )
    assert (first.target_service, first.target_url) == ("service1", "http://service1:8001/api/ok")
    assert (first.bytes_in, first.bytes_out) == (0, 5)
    assert (second.path, second.protocol) == ("/api/service1/%6Fk", "HTTP/1.0")
    assert "secret" not in repr(second)


async def test_target_in_absolute_form_names_the_host_for_the_backend(network: MemoryNetwork) -> None:
    async with Backend(network, "service1", 8001, respond()) as service, running_gateway(network) as gateway:
        async with await gateway.raw_client() as client:
            await client.send(b"GET http://shop.example/api/service1/x?y HTTP/1.1\r\nHost: other.example\r\n\r\n")
            assert (await client.read_response()).status == 200
        (request,) = service.requests
        assert request.target == b"/api/x?y"
        assert (request.get(b"host"), request.get(b"x-forwarded-host")) == (b"shop.example", b"shop.example")


# Defects


async def test_defect_in_an_endpoint_is_500_with_its_traceback_in_the_log_alone(network: MemoryNetwork) -> None:
    def broken(_name: str, _now: float) -> Verdict:
        raise RuntimeError("a bug of ours")

    async with running_gateway(network) as gateway, gateway.client() as client:
        gateway.app.gateway.verdict = broken
        answer = await client.get("/api/gateway/services", headers={"X-Request-ID": "trace-42"})
        assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
        assert "a bug of ours" not in answer.text
        (record,) = await gateway.logged(1)
        assert (record.cause, record.level, record.status_code) == (Cause.INTERNAL, "ERROR", 500)
        defect = gateway.events[-1]
        assert (defect["level"], defect["message"], defect["request_id"]) == ("ERROR", "defect", "trace-42")
        assert "a bug of ours" in defect["traceback"]
        assert (await client.get("/livez")).text == "ok"


async def test_defect_in_forwarding_is_500_and_names_the_service(network: MemoryNetwork) -> None:
    async with (
        running_gateway(network, transports={"service1": Answers(raises)}) as gateway,
        gateway.client() as client,
    ):
        answer = await client.get("/api/service1/x")
        assert (answer.status_code, answer.json()["service"]) == (500, "service1")
        (record,) = await gateway.logged(1)
        assert (record.cause, record.target_service) == (Cause.INTERNAL, "service1")
        assert "a bug in the transport" in gateway.events[-1]["traceback"]


async def test_defect_in_the_middle_of_an_answer_breaks_it_off(network: MemoryNetwork) -> None:
    async with (
        running_gateway(network, transports={"service1": Answers(begins_and_raises)}) as gateway,
        gateway.client() as client,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/api/service1/x")
        (record,) = await gateway.logged(1)
        assert (record.cause, record.status_code, record.bytes_out) == (Cause.INTERNAL, 200, 5)


# Servers without our extensions


async def test_call_that_is_cancelled_is_logged_as_drained(autojump_clock: MockClock) -> None:
    sink = Collector()
    app = create_app(TWO_SERVICES, transports={"service1": Answers(hangs)}, sink=sink)
    with trio.move_on_after(1):
        await call(app, scope_of("/api/service1/x"), gone)
    (record,) = sink.records
    assert (record.cause, record.status_code, record.duration_ms) == (Cause.DRAINED, 503, 1000)
    assert app.gateway.in_flight == set()


@pytest.mark.parametrize(("path", "status", "cause"), [("/health", 499, "client_gone"), ("/nowhere", 404, "no_route")])
async def test_client_that_left_before_its_answer_is_no_defect(path: str, status: int, cause: str) -> None:
    sink = Collector()
    await call(create_app(TWO_SERVICES, sink=sink), scope_of(path), gone)
    (record,) = sink.records
    assert (record.status_code, record.cause, record.client_ip, record.bytes_out) == (status, cause, "", 0)
    assert sink.events == []


async def test_query_is_kept_without_the_extension_for_targets() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=request.extensions.get("target", b""))

    app = create_app(TWO_SERVICES, transports={"service1": httpx.MockTransport(answer)}, sink=Collector())
    async with stock(app) as client:
        assert (await client.get("/api/service1/a%2Fb?x=%20")).content == b"/api/a%2Fb?x=%20"
        assert (await client.get("/api/service1/a")).content == b"/api/a"


async def test_call_that_is_cancelled_once_its_answer_is_whole_is_logged_as_it_was() -> None:
    sink = Collector()
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=b"hello"))
    app = create_app(TWO_SERVICES, transports={"service1": transport}, sink=sink)
    with trio.CancelScope() as scope:

        async def send(message: Message) -> None:
            await trio.lowlevel.checkpoint()
            if not message.get("more_body", True):
                scope.cancel()

        await call(app, scope_of("/api/service1/x"), send)
    assert scope.cancelled_caught
    (record,) = sink.records
    assert (record.cause, record.status_code, record.bytes_out) == (Cause.OK, 200, 5)


@pytest.mark.parametrize("left", [False, True])
async def test_websocket_is_refused_and_logged(left: bool) -> None:  # noqa: FBT001 - a column of the table
    sink = Collector()
    said = []

    async def send(message: Message) -> None:
        said.append(message)
        if left:
            await gone(message)

    scope = scope_of("/api/service1/x", type="websocket")
    del scope["method"]
    await call(create_app(TWO_SERVICES, sink=sink), scope, send)
    assert said == [{"type": "websocket.close", "code": 1000}]
    (record,) = sink.records
    assert (record.message, record.status_code, record.cause) == (
        "GET /api/service1/x 403",
        403,
        Cause.BAD_REQUEST,
    )
    assert record.error == "WebSockets are not forwarded"


async def test_disconnect_that_a_server_says_from_within_the_last_send_is_no_departure(
    autojump_clock: MockClock,
) -> None:
    sink = Collector()
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=b"hello"))
    app = create_app(TWO_SERVICES, transports={"service1": transport}, sink=sink)
    completed = trio.Event()
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        for message in asked:
            return message
        await completed.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body" and not message["more_body"]:
            completed.set()
            await trio.sleep(1)  # the server makes its connection ready for the next request
            said.append(trio.current_time())

    said: list[float] = []
    await app(scope_of("/api/service1/x"), receive, send)  # type: ignore[arg-type] # as above
    assert said == [1]
    (record,) = sink.records
    assert (record.cause, record.status_code, record.bytes_out) == (Cause.OK, 200, 5)


async def test_time_in_which_the_client_does_not_take_our_answer_is_not_the_backends(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async with running_gateway(network) as gateway:
        async with await h2_client(network, greedy=False, window=100) as client:
            await client.answer(await client.request(b"/api/service1/x"))
        (record,) = await gateway.logged(1)
        assert (record.cause, record.phase, record.duration_ms) == (Cause.CONNECT_FAILED, Phase.CONNECT, 60_000)
        assert (record.timings_ms["connect"], record.timings_ms["body"]) == (0, 60_000)


@pytest.mark.parametrize(
    ("method", "hops", "status", "arrives"),
    [
        ("OPTIONS", "3", 200, b"2"),
        ("OPTIONS", "0", 204, None),
        ("TRACE", "1", 200, b"0"),
        ("TRACE", "0", 501, None),
        ("GET", "0", 200, b"0"),
        ("OPTIONS", "many", 200, b"many"),
    ],
)
async def test_request_goes_no_further_than_it_may(
    network: MemoryNetwork, method: str, hops: str, status: int, arrives: bytes | None
) -> None:
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network) as gateway,
        gateway.client() as client,
    ):
        answer = await client.request(method, "/api/service1/x", headers={"Max-Forwards": hops})
        (record,) = await gateway.logged(1)
    assert (answer.status_code, record.status_code) == (status, status)
    assert [request.get(b"max-forwards") for request in backend.requests] == ([] if arrives is None else [arrives])
