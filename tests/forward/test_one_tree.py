"""One tree per request: whatever ends it, at whatever phase, ends all of it at once, and nothing is left.

The same conversations run in memory, where the end is exactly where it is due, and over real sockets, where the backend
must see its connection closed within 100 ms.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import h2.config
import h2.connection
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from gateway.config import Settings
from gateway.errors import Cause, GatewayError
from gateway.forward import Exchange
from gateway.forward.body import READ_AHEAD_SECONDS
from gateway.http1 import ChunkedDecoder
from gateway.testing.app import RunningGateway, running_gateway
from gateway.testing.backend import Backend, Connection, response
from gateway.testing.clients import RawClient
from gateway.testing.network import MemoryNetwork
from gateway.testing.orphans import assert_no_orphans
from gateway.testing.peer import PeerGoneError
from gateway.testing.sockets import SocketNetwork

Make = Callable[..., Settings]
Network = MemoryNetwork | SocketNetwork

SOON = 0.1
"""Seconds within which a backend must see its connection closed."""

PHASES = ["before the body", "in the body", "waiting for the head", "in the answer"]
UPLOADS = ("before the body", "in the body")


class Http1:
    """A client of HTTP/1.1 that can leave in every way."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw

    async def ask(self, phase: str) -> None:
        method, length = (b"POST", b"Content-Length: 100\r\n") if phase in UPLOADS else (b"GET", b"")
        body = b"some" if phase == "in the body" else b""
        await self.raw.send(b"%s /api/service1/x HTTP/1.1\r\nHost: example\r\n%s\r\n%s" % (method, length, body))

    async def leave(self, how: str) -> None:
        match how:
            case "close":
                self.raw.close()
            case "reset":
                self.raw.reset()
            case "half-close":
                await self.raw.half_close()


class Http2:
    """A client of HTTP/2 by prior knowledge, by the h2 library; one stream."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()

    async def ask(self, phase: str) -> None:
        upload = phase in UPLOADS
        self.h2.send_headers(
            1,
            [
                (":method", "POST" if upload else "GET"),
                (":scheme", "http"),
                (":authority", "example"),
                (":path", "/api/service1/x"),
            ],
            end_stream=not upload,
        )
        if phase == "in the body":
            self.h2.send_data(1, b"some")
        await self.raw.send(self.h2.data_to_send())

    async def leave(self, how: str) -> None:
        match how:
            case "close":
                self.raw.close()
            case "reset":
                self.raw.reset()
            case "half-close":
                await self.raw.half_close()
            case "RST_STREAM":
                self.h2.reset_stream(1, 8)
                await self.raw.send(self.h2.data_to_send())


def backend_for(phase: str) -> Callable[[Connection], object]:
    """A backend that brings the exchange to the phase and stays there until its connection is closed."""

    async def script(conn: Connection) -> None:
        await conn.read_head()
        if phase == "in the body":
            await conn.read_until(b"some")
        if phase == "in the answer":
            await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        await conn.wait_closed()

    return script


async def reach(phase: str, client: Http1 | Http2, gateway: RunningGateway, backend: Backend) -> Connection | None:
    """Wait until the exchange is where it is wanted; give the backend's end, which there is none of before the body."""
    began = trio.current_time()
    await client.ask(phase)
    while not gateway.app.gateway.in_flight:  # noqa: ASYNC110 -- the gateway has no event for it, and needs none
        await trio.sleep(0.001)
    if phase == "before the body":
        await trio.sleep(0.02)
        if trio.current_time() < began + READ_AHEAD_SECONDS:  # else the machine was busy, and it may be in the body
            assert backend.connections == []
        return backend.connections[0] if backend.connections else None
    conn = await backend.connection(0)
    match phase:
        case "in the body":
            while b"some" not in conn.received:  # noqa: ASYNC110 -- bytes on a wire have none either
                await trio.sleep(0.001)
        case "in the answer":
            await client.raw.read_until(b"some")
        case _:
            while not conn.requests:  # noqa: ASYNC110 -- as above
                await trio.sleep(0.001)
    return conn


