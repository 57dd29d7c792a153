import ssl
from functools import partial

import pytest
import trio
import trio.testing
import trustme
from trio.testing import MockClock

from gateway.testing.backend import Backend, Connection, UnexpectedConnectionError, hang, respond, response
from gateway.testing.clients import RawClient, http_client, raw_client
from gateway.testing.network import MemoryNetwork
from gateway.testing.orphans import assert_no_orphans
from gateway.testing.sockets import SocketNetwork

AnyNetwork = MemoryNetwork | SocketNetwork

GET = b"GET / HTTP/1.1\r\nHost: service1\r\n\r\n"


async def test_script_sees_what_the_client_sends_and_says_what_it_means(each_network: AnyNetwork) -> None:
    async def script(conn: Connection) -> None:
        request = await conn.read_request()
        await conn.send(response(201, [(b"X-Method", request.method)], request.body[::-1]))
        await conn.half_close()
        await conn.wait_closed()

    async with Backend(each_network, "service1", 8001, script) as backend:
        async with http_client(each_network, base_url="http://service1:8001") as client:
            answer = await client.post("/x?", content=b"abc")
        assert (answer.status_code, answer.headers["x-method"], answer.content) == (201, "POST", b"cba")
        conn = await backend.connection()
        await conn.finished.wait()
        assert conn.gone_at is not None
        assert conn.received.startswith(b"POST /x? HTTP/1.1\r\n")
        assert conn.received.endswith(b"abc")
        assert [request.target for request in backend.requests] == [b"/x?"]


async def test_script_keeps_time(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel")
        await conn.sleep(29)
        conn.reset()

    async with Backend(network, "service1", 8001, script), await raw_client(network, "service1", 8001) as client:
        await client.send(GET)
        await client.wait_closed()
    assert client.arrivals == [(0, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel")]
    assert (client.gone_at, client.was_reset) == (29, True)


async def test_list_has_a_script_for_each_connection_in_order(each_network: AnyNetwork) -> None:
    scripts = [respond(body=b"first"), respond(503), respond(body=b"third")]
    async with Backend(each_network, "service1", 8001, scripts) as backend:
        seen = []
        for _ in scripts:
            async with await raw_client(each_network, "service1", 8001) as client:
                await client.send(GET + GET)
                seen += [await client.read_response(), await client.read_response()]
        assert [answer.body for answer in seen] == [b"first", b"first", b"", b"", b"third", b"third"]
        assert [conn.number for conn in backend.connections] == [0, 1, 2]


async def test_connection_without_a_script_is_reset_and_fails_the_test(network: MemoryNetwork) -> None:
    async def connect_twice() -> None:
        async with Backend(network, "service1", 8001, [hang()]):
            clients.extend([await raw_client(network, "service1", 8001) for _ in range(2)])
            await trio.sleep_forever()

    clients: list[RawClient] = []
    with pytest.raises(UnexpectedConnectionError, match="connection 2 to service1:8001, but scripts for 1"):
        await connect_twice()
    await clients[1].wait_closed()
    assert clients[1].was_reset


async def test_failure_of_a_script_comes_out_as_it_is(network: MemoryNetwork) -> None:
    async def script(conn: Connection) -> None:
        assert (await conn.read_head()).method == b"POST"

    async def get() -> None:
        backend = Backend(network, "service1", 8001, script)
        async with backend, await raw_client(network, "service1", 8001) as client:
            await client.send(GET)
            await trio.sleep_forever()

    with pytest.raises(AssertionError, match="GET"):
        await get()


async def test_failure_of_the_test_comes_out_as_it_is(network: MemoryNetwork) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Backend(network, "service1", 8001, hang()):
            raise ZeroDivisionError


async def test_client_that_leaves_ends_a_script_quietly_and_closes_its_connection(each_network: AnyNetwork) -> None:
    async with Backend(each_network, "service1", 8001, respond()) as backend:
        async with await raw_client(each_network, "service1", 8001) as client:
            await client.send(b"GET / HT")
        conn = await backend.connection()
        await conn.finished.wait()
        assert conn.received == b"GET / HT"
        assert conn.requests == []


async def test_hanging_backend_reads_on_and_never_answers(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    async with Backend(network, "service1", 8001, hang()) as backend:
        async with await raw_client(network, "service1", 8001) as client:
            with trio.move_on_after(1000):
                await client.send(b"POST / HTTP/1.1\r\n\r\n" + bytes(1_000_000))
                await client.receive()
        assert client.received == b""
        assert await (await backend.connection()).wait_closed() == 1000
        assert len(backend.connections[0].received) == 1_000_019


async def test_backend_serves_in_a_nursery_too_and_leaves_nothing_when_cancelled(network: MemoryNetwork) -> None:
    async with assert_no_orphans(network):
        backend = Backend(network, "service1", 8001, hang())
        async with trio.open_nursery() as nursery:
            await nursery.start(backend.run)
            async with await raw_client(network, "service1", 8001) as client:
                await client.send(GET)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        assert network.listeners == []


async def test_connection_can_be_waited_for_before_it_comes(network: MemoryNetwork, nursery: trio.Nursery) -> None:
    async with Backend(network, "service1", 8001, hang()) as backend:
        nursery.start_soon(partial(raw_client, network, "service1", 8001, source="192.0.2.1"))
        conn = await backend.connection(0)
        assert conn.remote_address is not None
        assert conn.remote_address[0] == "192.0.2.1"
        assert conn.local_address == ("service1", 8001)


async def test_backend_speaks_tls(each_network: AnyNetwork) -> None:
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("service1").configure_cert(theirs)
    authority.configure_trust(ours)
    async with (
        Backend(each_network, "service1", 443, respond(body=b"secret"), tls=theirs),
        http_client(each_network, base_url="https://service1", tls=ours) as client,
    ):
        assert (await client.get("/")).content == b"secret"
        assert (await client.get("/")).content == b"secret"


def test_response_is_bytes_with_a_length() -> None:
    assert response(204) == b"HTTP/1.1 204 \r\ncontent-length: 0\r\n\r\n"
    assert response(body=b"hi", headers=[(b"A", b"1"), (b"a", b"2")]) == (
        b"HTTP/1.1 200 \r\nA: 1\r\na: 2\r\ncontent-length: 2\r\n\r\nhi"
    )


async def test_backend_that_is_stopped_refuses_and_finishes_what_it_has(each_network: AnyNetwork) -> None:
    async with Backend(each_network, "service1", 8001, respond(body=b"old")) as old:
        async with await raw_client(each_network, "service1", 8001) as client:
            await old.connection()
            old.stop()
            old.stop()
            with pytest.raises(ConnectionRefusedError):
                await each_network.connect("service1", 8001)
            await client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert (await client.read_response()).body == b"old"
        async with (
            Backend(each_network, "service1", 8001, respond(body=b"new")),
            await raw_client(each_network, "service1", 8001) as client,
        ):
            await client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert (await client.read_response()).body == b"new"


async def test_head_that_was_peeked_at_is_read_again(network: MemoryNetwork) -> None:
    heads: list[bytes] = []

    async def script(conn: Connection) -> None:
        heads.extend([(await conn.peek_head()).target, (await conn.read_request()).target])
        await conn.send(response())

    async with (
        Backend(network, "service1", 8001, script, keep=False) as backend,
        await raw_client(network, "service1", 8001) as client,
    ):
        await client.send(b"GET /a HTTP/1.1\r\n\r\n")
        await client.read_response()
        assert heads == [b"/a", b"/a"]
        await client.read_to_end()
        assert backend.connections == []
