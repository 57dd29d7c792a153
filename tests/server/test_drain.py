"""What connections share: how many there are, and how far the shutdown has come."""

import pytest
import trio
import trio.testing

from gateway.server.drain import Context
from gateway.server.limits import Limits
from gateway.server.shares import Shares, open_table


class Told:
    """A connection that writes down what it is told, and may leave by that."""

    def __init__(self, context: Context, *, leaves: bool = False) -> None:
        self.context = context
        self.leaves = leaves
        self.heard: list[str] = []
        context.add(self)

    def prepare_to_retire(self) -> None:
        self.heard.append(f"prepare, draining: {self.context.draining}, retiring: {self.context.retiring}")
        self._leave()

    def retire(self) -> None:
        terminated = self.context.terminated.is_set()
        self.heard.append(f"retire, retiring: {self.context.retiring}, terminated: {terminated}")
        self._leave()

    def abort(self) -> None:
        self.heard.append("abort")

    def _leave(self) -> None:
        if self.leaves:
            self.context.discard(self)


async def test_shutdown_is_told_in_two_steps_each_with_its_flag_up_first() -> None:
    """A connection that begins meanwhile looks at the flags: it is told nothing."""
    context = Context(Limits())
    connection = Told(context)
    assert (context.draining, context.retiring, context.terminated.is_set()) == (False, False, False)
    await context.drain()
    assert (context.draining, context.retiring, context.terminated.is_set()) == (True, False, False)
    await context.retire()
    assert connection.heard == [
        "prepare, draining: True, retiring: False",
        "retire, retiring: True, terminated: True",
    ]


async def test_connections_that_leave_when_they_are_told_keep_none_from_being_told() -> None:
    context = Context(Limits())
    connections = [Told(context, leaves=n % 2 == 0) for n in range(10)]
    await context.drain()
    assert [len(each.heard) for each in connections] == [1] * 10
    assert context.connections == set(connections[1::2])
    await context.retire()
    assert [len(each.heard) for each in connections] == [1, 2] * 5


async def test_room_is_there_as_long_as_the_limit_is_not_reached() -> None:
    context = Context(Limits(max_connections=2))
    Told(context)
    with trio.fail_after(1):
        await context.wait_for_room()


async def test_who_waits_for_room_goes_on_when_there_is_some(autojump_clock: trio.testing.MockClock) -> None:
    context = Context(Limits(max_connections=2))
    connections = [Told(context) for _ in range(3)]  # two listeners may have accepted at once
    times: list[float] = []

    async def wait() -> None:
        await context.wait_for_room()
        times.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for connection in connections[:2]:
            await trio.sleep(1)
            context.discard(connection)
    assert times == [2]


async def test_room_is_not_given_twice(autojump_clock: trio.testing.MockClock) -> None:
    context = Context(Limits(max_connections=1))
    first = Told(context)
    taken: list[float] = []

    async def accept() -> None:
        await context.wait_for_room()
        connection = Told(context)
        taken.append(trio.current_time())
        await trio.sleep(1)
        context.discard(connection)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(accept)
        await trio.sleep(1)
        context.discard(first)
    assert taken == [1, 2, 3]


async def test_who_waits_for_none_goes_on_with_the_last(autojump_clock: trio.testing.MockClock) -> None:
    context = Context(Limits())
    await context.wait_for_none()
    connections = [Told(context) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(context.wait_for_none)
        for connection in connections:
            assert len(nursery.child_tasks) == 1
            await trio.sleep(1)
            context.discard(connection)
    assert trio.current_time() == 3


async def test_all_who_wait_are_woken(autojump_clock: trio.testing.MockClock) -> None:
    context = Context(Limits(max_connections=1))
    connection = Told(context)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(context.wait_for_room)
            nursery.start_soon(context.wait_for_none)
            await trio.sleep(1)
            context.discard(connection)


async def test_connection_that_is_discarded_twice_is_gone_once() -> None:
    context = Context(Limits())
    one, two = Told(context), Told(context)
    context.discard(one)
    context.discard(one)
    assert context.connections == {two}


@pytest.fixture
def shares() -> tuple[Shares, Shares]:
    """Our own, and another process's."""
    number = open_table()
    if number is None:
        pytest.skip("no shared memory of this kind here")
    table = Shares(number)
    for seat in (1, 2):
        table.give(seat)
    return Shares(number, 1), Shares(number, 2)


async def test_other_processes_learn_how_many_connections_there_are(shares: tuple[Shares, Shares]) -> None:
    ours, theirs = shares
    context = Context(Limits(), shares=ours)
    connections = [Told(context) for _ in range(3)]
    theirs.have(2)
    assert (ours.ahead, theirs.ahead) == (True, False)
    context.discard(connections.pop())
    assert (ours.ahead, theirs.ahead) == (False, False)


async def test_one_that_drains_is_nobody_to_wait_for(shares: tuple[Shares, Shares]) -> None:
    """It has left its seat, and must not sit down again because a connection of its ends."""
    ours, theirs = shares
    context = Context(Limits(), shares=ours)
    connections = [Told(context) for _ in range(3)]
    theirs.have(10)
    assert theirs.ahead
    await context.drain()
    ours.leave()
    for connection in connections:
        context.discard(connection)
        assert not theirs.ahead
