"""The storm over the whole gateway: that it finds nothing, and that it would find something."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from gateway.testing.clients import http_transport
from gateway.testing.network import Network
from gateway.testing.storm.moods import MOODS
from gateway.testing.storm.plan import Event, draw
from gateway.testing.storm.play import SLOTS, Report, play

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
