from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from gateway.clocks import ExchangeClock, Limits
from gateway.errors import Draining, GatewayError
from gateway.forward import Exchange
from gateway.headers import Inbound, TrustedProxies
from gateway.health import State, Verdict
from gateway.observe import Collector
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
    wall = gateway.wall
    start = wall.at(trio.current_time())
    await trio.sleep(1.5)
    assert gateway.wall is wall
    assert (wall.at(trio.current_time()) - start).total_seconds() == pytest.approx(1.5, abs=1e-3)


def parsed(date: bytes) -> datetime:
    return parsedate_to_datetime(date.decode("ascii"))
