"""The request's body: when it is asked of the client, how slow and how large it may be."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio

from gateway.app import create_app
from gateway.config import Settings
from gateway.errors import Cause
from gateway.forward.body import READ_AHEAD_SECONDS
from gateway.observe import Collector
from gateway.testing.app import running_gateway
from gateway.testing.backend import Backend, Connection, hang, respond, response
from gateway.testing.network import MemoryNetwork
from gateway.transport import BackendTransport

Make = Callable[..., Settings]
Clock = trio.abc.Clock

URL = "/api/service1/x"


# 100 Continue


async def test_body_waits_for_the_backend_to_say_continue(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_head()
        await conn.sleep(0.5)
        assert conn.received.endswith(b"\r\n\r\n")  # no byte of the body has come
        await conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await conn.read_body()
        await conn.send(response(body=b"thanks"))

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        head = b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head)
        assert (await client.read_response()).status == 100
        await client.send(b"body")
        assert (await client.read_response()).body == b"thanks"


async def test_body_that_has_come_waits_for_no_continue(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    head = b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        start = trio.current_time()
        await client.send(head + b"body")
        assert (await client.read_response()).status == 200
        assert trio.current_time() == start
    assert (backend.requests[0].get(b"expect"), backend.requests[0].body) == (b"100-continue", b"body")


async def test_client_of_http_1_0_waits_for_no_continue(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    head = b"POST /api/service1/x HTTP/1.0\r\nHost: example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    async with (
        Backend(network, "service1", 8001, respond()),
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        start = trio.current_time()
        await client.send(head)
        await trio.sleep(0.01)
        await client.send(b"body")
        assert (await client.read_response()).status == 200
        assert trio.current_time() - start < 0.1


async def test_backend_that_refuses_at_the_head_is_spared_the_body(network: MemoryNetwork, settings: Make) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_head()
        await conn.send(response(417))
        await conn.wait_closed()

    async with (
        Backend(network, "service1", 8001, script) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        head = b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head)
        assert (await client.read_response()).status == 417
        await backend.connections[0].finished.wait()
    assert backend.connections[0].received.endswith(b"\r\n\r\n")


async def test_backend_that_knows_no_continue_gets_the_body_after_a_second(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async with (
        Backend(network, "service1", 8001, respond(body=b"old")),
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        start = trio.current_time()
        head = b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head)
        assert (await client.read_response()).status == 100
        assert trio.current_time() == start + 1
        await client.send(b"body")
        assert (await client.read_response()).body == b"old"


async def test_client_that_was_answered_instead_of_invited_is_not_waited_for(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def events(conn: Connection) -> None:
        await conn.read_head()
        await conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            await conn.send(b"4\r\ntick\r\n")
            await conn.sleep(20)
        await conn.send(b"0\r\n\r\n")

    async with (
        Backend(network, "service1", 8001, events),
        running_gateway(network, settings(client_timeout=60)) as gateway,
        await gateway.raw_client() as client,
    ):
        head = b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head)
        answer = await client.read_response()
    assert (answer.status, answer.body) == (200, b"tick" * 10)


# Without an announced length, as only HTTP/2 may have it


@pytest.mark.parametrize("expects", [False, True])
@pytest.mark.parametrize("pieces", [[b""], [b"small"], [b"x" * 20_000], [b"in", b"", b"pieces"]])
async def test_body_that_nobody_announced_reaches_the_backend_whole(
    network: MemoryNetwork,
    settings: Make,
    autojump_clock: Clock,
    pieces: list[bytes],
    expects: bool,  # noqa: FBT001 -- a parameter
) -> None:
    async def echo(conn: Connection) -> None:
        request = await conn.read_request()
        await conn.send(response(body=request.body))

    app = create_app(settings(), transports={"service1": BackendTransport(connect=network.connect)}, sink=Collector())
    left = list(pieces)
    sent = []

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if not left:
            await trio.sleep_forever()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "2",
        "method": "POST",
        "raw_path": b"/api/service1/x",
        "query_string": b"",
        "headers": [(b"host", b"example"), *[(b"expect", b"100-continue")] * expects],
    }
    async with Backend(network, "service1", 8001, echo):
        await app(scope, receive, send)  # type: ignore[arg-type] # plain dicts, as ASGI has them
    assert sent[0]["status"] == 200
    assert b"".join(message.get("body", b"") for message in sent) == b"".join(pieces)


# What may come behind it, and before it


@pytest.mark.parametrize("pause", [0, 1], ids=["at once", "later"])
async def test_trailers_go_on_but_for_those_that_must_come_before_the_body(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock, pause: float
) -> None:
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"POST /api/service1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await client.sleep(pause)
        await client.send(b"0\r\nX-Sum: 1\r\nX-Forwarded-For: 1\r\nHost: b\r\nX-Sum: 2\r\n\r\n")
        assert (await client.read_response()).status == 200
    assert backend.requests[0].trailers == [(b"X-Sum", b"1"), (b"X-Sum", b"2")]


async def test_head_goes_out_when_the_body_lets_itself_be_waited_for(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_head()
        assert trio.current_time() == start + READ_AHEAD_SECONDS
        await conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await conn.read_body()
        await conn.send(b"0\r\n\r\n")
        await conn.wait_closed()

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        start = trio.current_time()
        await client.send(b"POST /api/service1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        await client.read_until(b"hello")
        await client.send(b"hello")
        await client.read_until(b"0\r\n\r\n")


# Slow, and large


@pytest.mark.parametrize(("first", "pieces"), [(b"", 0), (b"some", 3)])
async def test_client_too_slow_with_its_body_is_408_at_its_own_timeout(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock, first: bytes, pieces: int
) -> None:
    async with (
        Backend(network, "service1", 8001, hang()),
        running_gateway(network, settings(timeout=5, client_timeout=60)) as gateway,
        await gateway.raw_client() as client,
    ):
        start = trio.current_time()
        await client.send(b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 100\r\n\r\n" + first)
        for _ in range(pieces):
            await client.sleep(50)
            await client.send(b"more")
        answer = await client.read_response()
        assert trio.current_time() == start + 50 * pieces + 60
        (record,) = await gateway.logged(1)
    assert answer.status == 408
    assert b"the client sent nothing more of its body for 60 s" in answer.body
    assert record.cause is Cause.CLIENT_TOO_SLOW


async def test_time_in_which_nobody_read_the_client_is_not_the_clients(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def slow(conn: Connection) -> None:
        while True:
            await conn.read_request()
            await conn.sleep(5)
            await conn.send(response())

    one = {"max_connections": 1}
    async with (
        Backend(network, "service1", 8001, slow),
        running_gateway(network, settings(client_timeout=2, service=one)) as gateway,
        await gateway.raw_client() as first,
        await gateway.raw_client() as client,
    ):
        await first.send(b"GET /api/service1/x HTTP/1.1\r\nHost: example\r\n\r\n")
        await trio.sleep(0.1)
        await client.send(b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\n\r\n")
        await trio.sleep(1)
        await client.send(b"body")  # it waits for a connection of the gateway's
        assert (await client.read_response()).status == 200


async def test_body_announced_over_the_limit_is_413_without_an_upload(network: MemoryNetwork, settings: Make) -> None:
    async with (
        Backend(network, "service1", 8001, hang()) as backend,
        running_gateway(network, settings(max_body_size=1000)) as gateway,
        await gateway.raw_client() as client,
    ):
        head = b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head)
        answer = await client.read_response()
        (record,) = await gateway.logged(1)
    assert answer.status == 413
    assert b"larger than 1000 bytes" in answer.body
    assert backend.connections == []
    assert (record.cause, record.bytes_in) == (Cause.BODY_TOO_LARGE, 0)


@pytest.mark.parametrize("http2", [False, True])
async def test_body_that_grows_over_the_limit_is_413_and_the_backend_is_cut(
    network: MemoryNetwork,
    settings: Make,
    http2: bool,  # noqa: FBT001 -- a parameter
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 100

    async with (
        Backend(network, "service1", 8001, hang()) as backend,
        running_gateway(network, settings(max_body_size=1000)) as gateway,
        gateway.h2_client() if http2 else gateway.client() as client,
    ):
        answer = await client.post(URL, content=endless())
        for connection in backend.connections:
            await connection.finished.wait()
    assert answer.status_code == 413


async def test_body_at_the_limit_passes(network: MemoryNetwork, settings: Make) -> None:
    async with (
        Backend(network, "service1", 8001, respond()),
        running_gateway(network, settings(max_body_size=1000)) as gateway,
        gateway.client() as client,
    ):
        assert (await client.post(URL, content=b"x" * 1000)).status_code == 200


@pytest.mark.parametrize("content", [b"x" * 3, b"x" * 5])
async def test_body_of_another_length_than_announced_is_refused(
    network: MemoryNetwork, settings: Make, content: bytes
) -> None:
    # Our own server lets no such body through; another one might.
    log = Collector()
    app = create_app(settings(), transports={"service1": BackendTransport(connect=network.connect)}, sink=log)
    sent = []

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "raw_path": b"/api/service1/x",
        "query_string": b"",
        "headers": [(b"host", b"example"), (b"content-length", b"4")],
    }
    async with Backend(network, "service1", 8001, respond()) as backend:
        await app(scope, receive, send)  # type: ignore[arg-type] # plain dicts, as ASGI has them
    assert sent[0]["status"] == 400
    assert "not as long as its Content-Length" in (log.records[0].error or "")
    assert backend.requests == []
