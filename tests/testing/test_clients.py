import ssl
from collections.abc import AsyncGenerator

import httpx
import pytest
import trio
import trustme
from trio.testing import MockClock

from gateway.testing.backend import Backend, Connection, hang, respond, response
from gateway.testing.clients import http_client, raw_client
from gateway.testing.network import MemoryNetwork
from gateway.testing.orphans import assert_no_orphans
from gateway.testing.sockets import SocketNetwork

AnyNetwork = MemoryNetwork | SocketNetwork
URL = "http://service1:8001"


async def never_reads(conn: Connection) -> None:
    await conn.wait_closed(reading=False)


async def resets(conn: Connection) -> None:
    await conn.read_head()
    conn.reset()


async def test_client_keeps_its_connection_for_the_next_request(each_network: AnyNetwork) -> None:
    async with Backend(each_network, "service1", 8001, [respond(body=b"hi")]) as backend:
        async with http_client(each_network, base_url=URL) as client:
            assert [(await client.get("/")).text for _ in range(3)] == ["hi"] * 3
        await (await backend.connection()).wait_closed()
        assert each_network.connects == [("service1", 8001)]


async def test_client_leaves_a_connection_that_the_other_end_has_closed(each_network: AnyNetwork) -> None:
    async def once(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(response())

    async with (
        Backend(each_network, "service1", 8001, [once, once]) as backend,
        http_client(each_network, base_url=URL) as client,
    ):
        for number in range(2):
            assert (await client.get("/")).status_code == 200
            await (await backend.connection(number)).finished.wait()


async def test_client_comes_from_where_it_is_told(network: MemoryNetwork) -> None:
    async with Backend(network, "gateway", 80, respond()) as backend:
        async with http_client(network, source="192.0.2.7") as client:
            await client.get("/")
        address = backend.connections[0].remote_address
        assert address is not None
        assert address[0] == "192.0.2.7"


async def test_http2_is_spoken_with_prior_knowledge(network: MemoryNetwork) -> None:
    async def script(conn: Connection) -> None:
        preface.append(await conn.read_exactly(24))

    preface: list[bytes] = []
    async with Backend(network, "gateway", 80, script), http_client(network, http2=True) as client:
        with pytest.raises(httpx.TransportError):
            await client.get("/")
    assert preface == [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]


async def test_client_has_no_timeout_of_its_own(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    async with Backend(network, "service1", 8001, hang()), http_client(network, base_url=URL) as client:
        with trio.move_on_after(100_000) as scope:
            await client.get("/")
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("script", "error"),
    [(hang(), httpx.ReadTimeout), (never_reads, httpx.WriteTimeout), (None, httpx.ConnectTimeout)],
)
async def test_timeout_that_is_asked_for_ends_at_its_time(
    script: object, error: type[Exception], network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    if script is None:
        network.black_hole("service1", 8001)
    async with (
        assert_no_orphans(network),
        Backend(network, "service1", 8001, script if callable(script) else hang()),
        http_client(network, base_url=URL, timeout=2.5) as client,
    ):
        with pytest.raises(error):
            await client.post("/", content=bytes(100_000))
        assert trio.current_time() == 2.5


async def test_failure_to_connect_is_httpxs_own(each_network: AnyNetwork) -> None:
    async with http_client(each_network, base_url=URL) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
        each_network.unknown_name("service1")
        with pytest.raises(httpx.ConnectError, match="not known"):
            await client.get("/")


async def test_reset_is_httpxs_own_error_for_reading(network: MemoryNetwork) -> None:
    async with Backend(network, "service1", 8001, resets), http_client(network, base_url=URL) as client:
        with pytest.raises(httpx.ReadError):
            await client.get("/")


async def test_reset_while_writing_is_passed_over_by_httpcore_that_looks_for_an_answer_then(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def resets_in_the_middle(conn: Connection) -> None:
        await conn.sleep(1)
        conn.reset()

    async with Backend(network, "service1", 8001, resets_in_the_middle), http_client(network, base_url=URL) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/", content=bytes(200_000))


async def test_upload_that_is_cut_off_is_closed(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    ended_at = []

    async def body() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield bytes(10_000)
        finally:
            ended_at.append(trio.current_time())

    async with Backend(network, "service1", 8001, never_reads), http_client(network, base_url=URL) as client:
        with trio.move_on_after(2):
            await client.post("/", content=body())
    assert ended_at == [2]


async def test_certificate_that_is_not_trusted_fails_the_connection(network: MemoryNetwork) -> None:
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("service1").configure_cert(theirs)

    async def shake_hands(conn: Connection) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await conn.stream.receive_some()

    async with (
        assert_no_orphans(network),
        Backend(network, "service1", 443, shake_hands, tls=theirs),
        http_client(network, base_url="https://service1", tls=ssl.create_default_context()) as client,
    ):
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await client.get("/")


async def test_handshake_that_hangs_ends_at_the_timeout(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    async with (
        assert_no_orphans(network),
        Backend(network, "service1", 443, never_reads),
        http_client(network, base_url="https://service1", tls=ssl.create_default_context(), timeout=4) as client,
    ):
        with pytest.raises(httpx.ConnectTimeout):
            await client.get("/")
        assert trio.current_time() == 4


async def test_handshake_that_is_cancelled_leaves_nothing(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    async with (
        assert_no_orphans(network),
        Backend(network, "service1", 443, never_reads),
        http_client(network, base_url="https://service1", tls=ssl.create_default_context()) as client,
    ):
        with trio.move_on_after(1) as scope:
            await client.get("/")
        assert scope.cancelled_caught


async def test_raw_client_reads_several_answers_on_one_connection(each_network: AnyNetwork) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_head()
        await conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await conn.read_body()
        await conn.send(response(200, body=b"done"))

    async with (
        Backend(each_network, "service1", 8001, script),
        await raw_client(each_network, "service1", 8001) as client,
    ):
        await client.send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert (await client.read_response()).status == 100
        await client.send(b"abc")
        assert (await client.read_response()).body == b"done"
        assert await client.read_to_end() == b""
