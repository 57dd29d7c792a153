import socket
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
import trio

from gateway.server.drain import Leave
from gateway.server.shares import open_table
from gateway.server.worker import HEAD, READY, REPLACED, STOP, Line, first_of


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Line]]:
    """The supervisor's end, and the worker's line."""
    ours, theirs = socket.socketpair()
    with closing(Line(theirs.detach())) as line:
        yield ours, line


def test_order_is_read_and_nothing_behind_it(pair: tuple[socket.socket, Line]) -> None:
    ours, line = pair
    with ours:
        ours.sendall(HEAD.pack(5, 1, 0) + b"serve" + STOP)
        assert line.order() == b"serve"
        assert line.shares is None
        assert trio.run(line.dismissed) is Leave.STOP


def test_order_comes_with_a_seat_at_the_table(pair: tuple[socket.socket, Line]) -> None:
    ours, line = pair
    table = open_table()
    with ours:
        ours.sendall(HEAD.pack(0, 7, table or 0))
        assert line.order() == b""
        assert (line.shares is None) == (table is None)
        assert line.shares is None or line.shares.seat == 7


@pytest.mark.parametrize("said", [b"", b"\0\0", HEAD.pack(5, 1, 0) + b"ser"])
def test_supervisor_that_dies_before_it_has_ordered_is_told(pair: tuple[socket.socket, Line], said: bytes) -> None:
    ours, line = pair
    with ours:
        ours.sendall(said)
    with pytest.raises(EOFError):
        line.order()


def test_supervisor_hears_that_the_worker_is_ready(pair: tuple[socket.socket, Line]) -> None:
    ours, line = pair
    with ours:
        line.ready()
        assert ours.recv(100) == READY
    line.ready()  # nobody hears it any more


@pytest.mark.parametrize(
    ("said", "leave"),
    [([STOP], Leave.STOP), ([REPLACED], Leave.REPLACED), ([REPLACED, STOP], Leave.REPLACED), ([], Leave.STOP)],
)
async def test_worker_hears_why_it_is_to_leave(
    pair: tuple[socket.socket, Line], said: list[bytes], leave: Leave
) -> None:
    ours, line = pair
    for word in said:
        ours.sendall(word)
    ours.close()  # dead: the end of the line says so too
    assert await line.dismissed() is leave


async def test_word_that_comes_in_pieces_is_heard_when_it_is_whole(pair: tuple[socket.socket, Line]) -> None:
    ours, line = pair
    with ours:
        ours.sendall(REPLACED[:3])
        heard = []

        async def hear() -> None:
            heard.append(await line.dismissed())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            await trio.testing.wait_all_tasks_blocked()
            assert heard == []
            ours.sendall(REPLACED[3:])
    assert heard == [Leave.REPLACED]


async def test_whichever_is_over_first_ends_the_wait(autojump_clock: trio.testing.MockClock) -> None:
    async def after(seconds: float, what: str) -> str:
        await trio.sleep(seconds)
        return what

    assert await first_of(partial(after, 3, "late"), partial(after, 1, "early"), trio.sleep_forever) == "early"
    assert trio.current_time() == 1
