from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from gateway.testing.app import RunningGateway, running_gateway
from gateway.testing.backend import Backend, Connection, response
from gateway.testing.http2 import h2_client
from gateway.testing.network import MemoryNetwork
from gateway.testing.peer import PeerGoneError

BIG = b"x" * 200_000


async def script(conn: Connection) -> None:
    """A long answer to /big, none to /hang, else the body that came."""
    while True:
        request = await conn.read_request()
        if b"hang" in request.target:
            await conn.wait_closed()
            return
        await conn.send(response(body=BIG if b"big" in request.target else request.body))


@pytest.fixture
async def gateway(network: MemoryNetwork) -> AsyncIterator[RunningGateway]:
    async with Backend(network, "service1", 8001, script), running_gateway(network) as gateway:
        yield gateway


async def test_streams_of_one_connection_are_answered_each_with_its_own(
    gateway: RunningGateway, nursery: trio.Nursery
) -> None:
    async with await h2_client(gateway.network) as client:
        await nursery.start(client.run)
        one = await client.request(b"/api/service1/a", method=b"POST", end=False)
        two = await client.request(b"/api/service1/b")
        await client.send(one, b"first ")
        await client.send(one, b"and last", end=True)
        while not (one.over and two.over):
            await client.wait_for_news()
        assert (one.status, bytes(one.body), one.ended, one.reset) == (200, b"first and last", True, None)
        assert (two.status, bytes(two.body)) == (200, b"")


async def test_body_larger_than_the_window_waits_for_it(gateway: RunningGateway, nursery: trio.Nursery) -> None:
    async with await h2_client(gateway.network) as client:
        await nursery.start(client.run)
        stream = await client.request(b"/api/service1/a", method=b"POST", end=False)
        await client.send(stream, BIG, end=True)
        while not stream.over:
            await client.wait_for_news()
        assert stream.body == BIG


async def test_client_that_is_not_greedy_gets_as_much_as_its_window(
    gateway: RunningGateway, autojump_clock: MockClock
) -> None:
    async with await h2_client(gateway.network, greedy=False, window=1000) as client:
        stream = await client.request(b"/api/service1/big")
        with trio.move_on_after(1):
            await client.answer(stream)
        assert (len(stream.body), stream.over) == (1000, False)


async def test_reset_is_seen_by_the_gateway_and_costs_no_other_stream(gateway: RunningGateway) -> None:
    async with await h2_client(gateway.network) as client:
        stream = await client.request(b"/api/service1/hang")
        await trio.testing.wait_all_tasks_blocked()
        await client.cancel(stream)
        (record,) = await gateway.logged(1)
        assert (record.status_code, stream.reset, stream.over) == (499, 8, True)
        await client.cancel(stream)
        assert (await client.answer(await client.request(b"/health"))).status == 200


async def test_streams_are_over_with_their_connection(gateway: RunningGateway) -> None:
    client = await h2_client(gateway.network)
    async with client:
        stream = await client.request(b"/api/service1/hang")
        await trio.testing.wait_all_tasks_blocked()
        client.abort()
        assert (stream.over, stream.ended, stream.reset) == (True, False, -1)
        assert client.full
        with pytest.raises(PeerGoneError):
            await client.request(b"/health")
        with pytest.raises(PeerGoneError):
            await client.raw(b"more")


async def test_goodbye_of_the_server_is_noted_and_the_last_answer_still_read(
    gateway: RunningGateway, autojump_clock: MockClock
) -> None:
    async with await h2_client(gateway.network) as client:
        stream = await client.request(b"/api/service1/hang")
        await trio.testing.wait_all_tasks_blocked()
        gateway.stop()
        await client.answer(stream)
        assert client.goaway is not None
        assert client.full
        assert stream.status in (503, 504)
        assert stream.ended


async def test_raw_frames_go_out_as_they_are(gateway: RunningGateway) -> None:
    async with await h2_client(gateway.network) as client:
        await client.raw(b"\x00\x00\x00\xfa\x00\x00\x00\x00\x00")
        assert (await client.answer(await client.request(b"/health"))).status == 200
