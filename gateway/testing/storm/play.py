"""A plan played to its end: the gateway, three backends, up to two hundred requests at once, and the books closed.

In memory a storm is a function of its plan and its seed, so a failing one fails again. Over real sockets it is not, but
the same must hold.

What lives here: the order of things. What never will: what clients and backends do, and what must hold.
"""

import errno
import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx
import trio

from gateway.config import Service, Settings
from gateway.testing.app import RunningGateway, running_gateway
from gateway.testing.backend import Backend
from gateway.testing.network import MemoryNetwork, Network
from gateway.testing.orphans import OrphansError, assert_no_orphans
from gateway.testing.sockets import SocketNetwork
from gateway.testing.storm.books import Books, Entry
from gateway.testing.storm.callers import MAX_BODY, Caller
from gateway.testing.storm.moods import MOODS, Mood, script_of
from gateway.testing.storm.plan import CONCURRENCY, SERVICES, Event
from gateway.testing.storm.transport import lost_slots
from gateway.testing.virtual import run_virtual

SLOTS: Final = {"service2": 10, "service3": 40}
"""Connections that a service may have."""
UNIT: Final = 0.1
"""Seconds per unit in virtual time. The gateway waits 30 of them for a backend, 40 for a client."""
REAL_UNIT: Final = 0.03
REAL_TOLERANCE: Final = 2.0
"""Seconds by which an end over real sockets may be late: this machine has other things to do."""
REAL_TRIES: Final = 3
"""How often a slot may be tried there before it counts as lost."""
MOST_ERRORS: Final = 5

MakeTransports = Callable[[Network[Any]], Mapping[str, httpx.AsyncBaseTransport]]


def no_transports(_network: Network[Any]) -> Mapping[str, httpx.AsyncBaseTransport]:
    """Leave the gateway its own."""
    return {}


@dataclass
class Report:
    """What became of a storm."""

    events: int
    seconds: float = 0.0
    """Of real time."""
    virtual: float = 0.0
    """Of trio's clock."""
    ends: Counter[str] = field(default_factory=Counter)
    """Requests in the log by cause."""
    unseen: int = 0
    """Requests that the gateway never read, as their clients left before."""
    most_at_once: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rate = self.events / self.seconds if self.seconds else 0
        lines = [
            f"{self.events:,} events in {self.seconds:.1f} s: {rate:,.0f} events/s",
            f"  {self.virtual:.1f} s on trio's clock, up to {self.most_at_once} requests at once",
            "  ended: " + ", ".join(f"{count:,} {cause}" for cause, count in self.ends.most_common()),
            f"  never read by the gateway: {self.unseen:,}",
            "  violations: " + (", ".join(f"{count} {kind}" for kind, count in self.violations.items()) or "none"),
        ]
        return "\n".join([*lines, *(f"    {each}" for each in self.told)])


def settings_for(unit: float) -> Settings:
    """Make the gateway's settings where a unit lasts so many seconds."""
    plain = Service(name="service1", host="service1", port=8001, timeout=30 * unit, connect_timeout=5 * unit)
    bounded = {
        name: replace(plain, name=name, host=name, prefix=f"/api/{name}", max_connections=slots)
        for name, slots in SLOTS.items()
    }
    return Settings(
        services=(
            plain,
            replace(bounded["service2"], port=8002),
            replace(bounded["service3"], port=8003, deadline=25 * unit),
        ),
        timeout=30 * unit,
        connect_timeout=5 * unit,
        client_timeout=40 * unit,
        max_body_size=MAX_BODY,
        health_interval=10 * unit,
        health_timeout=3 * unit,
        drain_timeout=20 * unit,
    )


class LateWatch(trio.abc.Instrument):
    """Sees to it that time never moves past the deadline of an exchange that is still going on.

    All that is due in one moment is done before the clock moves on: whoever is there after that is late, by at least
    one turn of the scheduler. For virtual time, where nothing but waiting takes time.
    """

    def __init__(self, gateway: RunningGateway, late: Callable[[str], None]) -> None:
        self._exchanges = gateway.app.gateway.in_flight
        self._late = late
        self._now = trio.current_time()

    def before_io_wait(self, _timeout: float) -> None:
        """See trio.abc.Instrument."""
        now = trio.current_time()
        if now == self._now:
            return
        self._now = now
        for exchange in self._exchanges:
            # Nothing cuts an exchange that is over and sends its answer; that is on the server's clock.
            if exchange.clock.deadline < now and exchange.cut is not None:
                self._late(f"{now - exchange.clock.deadline:.6f} s and still there: {exchange.request_id!r}")


