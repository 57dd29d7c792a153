from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from gateway.clocks import ExchangeClock, Limits
from gateway.errors import Cause, Draining, GatewayError
from gateway.forward import Exchange
from gateway.headers import Inbound, TrustedProxies
from gateway.health import State, Verdict
from gateway.metrics import Snapshot
from gateway.observe import Collector, Record
from gateway.routing import Route, RouteTable
from gateway.state import Gateway, Stage


def make(sink: Collector) -> Gateway:
    return Gateway(
        routes=RouteTable([Route("service1", b"/api/service1", b"/api")]),
        upstreams={},
        verdict=lambda _name, _now: Verdict(State.UNKNOWN),
        trusted=TrustedProxies([]),
        limits=Limits(),
        sink=sink,
    )


@pytest.fixture
def sink() -> Collector:
    return Collector()


@pytest.fixture
def gateway(sink: Collector) -> Gateway:
    return make(sink)


def exchange(cut: Callable[[GatewayError], None] | None) -> Exchange:
    async def unused(*_message: Any) -> Any:
        raise NotImplementedError

    clock = ExchangeClock(Limits(), 0.0)
    return Exchange({}, unused, unused, Inbound("192.0.2.1", "http", "1.1"), b"abc", clock, cut=cut)


def test_life_goes_from_starting_by_running_to_stopping_and_each_is_told_once(
    gateway: Gateway, sink: Collector
) -> None:
    stages = [gateway.stage]
    for step in (gateway.running, gateway.running, gateway.draining, gateway.draining):
        step()
        stages.append(gateway.stage)
    assert stages == ["starting", "running", "running", "stopping", "stopping"]
    assert [event["message"] for event in sink.events] == ["the gateway is running", "the gateway is stopping"]


def test_first_sweep_that_ends_after_the_stop_does_not_make_it_run_again(gateway: Gateway, sink: Collector) -> None:
    gateway.draining()
    gateway.running()
    assert gateway.stage is Stage.STOPPING
    assert [event["message"] for event in sink.events] == ["the gateway is stopping"]


def test_stop_tells_how_many_exchanges_are_in_flight(gateway: Gateway, sink: Collector) -> None:
    gateway.in_flight |= {exchange(None), exchange(None)}
    gateway.draining()
    assert sink.events[0]["in_flight"] == 2


def test_cut_ends_what_is_being_forwarded_and_leaves_the_rest_to_end_by_itself(gateway: Gateway) -> None:
    cut: list[GatewayError] = []
    gateway.in_flight |= {exchange(cut.append), exchange(None), exchange(cut.append)}
    gateway.cut()
    assert [type(failure) for failure in cut] == [Draining, Draining]


async def test_date_moves_with_the_virtual_clock_and_is_made_once_a_second(
    gateway: Gateway, autojump_clock: MockClock
) -> None:
    first = gateway.date(trio.current_time())
    assert gateway.date(trio.current_time()) is first
    await trio.sleep(90)
    later = gateway.date(trio.current_time())
    assert (parsed(later) - parsed(first)).total_seconds() == 90


async def test_time_stamps_begin_at_the_first_look_and_move_with_the_virtual_clock(
    gateway: Gateway, autojump_clock: MockClock
) -> None:
    start = datetime.fromisoformat(gateway.wall.iso(trio.current_time()))
    await trio.sleep(1.5)
    later = datetime.fromisoformat(gateway.wall.iso(trio.current_time()))
    assert (later - start).total_seconds() == 1.5
    assert gateway.uptime(trio.current_time()) == 1.5


def test_exchange_that_ended_is_both_counted_and_logged(gateway: Gateway, sink: Collector) -> None:
    record = Record(
        timestamp="2026-11-23T12:00:00.000Z",
        level="INFO",
        message="GET /x 404",
        request_id="abc",
        method="GET",
        path="/x",
        protocol="HTTP/1.1",
        client_ip="192.0.2.1",
        target_service=None,
        target_url=None,
        status_code=404,
        bytes_in=0,
        bytes_out=0,
        duration_ms=1.0,
        timings_ms={},
        cause=Cause.NO_ROUTE,
    )
    gateway.ended(record)
    assert sink.records == [record]
    now = Snapshot(version="1", pid=1, uptime=1.0, in_flight={}, connections={}, dropped=0)
    assert 'status="404",cause="no_route"} 1\n' in gateway.metrics.render(now)


def parsed(date: bytes) -> datetime:
    return parsedate_to_datetime(date.decode("ascii"))
