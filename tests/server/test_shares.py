import socket
from errno import ECONNABORTED, EMFILE
from typing import Any

import pytest
import trio

from gateway.server.shares import HESITATION, FairListener, Shares, open_table


@pytest.fixture
def seats() -> list[Shares]:
    """Three at one table, and the supervisor's view of it first."""
    number = open_table()
    if number is None:
        pytest.skip("this system has no memory without a file")
    table = Shares(number)
    for seat in (1, 2, 3):
        table.give(seat)
    return [table, *(Shares(number, seat) for seat in (1, 2, 3))]


def test_who_has_more_than_another_is_ahead(seats: list[Shares]) -> None:
    _, one, two, _ = seats
    one.have(0)
    assert not one.ahead  # alone
    two.have(0)
    assert not one.ahead
    one.have(1)
    assert (one.ahead, two.ahead) == (True, False)
    two.have(2)
    assert (one.ahead, two.ahead) == (False, True)


def test_nobody_waits_for_one_who_has_left_or_died(seats: list[Shares]) -> None:
    table, one, two, three = seats
    for each, connections in ((one, 5), (two, 1), (three, 1)):
        each.have(connections)
    two.leave()
    assert one.ahead
    table.take(3)
    assert not one.ahead


class Socket:
    """A listening socket whose accept(2) says what it is told."""

    def __init__(self, real: socket.socket, *says: OSError) -> None:
        self.real = real
        self.says = list(says)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def accept(self) -> Any:
        if self.says:
            raise self.says.pop(0)
        return self.real.accept()


async def test_one_who_is_ahead_lets_the_others_go_first(seats: list[Shares]) -> None:
    _, one, two, _ = seats
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listeners = [FairListener(sock.dup(), each) for each in (one, two)]
        one.have(3)
        accepted: list[int] = []
        one_more = trio.Event()

        async def accept(index: int) -> None:
            stream = await listeners[index].accept()
            accepted.append(index)
            one_more.set()
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            for index in (0, 1):
                nursery.start_soon(accept, index)
            await trio.testing.wait_all_tasks_blocked()
            socket.create_connection(sock.getsockname()).close()
            with trio.fail_after(5):
                await one_more.wait()
            assert accepted == [1]
            two.leave()
            socket.create_connection(sock.getsockname()).close()  # now there is nobody to wait for
        assert accepted == [1, 0]
        for listener in listeners:
            await listener.aclose()


async def test_one_who_is_ahead_takes_what_nobody_else_does(seats: list[Shares]) -> None:
    _, one, two, _ = seats
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = FairListener(sock.dup(), one)
        one.have(3)
        two.have(0)  # and does nothing about it
        before = trio.current_time()
        with socket.create_connection(sock.getsockname()) as client, trio.fail_after(5):
            stream = await listener.accept()
            assert trio.current_time() - before >= HESITATION
            await stream.send_all(b"x")
            assert client.recv(1) == b"x"
            await stream.aclose()
        await listener.aclose()


async def test_connection_that_failed_in_the_queue_is_passed_over_and_want_of_room_is_raised(
    seats: list[Shares],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = FairListener(sock.dup(), seats[1])
        listener.socket = Socket(listener.socket, OSError(ECONNABORTED, "gone"), OSError(EMFILE, "no room"))  # type: ignore[assignment] # as far as it is used
        with socket.create_connection(sock.getsockname()):
            with pytest.raises(OSError, match="no room"):
                await listener.accept()
            await (await listener.accept()).aclose()
        await listener.aclose()
    assert not seats[2].ahead


async def test_closed_listener_counts_no_more(seats: list[Shares]) -> None:
    _, one, two, _ = seats
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = FairListener(sock.dup(), one)
        two.have(1)
        assert two.ahead
        await listener.aclose()
        assert not two.ahead
