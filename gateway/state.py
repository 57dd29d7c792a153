"""What the process knows of itself: its stage of life, what is in flight, and what its routes answer from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import trio

from gateway import __version__
from gateway.clocks import Limits
from gateway.errors import Draining
from gateway.forward import Exchange, Upstream
from gateway.headers import TrustedProxies
from gateway.health import Verdict
from gateway.metrics import Metrics
from gateway.observe import Record, Sink, WallClock
from gateway.routing import RouteTable


class Stage(StrEnum):
    """Where the process is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(kw_only=True, eq=False)
class Gateway:
    """What the routes answer from, and the hooks for those who run the process."""

    routes: RouteTable
    upstreams: Mapping[str, Upstream]
    verdict: Callable[[str, float], Verdict]
    trusted: TrustedProxies
    limits: Limits
    sink: Sink
    stage: Stage = Stage.STARTING
    crashed: bool = False
    """A background task has ended that must not."""
    in_flight: set[Exchange] = field(default_factory=set)
    metrics: Metrics = field(default_factory=Metrics)
    dropped_lines: Callable[[], int] = int
    """How many lines of the log were lost so far."""
    finished: int = 0
    """Exchanges that ended while the process was stopping."""
    cut_off: int = 0
    """Exchanges that were ended because it was."""
    _wall: WallClock | None = None
    _date: tuple[int, bytes] = (-1, b"")

    @cached_property
    def now(self) -> Callable[[], float]:
        """Reads trio's clock, without the two functions of trio between it and us: a request asks eight times."""
        return trio.lowlevel.current_clock().current_time

    @property
    def wall(self) -> WallClock:
        """Made at the first look, because trio's clock can only be read while trio runs."""
        if self._wall is None:
            self._wall = WallClock.start(trio.current_time())
        return self._wall

    def uptime(self, now: float) -> float:
        """Seconds since the start."""
        return now - self.wall.monotonic

    def ended(self, record: Record) -> None:
        """One exchange has ended: count it and log it."""
        self.metrics.exchange(record)
        self.sink.exchange(record)

    def date(self, now: float) -> bytes:
        """The value of Date; formatted once a second."""
        second = int(now)
        if self._date[0] != second:
            self._date = second, self.wall.http_date(now)
        return self._date[1]

    def running(self) -> None:
        """The first health sweep is over."""
        if self.stage is Stage.STARTING:
            self.stage = Stage.RUNNING
            self.sink.event("INFO", "the gateway is running", version=__version__, services=list(self.upstreams))

    def draining(self) -> None:
        """The process has begun to stop: from now on it is not ready, though it still serves."""
        if self.stage is not Stage.STOPPING:
            self.stage = Stage.STOPPING
            self.sink.event("INFO", "the gateway is stopping", in_flight=len(self.in_flight))

    def cut(self) -> None:
        """The time for requests in flight is over: end those that are left."""
        for exchange in list(self.in_flight):
            if exchange.cut is not None:
                exchange.cut(Draining("the gateway is stopping, and the time for this request is over"))
