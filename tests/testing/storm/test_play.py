"""The storm over the whole gateway: that it finds nothing, and that it would find something."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import httpx
import pytest
import trio

from gateway.testing.app import NetworkTransport
from gateway.testing.clients import http_transport
from gateway.testing.network import Network
from gateway.testing.storm.moods import MOODS
from gateway.testing.storm.plan import Event, draw, from_json, to_json
from gateway.testing.storm.play import SLOTS, UNIT, Report, play, settings_for
from gateway.testing.storm.shrink import shrink
from gateway.transport import Hooks, Request
from gateway.transport.backend import Answer
from gateway.transport.pool import Pool

SEED = 20
CROWD: dict[str, Any] = {
    "concurrency": 30,
    "pace": 0,
    "kinds": {"request": 60, "cancel": 40},
    "conducts": {"plain": 1},
    "services": ["service2"],
}
"""Few slots, more that wait for one, and many that give up: where slots get lost."""


def crowd(seed: int) -> list[Event]:
    return draw(seed, 500, ["last"], **CROWD)


def clean(report: Report) -> bool:
    assert report.violations == {}, str(report)
    return True


def test_storm_in_memory_leaves_nothing_and_its_books_balance() -> None:
    report = play(draw(SEED, 1500, list(MOODS)), seed=SEED)
    assert clean(report)
    assert report.most_at_once > 100
    assert sum(report.ends.values()) > 700
    assert {"ok", "client_gone", "backend_timeout", "backend_broke_off", "bad_response", "drained"} <= set(report.ends)


def test_storm_of_one_seed_is_the_same_each_time() -> None:
    events = draw(SEED, 200, list(MOODS))
    first, second = play(events, seed=SEED), play(events, seed=SEED)
    assert (first.ends, first.unseen, first.virtual) == (second.ends, second.unseen, second.virtual)
    assert first.ends != play(events, seed=SEED + 1).ends


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning",  # httpcore leaves generators of cancelled exchanges to the garbage collector
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_pool_of_httpcore_in_place_of_ours_is_found_to_lose_slots() -> None:
    def httpcores(network: Network[Any]) -> Mapping[str, httpx.AsyncBaseTransport]:
        return {"service2": http_transport(network, max_connections=SLOTS["service2"])}

    for seed in range(20):  # every second one finds it, within half a second
        report = play(crowd(seed), seed=seed, concurrency=CROWD["concurrency"], transports=httpcores)
        if report.violations["slots"]:
            assert "are taken with no request under way" in str(report)
            assert clean(play(crowd(seed), seed=seed, concurrency=CROWD["concurrency"]))
            return
    pytest.fail("it was not found")


class Forgetful(NetworkTransport):
    """Loses a slot whenever a request is cancelled before its answer has begun."""

    async def send(self, pool: Pool, request: Request, hooks: Hooks) -> Answer:
        try:
            return await super().send(pool, request, hooks)
        except trio.Cancelled:
            assert pool._slots is not None  # noqa: SLF001 - what is to be found
            with suppress(trio.WouldBlock):  # somebody who waited has it
                pool._slots.acquire_nowait()  # noqa: SLF001 - as above
            raise


def test_storm_that_finds_a_defect_finds_it_again_and_is_cut_down_to_what_it_takes() -> None:
    def forgetful(network: Network[Any]) -> Mapping[str, httpx.AsyncBaseTransport]:
        (service,) = (service for service in settings_for(UNIT).services if service.name == "service2")
        return {"service2": Forgetful(network, service, probes=False)}

    def run(part: Sequence[Event]) -> Report:
        return play(part, seed=SEED, concurrency=CROWD["concurrency"], transports=forgetful)

    events = [*crowd(SEED)[:120], Event(kind="calm", number=120)]
    first, second = run(events), run(events)
    assert (first.violations, first.ends) == (second.violations, second.ends)
    assert set(first.violations) == {"slots"}
    least = shrink(events, lambda part: "slots" in run(part).violations)
    assert {event.kind for event in least} == {"request", "cancel", "calm"}  # each of which it takes
    assert len(least) < 10
    assert "slots" in run(from_json(to_json(least))).violations