class Storm:
    """One storm. ``run`` it once."""

    def __init__(  # noqa: PLR0913 - what differs between storms; all but the first two have a default
        self,
        events: Sequence[Event],
        network: Network[Any],
        *,
        unit: float = UNIT,
        tolerance: float = 0.0,
        moods: Mapping[str, Mood] = MOODS,
        transports: MakeTransports = no_transports,
        concurrency: int = CONCURRENCY,
        progress: Callable[[int], None] = lambda _done: None,
    ) -> None:
        self.report = Report(len(events))
        self._events = events
        self._network = network
        self._unit = unit
        self._virtual = isinstance(network, MemoryNetwork)
        self._moods = moods
        self._transports = transports
        self._progress = progress
        self._settings = settings_for(unit)
        self._books = Books(moods, self._settings, tolerance)
        self._running: dict[int, Entry] = {}
        self._room = trio.CapacityLimiter(concurrency)
        self._changed = trio.lowlevel.ParkingLot()
        self._weather: Counter[str] = Counter()
        self._health: dict[str, str] = {}
        self._backends: dict[str, Backend] = {}
        self._gateway: RunningGateway
        self._caller: Caller
        self._nursery: trio.Nursery

    async def run(self) -> Report:
        """Play it. Raises nothing of what goes wrong in it: the report tells. Cancelled, all of it ends."""
        began, since, books, report = time.perf_counter(), trio.current_time(), self._books, self.report
        networks = [self._network] if isinstance(self._network, MemoryNetwork) else []
        try:
            with _errors_told(books):
                async with assert_no_orphans(*networks, grace=0.0 if self._virtual else 5.0):
                    await self._play()
        except OrphansError as error:
            books.wrong("orphans", str(error))
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is what the storm has found
            books.wrong("crash", _in_short(error))
        report.seconds = time.perf_counter() - began
        report.virtual = trio.current_time() - since
        report.ends, report.unseen = books.ends, books.unseen
        report.violations, report.told = books.violations, books.told
        return report

    async def _play(self) -> None:
        async with AsyncExitStack() as stack:
            for service in self._settings.services:
                script = script_of(self._moods, self._unit, lambda name=service.name: self._health.get(name, ""))  # type: ignore[misc] # mypy knows no defaults of a lambda
                backend = Backend(self._network, service.host, service.port, script, keep=False)
                self._backends[service.name] = await stack.enter_async_context(backend)
            gateway = running_gateway(
                self._network, self._settings, probes=True, transports=self._transports(self._network)
            )
            self._gateway = await stack.enter_async_context(gateway)
            if self._virtual:
                watch = LateWatch(self._gateway, lambda what: self._books.wrong("late", what))
                trio.lowlevel.add_instrument(watch)
                stack.callback(trio.lowlevel.remove_instrument, watch)
            async with trio.open_nursery() as self._nursery:
                self._caller = Caller(self._network, self._nursery, self._unit)
                for done, event in enumerate(self._events):
                    await self._one(event)
                    if done % 64 == 0:
                        self._books.take(self._gateway.take_log())
                        self._progress(done)
                await self._wait_for_none()
                self._caller.close()
                self._nursery.cancel_scope.cancel()
            self._gateway.stop()
            await self._gateway.wait_stopped()
            self._finish()

    def _finish(self) -> None:
        books = self._books
        books.take(self._gateway.take_log())
        books.close()
        books.balance(self._gateway.metrics())
        for event in self._gateway.events:
            if event["level"] in ("ERROR", "CRITICAL"):
                books.wrong("defect", str(event))

    async def _one(self, event: Event) -> None:
        for _ in range(event.turns):
            await trio.lowlevel.checkpoint()
        match event.kind:
            case "request":
                await self._room.acquire_on_behalf_of(event.number)
                self._nursery.start_soon(self._request, self._begin(event), name=f"request {event.number}")
            case "cancel" if event.target in self._running:
                self._caller.cancel(self._running[event.target])
            case "disconnect" if event.target in self._running:
                self._caller.disconnect(self._running[event.target])
            case "weather":
                self._nursery.start_soon(self._cloud, event)
            case "health":
                self._nursery.start_soon(self._illness, event)
            case "lull":
                await trio.sleep(event.units * self._unit)
            case "calm":
                await self._calm(event)
            case "drain":
                self._books.draining = True
                self._gateway.stop()

    def _begin(self, event: Event) -> Entry:
        entry = Entry(event, trio.current_time(), weather=self._weather[event.service] > 0)
        self._running[event.number] = entry
        self.report.most_at_once = max(self.report.most_at_once, len(self._running))
        self._books.begin(entry)
        self._caller.expect(entry)
        return entry

    async def _request(self, entry: Entry) -> None:
        try:
            await self._caller.call(entry)
        finally:
            del self._running[entry.event.number]
            self._books.end(entry)
            self._room.release_on_behalf_of(entry.event.number)
            self._changed.unpark_all()

    async def _wait_for_none(self) -> None:
        patience = 500 * self._unit
        with trio.move_on_after(patience):
            while self._running:
                await self._changed.park()
        if self._running:
            self._books.wrong("hangs", f"after {patience:g} s still under way: {list(self._running.values())[:3]}")
            self._nursery.cancel_scope.cancel()

    async def _cloud(self, event: Event) -> None:
        """Weather over a service, for a while."""
        backend, service = self._backends[event.service], event.service
        for entry in self._running.values():
            entry.weather = entry.weather or entry.event.service == service
        if event.mood == "restarts":
            for connection in list(backend.connections):
                connection.reset()
            return
        self._weather[service] += 1
        match event.mood:
            case "refuses":
                refusal = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
                self._network.fail(backend.host, backend.port, refusal)
            case "black hole":
                self._network.black_hole(backend.host, backend.port)
            case "far away":
                self._network.delay(backend.host, backend.port, 2 * self._unit)
        await trio.sleep(event.units * self._unit)
        self._network.heal(backend.host, backend.port)
        self._weather[service] -= 1

    async def _illness(self, event: Event) -> None:
        """A service that its health checks find ill, for a while."""
        self._health[event.service] = event.mood
        await trio.sleep(event.units * self._unit)
        self._health.pop(event.service, None)

    async def _calm(self, event: Event) -> None:
        """Let everything end, clear the sky, and ask for as much at once as there are slots."""
        await self._wait_for_none()
        await trio.sleep(12 * self._unit)  # the weather passes
        for name, transport in self._gateway.transports.items():
            if lost := lost_slots(transport):  # type: ignore[arg-type] # those that a storm is played with
                self._books.wrong("slots", f"{name}: {lost} are taken with no request under way")
        async with trio.open_nursery() as nursery:
            for service in SERVICES:
                for turn in range(SLOTS.get(service, 10)):
                    number = -1 - turn - 1000 * (event.number * len(SERVICES) + SERVICES.index(service))
                    nursery.start_soon(
                        self._try_slot,
                        Event(
                            kind="request",
                            number=number,
                            service=service,
                            protocol="1.1",
                            conduct="plain",
                            mood="slow head",
                        ),
                    )

    async def _try_slot(self, event: Event) -> None:
        entry = None
        for tries in range(1 if self._virtual else REAL_TRIES):
            entry = self._begin(replace(event, number=event.number - 100 * tries))
            await self._room.acquire_on_behalf_of(entry.event.number)
            await self._request(entry)
            if entry.status == 200 and entry.whole:
                return
        self._books.wrong("slots", f"in calm weather, with every slot free: {entry}")


