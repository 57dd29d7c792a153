import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
import trio.testing
from trio.testing import MockClock

from gateway.testing.streams import MemoryStream, memory_stream_pair

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


async def test_stream_tells_whether_this_end_is_closed() -> None:
    for stream, other in (memory_stream_pair(), memory_stream_pair()[::-1]):
        other.close()
        seen = [stream.closed]
        stream.reset()
        assert [*seen, stream.closed] == [False, True]


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
