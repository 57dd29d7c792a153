import errno
import socket

import pytest
import trio.testing
from trio.testing import MockClock

from gateway.testing.network import MemoryNetwork
from gateway.testing.sockets import SocketNetwork

AnyNetwork = MemoryNetwork | SocketNetwork


async def test_connection_is_made_before_it_is_accepted(network: MemoryNetwork) -> None:
    listener = network.listen("service1", 8001)
    client = await network.connect("service1", 8001, source="192.0.2.7")
    await client.send_all(b"early")
    server = await listener.accept()
    assert await server.receive_some() == b"early"
    assert client.remote_address == server.local_address == ("service1", 8001)
    assert client.local_address == server.remote_address
    assert server.remote_address[0] == "192.0.2.7"


async def test_two_connections_have_different_addresses(network: MemoryNetwork) -> None:
    network.listen("service1", 8001)
    one, other = await network.connect("service1", 8001), await network.connect("service1", 8001)
    assert one.local_address != other.local_address


async def test_port_zero_takes_a_free_one_each_time(network: MemoryNetwork) -> None:
    ports = {network.listen("service1").local_address[1] for _ in range(3)}
    assert len(ports - {0}) == 3


async def test_address_in_use_is_refused_and_free_again_after_close(each_network: AnyNetwork) -> None:
    listener = each_network.listen("service1", 8001)
    with pytest.raises(OSError, match="in use") as caught:
        each_network.listen("service1", 8001)
    assert caught.value.errno == errno.EADDRINUSE
    await listener.aclose()
    each_network.listen("service1", 8001)


async def test_connection_where_nobody_listens_is_refused(each_network: AnyNetwork) -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        await each_network.connect("service1", 8001)
    assert caught.value.errno == errno.ECONNREFUSED
    assert each_network.connects == [("service1", 8001)]


async def test_unknown_name_raises_what_the_resolver_raises(each_network: AnyNetwork) -> None:
    each_network.listen("service1", 8001)
    each_network.unknown_name("service1")
    with pytest.raises(socket.gaierror) as caught:
        await each_network.connect("service1", 8001)
    assert caught.value.errno == socket.EAI_NONAME
    each_network.heal("service1", 8001)
    await (await each_network.connect("service1", 8001)).aclose()


async def test_failing_address_raises_a_fresh_copy_each_time(each_network: AnyNetwork) -> None:
    each_network.fail("service1", 8001, OSError(errno.EHOSTUNREACH, "No route to host"))
    caught = []
    for _ in range(2):
        with pytest.raises(OSError, match="No route to host") as info:
            await each_network.connect("service1", 8001)
        caught.append(info.value)
    assert caught[0] is not caught[1]
    assert caught[0].errno == errno.EHOSTUNREACH


async def test_black_hole_swallows_connections_until_healed(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    network.listen("service1", 8001)
    network.black_hole("service1", 8001)
    with trio.move_on_after(1000) as scope:
        await network.connect("service1", 8001)
    assert scope.cancelled_caught
    assert network.open_streams == []

    async def heal() -> None:
        await trio.sleep(5)
        network.heal("service1", 8001)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heal)
        await network.connect("service1", 8001)
    assert trio.current_time() == 1005


async def test_delayed_connection_takes_its_time_also_to_be_refused(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    network.delay("service1", 8001, 1.5)
    with pytest.raises(ConnectionRefusedError):
        await network.connect("service1", 8001)
    assert trio.current_time() == 1.5
    network.listen("service1", 8001)
    await network.connect("service1", 8001)
    assert trio.current_time() == 3


async def test_full_backlog_makes_connections_wait(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    listener = network.listen("service1", 8001, backlog=1)
    await network.connect("service1", 8001)

    async def accept() -> None:
        await trio.sleep(4)
        await listener.accept()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await network.connect("service1", 8001)
        assert trio.current_time() == 4


async def test_closing_the_listener_resets_who_was_not_accepted_and_wakes_who_waits(
    network: MemoryNetwork, nursery: trio.Nursery
) -> None:
    listener = network.listen("service1", 8001, backlog=1)
    client = await network.connect("service1", 8001)

    async def connect() -> None:
        with pytest.raises(ConnectionRefusedError):
            await network.connect("service1", 8001)

    nursery.start_soon(connect)
    await trio.testing.wait_all_tasks_blocked()
    await listener.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    assert network.listeners == []


async def test_accept_blocked_when_the_listener_closes_is_told(network: MemoryNetwork, nursery: trio.Nursery) -> None:
    listener = network.listen("service1", 8001)

    async def accept() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()

    nursery.start_soon(accept)
    await trio.testing.wait_all_tasks_blocked()
    listener.close()


async def test_listener_serves_with_trios_own_server(each_network: AnyNetwork, nursery: trio.Nursery) -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        async with stream:
            async for data in stream:
                await stream.send_all(bytes(data).upper())

    await nursery.start(trio.serve_listeners, handle, [each_network.listen("echo", 7)])
    async with await each_network.connect("echo", 7) as client:
        await client.send_all(b"hello")
        assert await client.receive_some() == b"HELLO"


async def test_repr_tells_what_is_open_and_who_opened_it(network: MemoryNetwork) -> None:
    listener = network.listen("service1", 8001)
    client = await network.connect("service1", 8001)
    assert "not accepted" in repr(network)
    server = await listener.accept()
    await client.send_all(b"abc")
    assert network.open_streams == [client, server]
    told = repr(network).splitlines()
    assert told[0] == "<MemoryNetwork: 1 listeners, 2 open streams>"
    assert told[1].strip() == "<MemoryListener service1:8001, 0 waiting to be accepted>"
    assert told[2].strip().startswith("<MemoryStream 127.0.0.1:49152 ⇄ service1:8001 open, by ")
    assert "open, 3 bytes unread, by " in told[3]
    assert "test_repr_tells_what_is_open_and_who_opened_it" in told[3]
    await client.send_eof()
    assert " half-closed, by " in repr(client)
    assert "peer ended" in repr(server)
    server.close()
    assert network.open_streams == [client]
    assert "peer reset" in repr(client)
    client.close()
    assert " closed, peer reset, by " in repr(client)
    assert network.open_streams == []
