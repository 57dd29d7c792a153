"""Who has a connection, who may open one, which may be used again."""

from collections import deque

import httpx
import pytest
import trio

from gateway.errors import Phase
from gateway.http1 import LengthDecoder, ResponseHead
from gateway.testing.network import MemoryNetwork
from gateway.transport.connection import Connection, Hooks, Request
from gateway.transport.pool import IDLE_SECONDS, Pool

GET = Request(b"GET", b"/", [(b"host", b"backend")], b"", 0, keep_alive=True)


class Opener:
    """Opens real connections over memory to a backend that answers nothing, as often and as fast as it is told."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.listener = network.listen("backend", 80)
        self.opened = 0
        self.delays: deque[float] = deque()
        self.failures: deque[Exception] = deque()

    async def __call__(self) -> Connection:
        if self.delays:
            await trio.sleep(self.delays.popleft())
        if self.failures:
            raise self.failures.popleft()
        self.opened += 1
        return Connection(await self.network.connect("backend", 80))


@pytest.fixture
def opener(network: MemoryNetwork) -> Opener:
    return Opener(network)


def complete(connection: Connection) -> None:
    """Leave the connection as a regular exchange does."""
    connection._head = ResponseHead(200, b"OK", 1, [], True, LengthDecoder(0))  # noqa: SLF001 -- short of a whole exchange
    connection._request_sent = True  # noqa: SLF001 -- as above


async def test_connection_given_back_fit_is_leased_again(opener: Opener) -> None:
    pool = Pool(opener)
    first = await pool.lease(Hooks())
    complete(first)
    pool.give_back(first)
    assert (pool.leased, pool.idle) == (0, 1)
    assert await pool.lease(Hooks()) is first
    assert (pool.leased, pool.idle, opener.opened) == (1, 0, 1)


async def test_connection_given_back_unfit_is_closed(opener: Opener) -> None:
    pool = Pool(opener)
    pool.give_back(await pool.lease(Hooks()))
    assert (pool.leased, pool.idle) == (0, 0)
    assert len(opener.network.open_streams) == 1  # the backend's end, not accepted


async def test_latest_idle_connection_is_leased_first(opener: Opener) -> None:
    pool = Pool(opener)
    a, b = await pool.lease(Hooks()), await pool.lease(Hooks())
    for connection in (a, b):
        complete(connection)
        pool.give_back(connection)
    assert await pool.lease(Hooks()) is b


async def test_giving_back_twice_releases_one_slot(opener: Opener) -> None:
    pool = Pool(opener, max_connections=1)
    connection = await pool.lease(Hooks())
    pool.give_back(connection)
    pool.give_back(connection)
    await pool.lease(Hooks())
    with trio.move_on_after(0):
        await pool.lease(Hooks())
    assert pool.leased == 1


async def test_waiters_get_slots_in_order(opener: Opener, autojump_clock: trio.abc.Clock) -> None:
    pool = Pool(opener, max_connections=1)
    first = await pool.lease(Hooks())
    order: list[int] = []

    async def wait(number: int) -> None:
        connection = await pool.lease(Hooks())
        order.append(number)
        pool.give_back(connection)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
        assert "5 waiting" in repr(pool)
        pool.give_back(first)
    assert order == [0, 1, 2, 3, 4]


async def test_waiter_cancelled_in_the_very_turn_it_is_woken_passes_the_slot_on(opener: Opener) -> None:
    pool = Pool(opener, max_connections=1)
    first = await pool.lease(Hooks())
    scopes: list[trio.CancelScope] = []

    async def wait() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            pool.give_back(await pool.lease(Hooks()))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
        pool.give_back(first)
        scopes[0].cancel()
        scopes[1].cancel()
    assert pool.leased == 0
    with trio.fail_after(1):
        await pool.lease(Hooks())


async def test_slot_comes_back_when_opening_fails(opener: Opener) -> None:
    pool = Pool(opener, max_connections=1)
    opener.failures.append(httpx.ConnectError("refused"))
    with pytest.raises(httpx.ConnectError):
        await pool.lease(Hooks())
    with trio.fail_after(1):
        await pool.lease(Hooks())


async def test_slot_comes_back_when_opening_is_cancelled(opener: Opener, autojump_clock: trio.abc.Clock) -> None:
    pool = Pool(opener, max_connections=1)
    opener.delays.append(60)
    with trio.move_on_after(1):
        await pool.lease(Hooks())
    with trio.fail_after(1):
        await pool.lease(Hooks())


async def test_phases_are_told_as_they_begin(opener: Opener) -> None:
    phases: list[Phase] = []
    bounded, unbounded = Pool(opener, max_connections=1), Pool(opener)
    await bounded.lease(Hooks(enter_phase=phases.append))
    assert phases == [Phase.QUEUE, Phase.CONNECT]
    phases.clear()
    connection = await unbounded.lease(Hooks(enter_phase=phases.append))
    assert phases == [Phase.CONNECT]
    complete(connection)
    unbounded.give_back(connection)
    phases.clear()
    await unbounded.lease(Hooks(enter_phase=phases.append))
    assert phases == []


async def test_stale_connection_is_passed_over(opener: Opener) -> None:
    pool = Pool(opener)
    connection = await pool.lease(Hooks())
    complete(connection)
    pool.give_back(connection)
    (await opener.listener.accept()).close()
    assert await pool.lease(Hooks()) is not connection
    assert (pool.leased, pool.idle) == (1, 0)


async def test_fresh_lease_keeps_to_the_bound(opener: Opener) -> None:
    pool = Pool(opener, max_connections=2)
    connections = [await pool.lease(Hooks()) for _ in range(2)]
    for connection in connections:
        complete(connection)
        pool.give_back(connection)
    fresh = await pool.lease(Hooks(), fresh=True)
    assert fresh not in connections
    assert pool.leased + pool.idle == 2


async def test_sweep_drops_what_the_backend_closed_and_what_grew_old(
    opener: Opener, autojump_clock: trio.abc.Clock
) -> None:
    pool = Pool(opener)
    connections = [await pool.lease(Hooks()) for _ in range(2)]
    backend_ends = [await opener.listener.accept() for _ in range(2)]
    for connection in connections:
        complete(connection)
        pool.give_back(connection)
    pool.sweep()
    assert pool.idle == 2
    backend_ends[0].close()
    pool.sweep()
    assert pool.idle == 1
    await trio.sleep(IDLE_SECONDS)
    pool.sweep()
    assert pool.idle == 0
    assert await backend_ends[1].receive_some() == b""


async def test_no_more_than_so_many_stay_idle(opener: Opener) -> None:
    pool = Pool(opener, max_idle=3)
    connections = [await pool.lease(Hooks()) for _ in range(4)]
    for connection in connections:
        complete(connection)
        pool.give_back(connection)
    assert pool.idle == 3


async def test_close_ends_idle_and_leased_connections(opener: Opener) -> None:
    pool = Pool(opener, max_connections=2)
    idle, leased = await pool.lease(Hooks()), await pool.lease(Hooks())
    complete(idle)
    pool.give_back(idle)
    pool.close()
    assert (pool.leased, pool.idle) == (0, 0)
    for _ in range(2):
        assert await (await opener.listener.accept()).receive_some() == b""
    pool.give_back(leased)
    with trio.fail_after(1):
        await pool.lease(Hooks())
        await pool.lease(Hooks())
