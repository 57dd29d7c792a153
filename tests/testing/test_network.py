import errno
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
import trio.testing
from trio.testing import MockClock

from gateway.testing.network import MemoryNetwork, MemoryStream, memory_stream_pair

Stream = MemoryStream | trio.SocketStream
Outcome = bytes | str | None


async def make() -> tuple[MemoryStream, MemoryStream]:
    return memory_stream_pair()


async def make_clogged() -> tuple[MemoryStream, MemoryStream]:
    one, other = memory_stream_pair(1024)
    await one.send_all(bytes(1024))
    await other.send_all(bytes(1024))
    return one, other


async def test_stream_passes_trios_own_checks() -> None:
    await trio.testing.check_half_closeable_stream(make, make_clogged)


# What one end does and the other one sees, as a table, run over memory and over real sockets. "a" and "b" are the ends.


async def make_sockets() -> tuple[trio.SocketStream, trio.SocketStream]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname())
        return client, await listener.accept()


def close(stream: Stream) -> None:
    if isinstance(stream, trio.SocketStream):
        stream.socket.close()
    else:
        stream.close()


def reset(stream: Stream) -> None:
    if isinstance(stream, trio.SocketStream):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()
    else:
        stream.reset()


async def outcome(doing: Awaitable[Outcome]) -> Outcome:
    try:
        with trio.fail_after(1):
            return await doing
    except (trio.ClosedResourceError, trio.BrokenResourceError, trio.TooSlowError) as error:
        return type(error).__name__.removesuffix("ResourceError").lower()


async def does(stream: Stream, what: str) -> Outcome:
    match what.split():
        case ["sends", data]:
            return await outcome(stream.send_all(data.encode()))
        case ["sends"]:
            return await outcome(stream.send_all(b""))
        case ["ends"]:
            return await outcome(stream.send_eof())
        case ["reads"]:
            return await outcome(stream.receive_some())
        case ["waits"]:
            return await outcome(stream.wait_send_all_might_not_block())
        case ["closes"]:
            close(stream)
        case ["resets"]:
            reset(stream)
        case _:
            raise AssertionError(what)
    return None


CONVERSATIONS: dict[str, list[tuple[str, Outcome]]] = {
    "half-close leaves the other direction open": [
        ("a sends x", None),
        ("a ends", None),
        ("a ends", None),
        ("b reads", b"x"),
        ("b reads", b""),
        ("b sends y", None),
        ("a reads", b"y"),
        ("a sends z", "closed"),
        ("a sends", "closed"),
        ("a waits", None),
    ],
    "first write to a closed peer goes into the void": [
        ("a sends x", None),
        ("a closes", None),
        ("b reads", b"x"),
        ("b reads", b""),
        ("b sends y", None),
        ("b sends z", "broken"),
        ("b reads", b""),
        ("b waits", None),
        ("b ends", "broken"),
    ],
    "stale connection takes the request and ends": [
        ("a closes", None),
        ("b sends request", None),
        ("b reads", b""),
        ("b sends more", "broken"),
    ],
    "close with bytes unread resets": [
        ("a sends x", None),
        ("b sends unread", None),
        ("a closes", None),
        ("b reads", b"x"),
        ("b reads", "broken"),
        ("b reads", b""),
        ("b sends y", "broken"),
    ],
    "reset is told once, to the writer": [
        ("a sends x", None),
        ("a resets", None),
        ("b sends y", "broken"),
        ("b sends z", "broken"),
        ("b reads", b"x"),
        ("b reads", b""),
    ],
    "reset is told once, to the reader": [
        ("a resets", None),
        ("b waits", None),
        ("b sends", None),
        ("b reads", "broken"),
        ("b reads", b""),
        ("b sends y", "broken"),
    ],
    "reset is not told to who half-closes": [
        ("a resets", None),
        ("b ends", "broken"),
        ("b reads", "broken"),
    ],
    "end before a reset hides it from reads": [
        ("a sends x", None),
        ("a ends", None),
        ("a resets", None),
        ("b reads", b"x"),
        ("b reads", b""),
        ("b sends y", "broken"),
    ],
    "half-closed end still learns of a reset": [
        ("b ends", None),
        ("a resets", None),
        ("b reads", "broken"),
        ("b sends y", "closed"),
    ],
    "both ends half-closed": [
        ("a ends", None),
        ("b ends", None),
        ("a reads", b""),
        ("b reads", b""),
        ("a closes", None),
        ("b ends", None),
        ("b closes", None),
    ],
    "closed here": [
        ("a closes", None),
        ("a closes", None),
        ("a reads", "closed"),
        ("a sends x", "closed"),
        ("a sends", "closed"),
        ("a waits", "closed"),
        ("a ends", "closed"),
    ],
}


