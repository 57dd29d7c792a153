"""One exchange from end to end, on the virtual clock: what crosses, and when and how it ends."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest
import trio

from gateway.app import GatewayApp, create_app
from gateway.config import Settings
from gateway.errors import Cause
from gateway.observe import Collector
from gateway.testing.app import running_gateway
from gateway.testing.backend import Backend, Connection, hang, respond, response
from gateway.testing.network import MemoryNetwork
from gateway.transport import BackendTransport

Make = Callable[..., Settings]
Clock = trio.abc.Clock

URL = "/api/service1/x"


# What crosses


@pytest.mark.requirement("FR-001")
async def test_service_segment_is_taken_off_and_the_rest_kept(network: MemoryNetwork, settings: Make) -> None:
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"GET /api/service1//a%2Fb;c=d%20e?x=1&y=%3F HTTP/1.1\r\nHost: example\r\n\r\n")
        assert (await client.read_response()).status == 200
    assert backend.requests[0].target == b"/api//a%2Fb;c=d%20e?x=1&y=%3F"


@pytest.mark.requirement("FR-003")
async def test_bare_question_mark_is_kept(network: MemoryNetwork, settings: Make) -> None:
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"GET /api/service1/x? HTTP/1.1\r\nHost: example\r\n\r\n")
        await client.read_response()
    assert backend.requests[0].target == b"/api/x?"


@pytest.mark.requirement("FR-003")
@pytest.mark.parametrize("method", ["GET", "get", "PURGE", "M-SEARCH"])
async def test_method_is_kept_as_it_is(network: MemoryNetwork, settings: Make, method: str) -> None:
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"%s /api/service1/ HTTP/1.1\r\nHost: example\r\n\r\n" % method.encode())
        await client.read_response()
    assert backend.requests[0].method == method.encode()


@pytest.mark.requirement("FR-004")
@pytest.mark.parametrize("status", [200, 201, 301, 404, 418, 500, 503, 599])
async def test_answer_of_the_backend_comes_back_as_it_is(network: MemoryNetwork, settings: Make, status: int) -> None:
    fields = [(b"Set-Cookie", b"a=1"), (b"X-Thing", b"\xe9"), (b"Set-Cookie", b"b=2"), (b"Location", b"/elsewhere")]
    async with (
        Backend(network, "service1", 8001, respond(status, fields, b"body")),
        running_gateway(network, settings()) as gateway,
        gateway.client() as client,
    ):
        answer = await client.get(URL)
    assert (answer.status_code, answer.content) == (status, b"body")
    assert [field for field in answer.headers.raw if field in fields] == fields


@pytest.mark.parametrize("http2", [False, True])
async def test_bodies_cross_in_both_directions(network: MemoryNetwork, settings: Make, http2: bool) -> None:  # noqa: FBT001 -- a parameter
    async def echo(conn: Connection) -> None:
        while True:
            request = await conn.read_request()
            await conn.send(response(body=request.body))

    async def in_pieces() -> AsyncIterator[bytes]:
        for number in range(20):
            yield bytes([number]) * 10_000

    whole = b"".join([bytes([number]) * 10_000 for number in range(20)])
    async with Backend(network, "service1", 8001, echo) as backend, running_gateway(network, settings()) as gateway:
        client = gateway.h2_client() if http2 else gateway.client()
        async with client:
            assert (await client.post(URL, content=b"small")).content == b"small"
            assert (await client.post(URL, content=whole)).content == whole
            assert (await client.post(URL, content=in_pieces())).content == whole
            assert (await client.post(URL, content=b"")).content == b""
        records = await gateway.logged(4)
    assert [(record.bytes_in, record.bytes_out) for record in records] == [(n, n) for n in (5, 200_000, 200_000, 0)]
    assert backend.requests[2].get(b"transfer-encoding") == b"chunked"
    assert backend.requests[0].get(b"content-length") == b"5"


async def test_answer_streams_as_it_comes(network: MemoryNetwork, settings: Make, autojump_clock: Clock) -> None:
    async def events(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            await conn.send(b"4\r\ntick\r\n")
            await conn.sleep(20)
        await conn.send(b"0\r\n\r\n")

    async with (
        Backend(network, "service1", 8001, events),
        running_gateway(network, settings(timeout=30)) as gateway,
        gateway.client() as client,
    ):
        start = trio.current_time()
        async with client.stream("GET", URL) as answer:
            arrived = [(trio.current_time() - start, piece) async for piece in answer.aiter_raw()]
    assert arrived == [(20.0 * n, b"tick") for n in range(5)]


async def test_answer_may_come_before_the_upload_ends(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def duplex(conn: Connection) -> None:
        await conn.read_head()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        for _ in range(2):
            await conn.send(await conn.read_exactly(2))
        await conn.wait_closed()

    async with (
        Backend(network, "service1", 8001, duplex),
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\n\r\nab")
        head = await client.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await client.read_exactly(2) == b"ab"
        await client.sleep(50)  # longer than the backend's timeout: it is the client that is waited for
        await client.send(b"cd")
        assert await client.read_exactly(2) == b"cd"
        (record,) = await gateway.logged(1)
    assert record.cause is Cause.OK


async def test_answer_that_ends_before_the_upload_ends_the_upload(network: MemoryNetwork, settings: Make) -> None:
    async def refuse(conn: Connection) -> None:
        await conn.read_head()
        await conn.send(response(401, [], b"no"))
        await conn.wait_closed()

    async with (
        Backend(network, "service1", 8001, refuse) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 9\r\n\r\npart")
        answer = await client.read_response()
        assert (answer.status, answer.body) == (401, b"no")
        await backend.connections[0].finished.wait()
        (record,) = await gateway.logged(1)
    assert (record.status_code, record.cause) == (401, Cause.OK)


async def test_answer_to_a_large_body_is_read_though_the_backend_takes_none_of_it(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    network.buffer_size = 1000

    async def refuse(conn: Connection) -> None:
        await conn.read_head()
        await conn.send(response(401, [], b"no"))
        await conn.sleep(1000)

    async with (
        Backend(network, "service1", 8001, refuse),
        running_gateway(network, settings(timeout=30)) as gateway,
        gateway.client() as client,
    ):
        start = trio.current_time()
        assert (await client.post(URL, content=b"x" * 60_000)).status_code == 401
        assert trio.current_time() < start + 5


async def test_trailers_reach_a_client_that_can_carry_them(network: MemoryNetwork, settings: Make) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n1\r\na\r\n0\r\nDigest: x\r\n\r\n"
        )
        await conn.wait_closed()

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        gateway.h2_client() as client,
    ):
        answer = await client.get(URL, headers={"TE": "trailers"})
        (record,) = await gateway.logged(1)
    assert answer.content == b"a"
    assert record.cause is Cause.OK


async def test_slow_reader_does_not_hold_the_connection_of_a_small_answer(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    network.buffer_size = 1000
    async with (
        Backend(network, "service1", 8001, respond(body=b"x" * 20_000)),
        running_gateway(network, settings(service={"max_connections": 1})) as gateway,
        await gateway.raw_client() as slow,
        gateway.client() as quick,
    ):
        await slow.send(b"GET /api/service1/x HTTP/1.1\r\nHost: example\r\n\r\n")
        await slow.sleep(40)
        answer = await quick.get(URL)
        assert answer.status_code == 200


async def test_nonsense_along_with_the_head_is_still_answered_with_502(network: MemoryNetwork, settings: Make) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        gateway.client() as client,
    ):
        answer = await client.get(URL)
    assert (answer.status_code, answer.json()["phase"]) == (502, "body")


async def test_head_goes_out_before_the_body_comes(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await conn.sleep(20)
        await conn.send(b"ok")

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        start = trio.current_time()
        await client.send(b"GET /api/service1/x HTTP/1.1\r\nHost: example\r\n\r\n")
        await client.read_until(b"\r\n\r\n")
        assert trio.current_time() == start
        assert await client.read_exactly(2) == b"ok"
        assert trio.current_time() == start + 20


async def test_any_httpx_transport_can_stand_in_for_ours(network: MemoryNetwork, settings: Make) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(202, headers={"X-Target": request.url.raw_path.decode()}, content=b"mock")

    mocked = {"service1": httpx.MockTransport(answer)}
    async with running_gateway(network, settings(), transports=mocked) as gateway, gateway.client() as client:
        got = await client.post(URL + "?a=b", content=b"hello")
    assert (got.status_code, got.content, got.headers["x-target"]) == (202, b"mock", "/api/x?a=b")


# Where it is refused, and where it breaks


@pytest.mark.parametrize(
    ("bytes_of_the_backend", "cause", "error"),
    [
        (b"", Cause.BACKEND_BROKE_OFF, "bad_gateway"),
        (b"HTTP/1.1 200 OK\r\n", Cause.BACKEND_BROKE_OFF, "bad_gateway"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Cause.BAD_RESPONSE,
            "bad_gateway",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Cause.BAD_RESPONSE, "bad_gateway"),
    ],
)
async def test_backend_that_breaks_off_or_talks_nonsense_is_502(
    network: MemoryNetwork, settings: Make, bytes_of_the_backend: bytes, cause: Cause, error: str
) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(bytes_of_the_backend or b"")

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        gateway.client() as client,
    ):
        answer = await client.get(URL)
        (record,) = await gateway.logged(1)
    assert (answer.status_code, answer.json()["error"], record.cause) == (502, error, cause)


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
async def test_answer_that_breaks_off_is_never_ended_cleanly(
    network: MemoryNetwork,
    settings: Make,
    answer: bytes,
    http2: bool,  # noqa: FBT001 -- a parameter
) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(answer)

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        gateway.h2_client() if http2 else gateway.client() as client,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(URL)
        (record,) = await gateway.logged(1)
        assert (await client.get("/health")).status_code == 200
    assert record.status_code == 200
    assert record.cause in (Cause.BACKEND_BROKE_OFF, Cause.BAD_RESPONSE)


async def test_ambiguous_request_is_400_and_reaches_nobody(network: MemoryNetwork, settings: Make) -> None:
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(
            b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody"
        )
        assert (await client.read_response()).status == 400
    assert backend.connections == []


# On a server that does not tell of a client's leaving


class PlainServer:
    """Calls the app as any ASGI server may, without an extension; what the client does is put into ``inbox``."""

    def __init__(self, app: GatewayApp, method: str = "GET", headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.app = app
        self.scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "raw_path": b"/api/service1/x",
            "path": "/api/service1/x",
            "query_string": b"",
            "headers": [(b"host", b"example"), *headers],
            "client": ("192.0.2.7", 1234),
            "server": ("gateway", 80),
        }
        self.inbox, self._receive = trio.open_memory_channel[dict[str, object]](10)
        self.sent: list[dict[str, Any]] = []
        self.broken = False

    async def send(self, message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise BrokenPipeError
        self.sent.append(message)

    async def run(self) -> None:
        await self.app(self.scope, self._receive.receive, self.send)  # type: ignore[arg-type] # plain dicts, as ASGI has them


def plain_app(network: MemoryNetwork, settings: Settings) -> tuple[GatewayApp, Collector]:
    log = Collector()
    return create_app(settings, transports={"service1": BackendTransport(connect=network.connect)}, sink=log), log


NOTHING_MORE: dict[str, object] = {"type": "http.request", "body": b"", "more_body": False}
GONE: dict[str, object] = {"type": "http.disconnect"}


async def test_disconnect_is_watched_for_where_nobody_tells(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    app, log = plain_app(network, settings())
    server = PlainServer(app)
    async with Backend(network, "service1", 8001, hang()) as backend, trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await server.inbox.send(NOTHING_MORE)
        await trio.sleep(3)
        left = trio.current_time()
        await server.inbox.send(GONE)
        assert await backend.connections[0].wait_closed() == left
    assert (log.records[0].cause, log.records[0].duration_ms) == (Cause.CLIENT_GONE, 3000)
    assert server.sent == []


async def test_disconnect_is_watched_for_once_the_upload_is_over(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    app, log = plain_app(network, settings())
    server = PlainServer(app, "POST", [(b"content-length", b"4")])
    async with Backend(network, "service1", 8001, hang()) as backend, trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await server.inbox.send({"type": "http.request", "body": b"bo", "more_body": True})
        await server.inbox.send({"type": "http.request", "body": b"dy", "more_body": False})
        await trio.sleep(3)
        await server.inbox.send(GONE)
        await backend.connections[0].finished.wait()
    assert backend.connections[0].received.endswith(b"body")
    assert log.records[0].cause is Cause.CLIENT_GONE


async def test_disconnect_within_the_upload_ends_the_tree(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    app, log = plain_app(network, settings())
    server = PlainServer(app, "POST", [(b"content-length", b"4")])
    async with Backend(network, "service1", 8001, hang()) as backend, trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await server.inbox.send({"type": "http.request", "body": b"bo", "more_body": True})
        await trio.sleep(3)
        await server.inbox.send(GONE)
        await backend.connections[0].finished.wait()
    assert (log.records[0].cause, log.records[0].bytes_in) == (Cause.CLIENT_GONE, 2)


async def test_whole_exchange_on_a_plain_server(network: MemoryNetwork, settings: Make) -> None:
    app, log = plain_app(network, settings())
    server = PlainServer(app)
    async with Backend(network, "service1", 8001, respond(body=b"ok")), trio.open_nursery() as nursery:
        await server.inbox.send(NOTHING_MORE)
        nursery.start_soon(server.run)
    assert [message["type"] for message in server.sent] == ["http.response.start", "http.response.body"]
    assert server.sent[1]["body"] == b"ok"
    assert log.records[0].client_ip == "192.0.2.7"


async def test_send_that_fails_is_a_client_that_left(network: MemoryNetwork, settings: Make) -> None:
    app, log = plain_app(network, settings())
    server = PlainServer(app)
    server.broken = True
    async with Backend(network, "service1", 8001, respond()), trio.open_nursery() as nursery:
        await server.inbox.send(NOTHING_MORE)
        nursery.start_soon(server.run)
    assert log.records[0].cause is Cause.CLIENT_GONE


@pytest.mark.parametrize(
    ("extension", "expected"),
    [
        ("http.response.early_hint", {"links": [b"</a.css>"]}),
        ("http.response.informational", {"status": 103, "headers": [(b"Link", b"</a.css>"), (b"X", b"y")]}),
    ],
)
async def test_informational_responses_reach_a_client_whose_server_can_send_them(
    network: MemoryNetwork, settings: Make, extension: str, expected: dict[str, object]
) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        hints = b"Link: </a.css>\r\nX: y\r\nKeep-Alive: 1\r\nConnection: Z\r\nZ: 1\r\nContent-Length: 1\r\n\r\n"
        await conn.send(b"HTTP/1.1 103 Early Hints\r\n" + hints + response())
        await conn.wait_closed()

    app, _log = plain_app(network, settings())
    server = PlainServer(app)
    server.scope["extensions"] = {extension: {}}
    async with Backend(network, "service1", 8001, script), trio.open_nursery() as nursery:
        await server.inbox.send(NOTHING_MORE)
        nursery.start_soon(server.run)
    assert server.sent[0] == {"type": extension, **expected}
    assert server.sent[1]["status"] == 200


async def test_trailers_are_sent_where_the_server_carries_them(network: MemoryNetwork, settings: Make) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n")
        await conn.send(b"1\r\na\r\n0\r\nDigest: x\r\nContent-Length: 7\r\n\r\n")
        await conn.wait_closed()

    app, _log = plain_app(network, settings())
    server = PlainServer(app)
    server.scope["extensions"] = {"http.response.trailers": {}}
    async with Backend(network, "service1", 8001, script), trio.open_nursery() as nursery:
        await server.inbox.send(NOTHING_MORE)
        nursery.start_soon(server.run)
    assert server.sent[0]["trailers"] is True
    assert server.sent[-1] == {"type": "http.response.trailers", "headers": [(b"Digest", b"x")]}
