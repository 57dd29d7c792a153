import os
import re
import socket

import httpx
import pytest
import trio
from trio.testing import MockClock

from gateway.forward import Exchange
from gateway.testing.app import RunningGateway, running_gateway
from gateway.testing.backend import Backend, hang, respond
from gateway.testing.network import MemoryNetwork
from gateway.testing.orphans import OrphansError, assert_no_orphans, slots_taken, task_tree
from gateway.transport import BackendTransport, Hooks


async def forgotten_task() -> None:
    await trio.sleep_forever()


async def forgotten_parent() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(forgotten_task, name="the child")


async def test_nothing_left_passes_and_what_was_there_before_may_stay(
    network: MemoryNetwork, nursery: trio.Nursery
) -> None:
    network.listen("service1", 8001)
    before = await network.connect("service1", 8001)
    nursery.start_soon(forgotten_task)
    async with assert_no_orphans(network, slots=lambda: 3):
        (await network.connect("service1", 8001)).close()
        for stream in network.open_streams:
            if stream is not before and stream.remote_address != before.local_address:
                stream.close()
    nursery.cancel_scope.cancel()


async def test_task_left_behind_is_told_with_its_children_and_where_they_wait(nursery: trio.Nursery) -> None:
    with pytest.raises(OrphansError) as caught:
        async with assert_no_orphans():
            nursery.start_soon(forgotten_parent)
    told = str(caught.value).splitlines()
    assert told[:2] == ["left behind:", "2 tasks:"]
    assert re.fullmatch(r" +\S+\.forgotten_parent", told[2])
    assert re.fullmatch(r" +tests/testing/test_orphans\.py:\d+ in forgotten_parent", told[3])
    assert told[4].strip() == "the child"
    assert told[4].index("the child") == re.search(r"\S", told[2]).start() + 2  # type: ignore[union-attr] # it matched above
    assert re.fullmatch(r" +tests/testing/test_orphans\.py:\d+ in forgotten_task", told[5])
    nursery.cancel_scope.cancel()


async def test_stream_left_open_is_told(network: MemoryNetwork) -> None:
    network.listen("service1", 8001)
    with pytest.raises(OrphansError) as caught:
        async with assert_no_orphans(network):
            client = await network.connect("service1", 8001)
    assert str(caught.value) == "\n".join(
        ["left behind:", "2 streams:", *(f"  {stream!r}" for stream in network.open_streams)]
    )
    client.close()


async def test_descriptor_left_open_is_told_a_socket_with_both_ends() -> None:
    left: list[socket.socket] = []
    pipe: list[int] = []

    async def forget(server: socket.socket) -> None:
        async with assert_no_orphans():
            left.extend([socket.create_connection(server.getsockname()), socket.socket()])
            pipe.extend(os.pipe())

    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(OrphansError) as caught:
            await forget(server)
        told = str(caught.value)
        assert "4 descriptors:" in told
        assert re.search(rf"{left[0].fileno()}: socket:\[\d+\] ", told)
        assert f"{left[0].getsockname()} ⇄ {server.getsockname()}" in told
        assert f"{left[1].fileno()}: socket:[" in told
        assert f"{pipe[0]}: pipe:[" in told
        for sock in left:
            sock.close()
        for end in pipe:
            os.close(end)


async def test_count_that_is_not_back_is_told_with_both_figures() -> None:
    leased = [1]
    with pytest.raises(OrphansError, match="slots: 2, before 1"):
        async with assert_no_orphans(slots=lambda: len(leased), queued=lambda: 0):
            leased.append(2)


async def test_what_is_on_its_way_out_may_go(nursery: trio.Nursery) -> None:
    async def takes_some_steps() -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()

    async with assert_no_orphans():
        nursery.start_soon(takes_some_steps)