@pytest.fixture(params=[Http1, Http2])
def protocol(request: pytest.FixtureRequest) -> Callable[[RawClient], Http1 | Http2]:
    kind: Callable[[RawClient], Http1 | Http2] = request.param
    return kind


@dataclass
class World:
    """Where a conversation takes place, and how late an end may be there."""

    network: Network
    soon: float
    stolen: float = 0.0
    beat: float = inf

    @property
    def networks(self) -> list[MemoryNetwork]:
        return [self.network] if isinstance(self.network, MemoryNetwork) else []

    @property
    def late(self) -> float:
        """Over sockets: what the machine has been late by itself, because others run on it, does not count.

        Neither does what it is late at this moment: the beat may not have had its turn yet.
        """
        return self.soon + self.stolen + max(0.0, trio.current_time() - self.beat)

    async def feel_pulse(self) -> None:
        while True:
            self.beat = trio.current_time() + 0.005
            await trio.sleep_until(self.beat)
            self.stolen += trio.current_time() - self.beat


@pytest.fixture(params=["in memory", "over sockets"])
def clock(request: pytest.FixtureRequest) -> trio.abc.Clock | None:
    """A virtual clock for the world in memory; pytest-trio takes it from here. The kernel's sockets know none."""
    return MockClock(autojump_threshold=0) if request.param == "in memory" else None


@pytest.fixture
async def world(clock: trio.abc.Clock | None, nursery: trio.Nursery) -> World:
    if clock is not None:
        return World(MemoryNetwork(), 0)
    world = World(SocketNetwork(), SOON)
    nursery.start_soon(world.feel_pulse)
    return world


@pytest.mark.parametrize("how", ["close", "reset", "half-close", "RST_STREAM"])
@pytest.mark.parametrize("phase", PHASES)
async def test_client_that_leaves_takes_the_whole_tree_with_it_at_once(
    world: World, clock: object, settings: Make, protocol: Callable[[RawClient], Http1 | Http2], phase: str, how: str
) -> None:
    if protocol is Http1 and how == "RST_STREAM":
        pytest.skip("HTTP/1.1 has no streams")
    async with (
        Backend(world.network, "service1", 8001, backend_for(phase)) as backend,  # type: ignore[arg-type] # returns nothing
        running_gateway(world.network, settings()) as gateway,
    ):
        async with assert_no_orphans(*world.networks, grace=10 * world.late), await gateway.raw_client() as raw:
            client = protocol(raw)
            conn = await reach(phase, client, gateway, backend)
            start = trio.current_time()
            await client.leave(how)
            if conn is not None:
                assert await conn.wait_closed() <= start + world.late
            (record,) = await gateway.logged(1)
            assert trio.current_time() <= start + world.late
        assert (record.cause, record.status_code) == (Cause.CLIENT_GONE, 499)
        assert gateway.transports["service1"].leased == 0  # type: ignore[attr-defined] # the kit's is ours
        assert not gateway.app.gateway.in_flight


async def test_client_that_leaves_while_connecting_ends_the_attempt(
    network: MemoryNetwork, settings: Make, autojump_clock: trio.abc.Clock
) -> None:
    network.black_hole("service1", 8001)
    async with running_gateway(network, settings()) as gateway, await gateway.raw_client() as raw:
        await Http1(raw).ask("waiting for the head")
        await trio.sleep(1)
        raw.close()
        (record,) = await gateway.logged(1)
        assert record.duration_ms == 1000
        assert record.cause is Cause.CLIENT_GONE


TIME = 0.3
"""Seconds of the clock that is to end the exchange; long enough for real sockets to bring it to its phase."""


