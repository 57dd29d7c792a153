"""Every interleaving of one exchange with each of the things that may come between.

An exchange is run once to count the steps of all its tasks. Then it is run anew for each step and each event, and the
event happens right after that step: there is no other moment in which it could. Whatever comes when, the client sees
one end, the log has one record that agrees with it, and nothing is left.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import pytest
import trio
from trio.testing import MockClock

from gateway.config import Service, Settings
from gateway.errors import Cause
from gateway.observe import Record
from gateway.server.failures import plain_errors
from gateway.state import Stage
from gateway.testing.app import RunningGateway, running_gateway
from gateway.testing.backend import Backend, Connection, response
from gateway.testing.clients import RawClient
from gateway.testing.http2 import H2Client
from gateway.testing.network import MemoryNetwork
from gateway.testing.orphans import assert_no_orphans, slots_taken
from gateway.testing.peer import PeerGoneError, Response
from gateway.testing.virtual import Steps, run_virtual

SETTINGS = Settings(
    services=(Service(name="service1", host="service1", port=8001, max_connections=1),), drain_timeout=1.5
)
SEEDS = range(int(os.environ.get("INTERLEAVING_SEEDS", "1")))
"""Orders of the scheduler to go through: one in the ordinary suite, more in ``nox -s storm``."""
BODY = b"hello, world"


class World:
    """One run: everything in it, and what its client saw."""

    def __init__(self, steps: Steps, clock: MockClock) -> None:
        self.steps = steps
        self.clock = clock
        self.network = MemoryNetwork()
        self.gateway: RunningGateway
        self.backend: Backend
        self.client: RawClient | None = None
        self.go = trio.Event()
        """Set once the backend is to answer at once."""
        self.status: int | None = None
        self.whole = False
        """Whether the client saw an answer end as it should."""

    async def connect(self) -> RawClient:
        client = await self.gateway.raw_client()
        self.client = client
        return client

    async def pause(self) -> None:
        """A second, unless told to go."""
        with trio.move_on_after(1):
            await self.go.wait()

    async def read_request_or_go(self, conn: Connection) -> bool:
        """Whether there is one more to answer. An early answer is the connection's last: its request is not read."""
        if self.go.is_set() and conn.requests:
            return False
        with plain_errors():
            async with trio.open_nursery() as nursery:

                async def first(doing: Callable[[], Awaitable[object]]) -> None:
                    await doing()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(first, conn.read_request)
                nursery.start_soon(first, self.go.wait)
        return True

    async def see(self, client: RawClient) -> None:
        """Read one answer of HTTP/1.1, and nothing behind it."""
        head = await client.read_until(b"\r\n\r\n")
        answer = Response.parse(head)
        self.status = answer.status
        await client.read_body_of(answer, to_end=False)
        self.whole = True
        assert answer.body == BODY or answer.status >= 400
        assert await client.read_to_end() == b""


# What a backend does


async def slow_answer(world: World, conn: Connection) -> None:
    """Its head after a second, its body in two pieces of a second each; or what is left of it at once."""
    while await world.read_request_or_go(conn):
        await world.pause()
        await conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY[:5]))
        await world.pause()
        await conn.send(BODY[5:])


async def chunked_answer(world: World, conn: Connection) -> None:
    """As above, in chunks."""
    while await world.read_request_or_go(conn):
        await conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await world.pause()
        await conn.send(b"5\r\n%b\r\n" % BODY[:5])
        await world.pause()
        await conn.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY) - 5, BODY[5:]))


async def closes_on_the_second_request(world: World, conn: Connection) -> None:
    """A connection that was reused just as its backend gave it up."""
    if conn.number:
        await slow_answer(world, conn)
        return
    await conn.read_request()
    await conn.send(response(body=BODY))
    await conn.read_head()


# What a client does. Its connection is made before the steps are counted.


def ask(name: bytes = b"counts", method: bytes = b"GET", more: bytes = b"") -> bytes:
    return b"%b /api/service1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-request-id: %b\r\n%b\r\n" % (
        method,
        name,
        more,
    )


async def get(world: World) -> None:
    client = await world.connect()
    world.steps.start()
    await client.send(ask())
    await world.see(client)


async def upload(world: World) -> None:
    client = await world.connect()
    world.steps.start()
    await client.send(ask(method=b"POST", more=b"transfer-encoding: chunked\r\n") + b"4\r\nsome\r\n")
    await trio.sleep(0.5)
    await client.send(b"5\r\n more\r\n0\r\n\r\n")
    await world.see(client)


async def get_on_reused_connection(world: World) -> None:
    async with await world.gateway.raw_client() as before:
        await before.send(ask(b"before"))
        await before.read_response()
    await get(world)


async def get_behind_another(world: World) -> None:
    """The only connection that the service may have is taken, for two seconds more."""
    async with await world.gateway.raw_client() as other:
        await other.send(ask(b"before"))
        await world.backend.connection()
        await get(world)