async def test_grace_is_given_and_no_more(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async with assert_no_orphans(grace=1):
        nursery.start_soon(trio.sleep, 0.5)
    assert trio.current_time() == pytest.approx(0.5, abs=0.02)
    with pytest.raises(OrphansError, match="1 tasks"):
        async with assert_no_orphans(grace=1):
            nursery.start_soon(trio.sleep, 1.5)
    assert trio.current_time() == pytest.approx(1.5, abs=0.04)


async def test_failure_of_the_block_comes_out_instead(nursery: trio.Nursery) -> None:
    async def fail() -> None:
        async with assert_no_orphans():
            nursery.start_soon(trio.sleep_forever)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    nursery.cancel_scope.cancel()


async def test_task_tree_tells_every_task(nursery: trio.Nursery) -> None:
    nursery.start_soon(forgotten_parent)
    await trio.testing.wait_all_tasks_blocked()
    told = task_tree()
    assert told.startswith("<init>\n")
    assert "forgotten_parent" in told
    assert re.search(r"the child\n +tests/testing/test_orphans\.py:\d+ in forgotten_task", told)
    nursery.cancel_scope.cancel()


CLOSING = b"GET /api/service1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


async def ask(gateway: RunningGateway) -> None:
    async with await gateway.raw_client() as client:
        await client.send(CLOSING)
        await client.read_to_end()


async def test_exchange_that_somebody_keeps_is_told_with_its_holder(network: MemoryNetwork) -> None:
    kept: list[object] = []

    class Keeps(set[Exchange]):
        def add(self, exchange: Exchange, /) -> None:
            kept.append(exchange)
            super().add(exchange)

    async with running_gateway(network) as gateway:
        gateway.app.gateway.in_flight = Keeps()
        with pytest.raises(OrphansError) as caught:
            async with assert_no_orphans():
                await ask(gateway)
        assert len(kept) == 1
        told = str(caught.value)
        assert "1 of gateway.forward.exchange.Exchange" in told
        assert "  gateway.forward.exchange.Exchange is held by builtins.list" in told
        gateway.app.gateway.in_flight = set()
        async with assert_no_orphans():
            await ask(gateway)


async def test_objects_of_an_exchange_are_seen_while_it_lasts(network: MemoryNetwork) -> None:
    """Should these be renamed, the check must not become one that sees nothing."""
    async with (
        Backend(network, "service1", 8001, hang()),
        running_gateway(network) as gateway,
        await gateway.raw_client() as client,
    ):
        with pytest.raises(OrphansError) as caught:
            async with assert_no_orphans(gateway):
                await client.send(CLOSING)
    told = str(caught.value)
    for what in ("forward.exchange.Exchange", "forward.tree.Tree", "transport.connection.Connection", "server."):
        assert f" of gateway.{what}" in told
    assert "slots of service1: 1, before 0" in told


async def test_gateway_that_runs_on_has_let_go_of_everything_within_eighty_seconds(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async with Backend(network, "service1", 8001, respond()), running_gateway(network) as gateway:
        async with assert_no_orphans(gateway, grace=80), gateway.client() as client, gateway.h2_client() as other:
            await client.get("/api/service1/x")
            await other.get("/api/service1/x")
        assert 60 < trio.current_time() < 70


async def test_idle_connection_to_a_backend_is_left_where_no_time_is_given(network: MemoryNetwork) -> None:
    async with Backend(network, "service1", 8001, respond()), running_gateway(network) as gateway:
        with pytest.raises(OrphansError, match="streams:"):
            async with assert_no_orphans(gateway):
                await ask(gateway)


async def test_block_within_a_block_counts_for_itself(network: MemoryNetwork) -> None:
    kept: list[object] = []
    async with assert_no_orphans():
        with pytest.raises(OrphansError, match="1 of gateway"):
            async with assert_no_orphans():
                kept.append(Hooks())
        async with assert_no_orphans():
            pass
        kept.clear()


async def test_slot_counts_that_is_held_for_a_connection_which_does_not_open(
    network: MemoryNetwork, nursery: trio.Nursery
) -> None:
    network.black_hole("service1", 8001)
    transport = BackendTransport(connect=network.connect, max_connections=2)
    client = httpx.AsyncClient(transport=transport)  # its timeouts are ignored
    assert slots_taken(transport) == 0
    nursery.start_soon(client.get, "http://service1:8001/")
    await trio.testing.wait_all_tasks_blocked()
    assert (transport.leased, slots_taken(transport)) == (0, 1)
    nursery.cancel_scope.cancel()
    assert slots_taken(httpx.AsyncHTTPTransport()) == 0  # it cannot tell
