from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from gateway.errors import Cause
from gateway.testing.app import RunningGateway, running_gateway
from gateway.testing.backend import Backend
from gateway.testing.network import MemoryNetwork
from gateway.testing.storm.books import BY_CONDUCT, Entry
from gateway.testing.storm.callers import Caller
from gateway.testing.storm.moods import MOODS, script_of
from gateway.testing.storm.plan import CONDUCTS, Event
from gateway.testing.storm.play import settings_for


@pytest.fixture
async def gateway(network: MemoryNetwork, autojump_clock: MockClock) -> AsyncIterator[RunningGateway]:
    async with (
        Backend(network, "service1", 8001, script_of(MOODS, 0.1, str)),
        running_gateway(network, settings_for(0.1)) as gateway,
    ):
        yield gateway


@pytest.fixture
def caller(gateway: RunningGateway, nursery: trio.Nursery) -> Caller:
    return Caller(gateway.network, nursery, 0.1)


def entry(
    number: int = 1, *, protocol: str = "1.1", conduct: str = "plain", mood: str = "well", lane: int = 0
) -> Entry:
    event = Event(
        kind="request", number=number, service="service1", protocol=protocol, conduct=conduct, mood=mood, lane=lane
    )
    return Entry(event, trio.current_time())


@pytest.mark.parametrize("protocol", ["1.1", "2"])
@pytest.mark.parametrize("conduct", CONDUCTS)
async def test_each_conduct_ends_in_one_of_its_ways(
    gateway: RunningGateway, caller: Caller, protocol: str, conduct: str, autojump_clock: MockClock
) -> None:
    one = entry(protocol=protocol, conduct=conduct, mood="big" if conduct == "never reads" else "well")
    caller.expect(one)
    await caller.call(one)
    (record,) = await gateway.logged(1)
    assert record.cause in BY_CONDUCT.get(conduct, {Cause.OK})
    assert record.protocol == f"HTTP/{protocol}"
    assert one.wrong is None
    if record.cause is Cause.OK:
        assert (one.status, one.whole) == (200, True)
    caller.close()


@pytest.mark.parametrize("protocol", ["1.1", "2"])
async def test_connection_of_a_lane_is_used_again(
    gateway: RunningGateway, caller: Caller, protocol: str, autojump_clock: MockClock
) -> None:
    for number in range(3):
        one = entry(number, protocol=protocol, lane=3)
        caller.expect(one)
        await caller.call(one)
        assert one.whole
    assert gateway.network.connects.count(("gateway", 80)) == 1
    caller.close()


@pytest.mark.parametrize("how", ["cancel", "disconnect"])
@pytest.mark.parametrize("protocol", ["1.1", "2"])
async def test_request_that_is_given_up_is_seen_to_leave(
    gateway: RunningGateway, caller: Caller, nursery: trio.Nursery, protocol: str, how: str, autojump_clock: MockClock
) -> None:
    one = entry(protocol=protocol, mood="hangs")
    caller.expect(one)
    nursery.start_soon(caller.call, one)
    await trio.sleep(1)
    getattr(caller, how)(one)
    (record,) = await gateway.logged(1)
    assert (record.cause, record.duration_ms) == (Cause.CLIENT_GONE, 1000)
    assert one.left
    caller.close()


async def test_disconnect_over_http2_takes_its_neighbours_along_and_names_them(
    gateway: RunningGateway, caller: Caller, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    entries = [entry(number, protocol="2", mood="hangs", lane=5) for number in range(3)]
    other = entry(9, protocol="2", mood="hangs", lane=6)
    for one in [*entries, other]:
        caller.expect(one)
        nursery.start_soon(caller.call, one)
    await trio.sleep(1)
    assert set(caller.disconnect(entries[1])) == set(entries)
    await gateway.logged(3)
    assert [one.left for one in [*entries, other]] == [True, True, True, False]
    caller.cancel(other)
    await gateway.logged(4)
    caller.close()


async def test_request_may_be_given_up_before_it_was_begun(
    gateway: RunningGateway, caller: Caller, autojump_clock: MockClock
) -> None:
    one = entry()
    caller.expect(one)
    caller.cancel(one)
    await caller.call(one)
    assert gateway.log == []


async def test_answer_of_another_request_is_noticed(
    network: MemoryNetwork, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def script(conn: object) -> None:
        await conn.read_request()  # type: ignore[attr-defined] # a Connection
        await conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ne999;")  # type: ignore[attr-defined] # as above

    async with Backend(network, "service1", 8001, script), running_gateway(network):
        caller, one = Caller(network, nursery, 0.1), entry()
        caller.expect(one)
        await caller.call(one)
        assert one.wrong is not None
        assert "somebody else's" in one.wrong