async def get_over_http2(world: World) -> None:
    async with H2Client((await world.connect()).stream) as client:
        world.steps.start()
        stream = await client.request(b"/api/service1/x", headers=[(b"x-request-id", b"counts")])
        await client.answer(stream)
        world.status, world.whole = stream.status, stream.ended


# What comes between


def disconnect(world: World) -> None:
    if world.client is not None:
        world.client.close()


def deadline(world: World) -> None:
    """The moment in which its clock runs out; everybody else's pauses are over by then as well."""
    due = [each.clock.deadline for each in world.gateway.app.gateway.in_flight]
    world.clock.jump(max(0, min(due, default=0) - trio.current_time()))


def answer(world: World) -> None:
    world.go.set()


def reset(world: World) -> None:
    for connection in world.backend.connections:
        connection.reset()


def drain(world: World) -> None:
    world.gateway.stop()


Between: TypeAlias = Callable[[World], None]
Conduct: TypeAlias = Callable[[World], Awaitable[None]]
Answering: TypeAlias = Callable[[World, Connection], Awaitable[None]]

EVENTS: dict[Between, set[Cause]] = {
    disconnect: {Cause.OK, Cause.CLIENT_GONE},
    deadline: {Cause.OK, Cause.BACKEND_TIMEOUT},
    answer: {Cause.OK},
    reset: {Cause.OK, Cause.BACKEND_BROKE_OFF},
    drain: {Cause.OK, Cause.DRAINED},
}
"""Each with what the log tells of the exchange: it had ended before, or this ended it. Both are met with."""

MAYBE: dict[Between, set[Cause]] = {deadline: {Cause.CONNECT_FAILED, Cause.CLIENT_TOO_SLOW}}
"""What is met with where the exchange waits for a slot, or for its client, at one of its steps."""

EXCHANGES: dict[str, tuple[Conduct, Answering]] = {
    "get": (get, slow_answer),
    "upload": (upload, chunked_answer),
    "http2": (get_over_http2, slow_answer),
    "reused": (get_on_reused_connection, closes_on_the_second_request),
    "queued": (get_behind_another, slow_answer),
}


async def play(world: World, client: Conduct, script: Answering) -> None:
    """One run of the exchange, and all that must hold after it."""
    async with assert_no_orphans(world.network):

        async def serve(conn: Connection) -> None:
            with suppress(trio.ClosedResourceError):  # it was reset in mid-sentence
                await script(world, conn)

        world.backend = Backend(world.network, "service1", 8001, serve)
        async with world.backend, running_gateway(world.network, SETTINGS) as world.gateway:
            with suppress(PeerGoneError, trio.ClosedResourceError):
                await client(world)
            world.steps.stop()
            if world.client is not None:
                world.client.close()
            await trio.testing.wait_all_tasks_blocked()
            assert slots_taken(world.gateway.transports["service1"]) == 0
            if world.gateway.app.gateway.stage is not Stage.STOPPING:
                await works_on(world)
        sound(world, [record for record in world.gateway.log if record.request_id == "counts"])


async def works_on(world: World) -> None:
    """The only slot is there for the next one."""
    async with await world.gateway.raw_client() as client:
        await client.send(ask(b"after"))
        assert (await client.read_response()).status == 200


def sound(world: World, records: list[Record]) -> None:
    """One end, the same to the client and in the log."""
    if not records:
        # It had not been read when the drain closed its connection, or when it was closed by its client.
        assert world.steps.acted_at is not None
        assert (world.status, world.whole) == (None, False)
        return
    (record,) = records
    assert sum(record.timings_ms.values()) == pytest.approx(record.duration_ms, abs=1)
    if world.whole:
        assert record.status_code == world.status
        assert (record.cause is Cause.OK) == (record.status_code == 200)
    elif world.status is not None:
        assert record.status_code in (world.status, 499)
    if record.cause is Cause.OK and world.client is not None and world.client.gone_at is not None:
        assert world.whole


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("exchange", EXCHANGES if len(SEEDS) > 1 else ["get", "upload", "reused"])
def test_whatever_comes_between_two_steps_leaves_one_end_and_nothing_else(exchange: str, seed: int) -> None:
    client, script = EXCHANGES[exchange]

    def run(at: int | None, between: Between) -> World:
        steps, clock = Steps(at, lambda: between(world)), MockClock(autojump_threshold=0)
        world = World(steps, clock)
        run_virtual(play, world, client, script, seed=seed, clock=clock, instruments=[steps])
        return world

    whole = run(None, disconnect)
    assert (whole.status, whole.whole) == (200, True)
    count = whole.steps.count
    assert count > 15
    for between, causes in EVENTS.items():
        seen: set[Cause] = set()
        for at in range(count):
            try:
                world = run(at, between)
                seen |= {record.cause for record in world.gateway.log if record.request_id == "counts"}
                assert seen <= causes | MAYBE.get(between, set())
                assert world.steps.acted_at is not None
            except BaseException as error:
                error.add_note(f"{exchange}, {between.__name__} after step {at} of {count}, seed {seed}")
                raise
        assert seen >= causes, f"{exchange}, {between.__name__}"