@contextmanager
def _errors_told(books: Books) -> Iterator[None]:
    """What the server logs as an error is one."""

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            books.wrong("defect", self.format(record))

    logger, handler = logging.getLogger("gateway.server"), Told(logging.ERROR)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _in_short(error: BaseException) -> str:
    """The errors in a group, at most so many of them."""
    inner: list[BaseException] = [error]
    while any(isinstance(each, BaseExceptionGroup) for each in inner):
        inner = [
            part for each in inner for part in (each.exceptions if isinstance(each, BaseExceptionGroup) else [each])
        ][:MOST_ERRORS]
    return "\n".join("".join(traceback.format_exception(each)) for each in inner)


def play(events: Sequence[Event], *, seed: int, **options: Any) -> Report:
    """Play a storm in memory, in virtual time; ``options`` are those of :class:`Storm`."""

    async def main() -> Report:
        return await Storm(events, MemoryNetwork(), **options).run()

    return run_virtual(main, seed=seed)


def play_over_sockets(events: Sequence[Event], *, unit: float = REAL_UNIT, **options: Any) -> Report:
    """Play a storm over real sockets, in real time."""

    async def main() -> Report:
        network = SocketNetwork()
        try:
            return await Storm(events, network, unit=unit, **{"tolerance": REAL_TOLERANCE, **options}).run()
        finally:
            network.close()

    return trio.run(main)