@pytest.mark.parametrize("phase", PHASES)
async def test_deadline_takes_the_whole_tree_at_its_time(
    world: World, clock: object, settings: Make, protocol: Callable[[RawClient], Http1 | Http2], phase: str
) -> None:
    async with (
        Backend(world.network, "service1", 8001, backend_for(phase)) as backend,  # type: ignore[arg-type] # as above
        running_gateway(world.network, settings(service={"deadline": TIME})) as gateway,
        await gateway.raw_client() as raw,
    ):
        conn = await reach(phase, protocol(raw), gateway, backend)
        (exchange,) = gateway.app.gateway.in_flight
        due = exchange.clock.started + TIME
        if conn is not None:
            assert due <= await conn.wait_closed() <= due + world.late
        (record,) = await gateway.logged(1)
        assert due <= trio.current_time() <= due + world.late
        assert record.duration_ms == pytest.approx(TIME * 1000, abs=world.late * 1000 + 0.001)
        assert sum(record.timings_ms.values()) == pytest.approx(record.duration_ms, abs=0.01)
        assert "deadline" in (record.error or "")
        assert gateway.transports["service1"].leased == 0  # type: ignore[attr-defined] # as above


@pytest.mark.parametrize("phase", PHASES)
async def test_end_of_the_drain_takes_the_whole_tree_at_its_time(
    world: World, clock: object, settings: Make, protocol: Callable[[RawClient], Http1 | Http2], phase: str
) -> None:
    async with (
        Backend(world.network, "service1", 8001, backend_for(phase)) as backend,  # type: ignore[arg-type] # as above
        running_gateway(world.network, settings(drain_timeout=TIME)) as gateway,
        await gateway.raw_client() as raw,
    ):
        client = protocol(raw)
        conn = await reach(phase, client, gateway, backend)
        due = trio.current_time() + TIME
        gateway.stop()
        if conn is not None:
            assert due <= await conn.wait_closed() <= due + world.late
        (record,) = await gateway.logged(1)
        assert due <= trio.current_time() <= due + world.late
        assert record.cause is Cause.DRAINED
        if isinstance(client, Http1) and phase != "in the answer":
            answer = await client.raw.read_response()
            assert answer.status == 503
            assert b"the gateway is stopping" in answer.body
        await raw.read_to_end()
        raw.close()
        assert await gateway.wait_stopped() <= due + 3


async def test_requests_in_flight_finish_within_the_drain(
    network: MemoryNetwork, settings: Make, autojump_clock: trio.abc.Clock
) -> None:
    async def slow(conn: Connection) -> None:
        await conn.read_request()
        await conn.sleep(20)
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    async with (
        Backend(network, "service1", 8001, slow) as backend,
        running_gateway(network, settings(drain_timeout=30)) as gateway,
        await gateway.raw_client() as raw,
    ):
        client = Http1(raw)
        start = trio.current_time()
        await reach("waiting for the head", client, gateway, backend)
        gateway.stop()
        assert (await raw.read_response()).body == b"done"
        assert await gateway.wait_stopped() <= start + 22  # the client is given 2 s to read the last answer
        assert gateway.events[-1] == {"level": "INFO", "message": "the gateway has stopped", "finished": 1, "cut": 0}
        with pytest.raises((PeerGoneError, OSError)):
            await (await gateway.raw_client()).send(b"x")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /api/service1/x HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /api/service1/dies HTTP/1.1\r\nHost: a\r\n\r\n", 502),
        (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"POST /api/service1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"POST /api/service1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200),
    ],
    ids=["answered", "broken off", "no route", "too large", "in chunks"],
)
async def test_exchange_is_let_go_of_without_the_garbage_collector(
    network: MemoryNetwork, settings: Make, head: bytes, status: int
) -> None:
    async def script(conn: Connection) -> None:
        while (await conn.read_request()).target != b"/api/dies":
            await conn.send(response())

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        gc.collect()
        gc.disable()
        try:
            await client.send(head)
            assert (await client.read_response()).status == status
            await trio.testing.wait_all_tasks_blocked()
            kinds = (Exchange, GatewayError, ChunkedDecoder)
            left = [thing for thing in gc.get_objects() if issubclass(type(thing), kinds)]
        finally:
            gc.enable()
    assert left == []