@pytest.mark.parametrize("maker", [make, make_sockets])
@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_conversation_goes_as_over_tcp(name: str, maker: Callable[[], Awaitable[tuple[Stream, Stream]]]) -> None:
    a, b = await maker()
    ends = {"a": a, "b": b}
    seen = [(step, await does(ends[step[0]], step[2:])) for step, _ in CONVERSATIONS[name]]
    for stream in ends.values():
        await stream.aclose()
    assert seen == CONVERSATIONS[name]


@pytest.mark.parametrize("maker", [make, make_sockets])
async def test_writer_blocked_when_peer_closes_gets_the_error_and_reader_the_end(
    maker: Callable[[], Awaitable[tuple[Stream, Stream]]], nursery: trio.Nursery
) -> None:
    a, b = await maker()
    seen: list[Outcome] = []

    async def send() -> None:
        seen.append(await outcome(a.send_all(bytes(10_000_000))))

    nursery.start_soon(send)
    await trio.testing.wait_all_tasks_blocked(0.01)
    close(b)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert [*seen, await outcome(a.receive_some())] == ["broken", b""]
    await a.aclose()


# Backpressure.


async def test_writer_blocks_when_the_buffer_is_full_until_there_is_room(autojump_clock: MockClock) -> None:
    a, b = memory_stream_pair(10)
    sent_at: list[float] = []

    async def send() -> None:
        await a.send_all(b"0123456789abcde")
        sent_at.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.sleep(7)
        assert await b.receive_some(3) == b"012"
        await trio.sleep(1)
        assert sent_at == []
        assert await b.receive_some(2) == b"34"
        await trio.sleep(1)
    assert sent_at == [8.0]
    assert await b.receive_some() == b"56789abcde"


async def test_cancelled_send_has_sent_what_fitted_and_loses_the_rest(autojump_clock: MockClock) -> None:
    a, b = memory_stream_pair(4)
    with trio.move_on_after(2):
        await a.send_all(b"0123456789")
    assert trio.current_time() == 2
    assert await b.receive_some() == b"0123"
    await a.send_all(b"!")
    assert await b.receive_some() == b"!"


async def test_cancelled_receive_loses_nothing(autojump_clock: MockClock) -> None:
    a, b = memory_stream_pair()
    with trio.move_on_after(1):
        await b.receive_some()
    await a.send_all(b"x")
    with trio.CancelScope() as scope:
        scope.cancel()
        await b.receive_some()
    assert await b.receive_some() == b"x"


@pytest.mark.parametrize(
    ("before", "readable"),
    [([], False), (["sends x"], True), (["ends"], True), (["closes"], True), (["resets"], True)],
)
async def test_stream_is_readable_when_something_waits(before: list[str], readable: bool) -> None:  # noqa: FBT001 - a column of the table
    a, b = memory_stream_pair()
    for what in before:
        await does(a, what)
    assert b.is_readable() is readable
    b.close()
    assert b.is_readable()


@pytest.mark.parametrize("what", ["ends", "closes", "resets"])
async def test_hangup_is_seen_behind_unread_bytes(what: str, autojump_clock: MockClock) -> None:
    a, b = memory_stream_pair()
    await a.send_all(b"unread")

    async def leave() -> None:
        await trio.sleep(3)
        await does(a, what)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await b.wait_for_hangup()
        assert trio.current_time() == 3
    assert await b.receive_some() == b"unread"


# The network.


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


async def test_address_in_use_is_refused_and_free_again_after_close(network: MemoryNetwork) -> None:
    listener = network.listen("service1", 8001)
    with pytest.raises(OSError, match="in use") as caught:
        network.listen("service1", 8001)
    assert caught.value.errno == errno.EADDRINUSE
    await listener.aclose()
    network.listen("service1", 8001)


async def test_connection_where_nobody_listens_is_refused(network: MemoryNetwork) -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        await network.connect("service1", 8001)
    assert caught.value.errno == errno.ECONNREFUSED
    assert network.connects == [("service1", 8001)]


async def test_unknown_name_raises_what_the_resolver_raises(network: MemoryNetwork) -> None:
    network.listen("service1", 8001)
    network.unknown_name("service1")
    with pytest.raises(socket.gaierror) as caught:
        await network.connect("service1", 8001)
    assert caught.value.errno == socket.EAI_NONAME
    network.heal("service1", 8001)
    await network.connect("service1", 8001)


async def test_failing_address_raises_a_fresh_copy_each_time(network: MemoryNetwork) -> None:
    network.fail("service1", 8001, OSError(errno.EHOSTUNREACH, "No route to host"))
    caught = []
    for _ in range(2):
        with pytest.raises(OSError, match="No route to host") as info:
            await network.connect("service1", 8001)
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


async def test_listener_serves_with_trios_own_server(network: MemoryNetwork, nursery: trio.Nursery) -> None:
    async def handle(stream: MemoryStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send_all(data.upper())

    await nursery.start(trio.serve_listeners, handle, [network.listen("echo", 7)])
    async with await network.connect("echo", 7) as client:
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
