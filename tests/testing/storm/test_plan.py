from collections import Counter

import pytest

from gateway.testing.storm.plan import CONDUCTS, KINDS, SERVICES, draw, from_json, to_json

MOODS = ["well", "ill"]


def test_same_seed_draws_the_same_storm_and_another_another() -> None:
    assert draw(1, 500, MOODS) == draw(1, 500, MOODS) != draw(2, 500, MOODS)


def test_every_kind_conduct_service_and_mood_is_drawn_and_every_event_has_its_number() -> None:
    events = draw(1, 5000, MOODS)
    assert [event.number for event in events] == list(range(5000))
    assert Counter(event.kind for event in events).keys() == {*KINDS, "calm", "drain"}
    requests = [event for event in events if event.kind == "request"]
    assert {event.conduct for event in requests} == set(CONDUCTS)
    assert {event.service for event in requests} == set(SERVICES)
    assert {event.mood for event in requests} == set(MOODS)
    assert {event.protocol for event in requests} == {"1.1", "2"}


def test_calm_comes_before_the_drain_and_both_near_the_end_with_requests_behind() -> None:
    kinds = [event.kind for event in draw(1, 10_000, MOODS, concurrency=200)]
    assert (kinds.index("calm"), kinds.index("drain")) == (9600, 9800)
    assert kinds.count("calm") == kinds.count("drain") == 1
    assert "request" in kinds[9800:]


def test_events_speak_of_requests_before_them() -> None:
    events = draw(1, 1000, MOODS)
    assert all(event.target < event.number for event in events)


def test_json_gives_the_same_events_back() -> None:
    events = draw(3, 300, MOODS)
    assert from_json(to_json(events)) == events


@pytest.mark.parametrize("text", ["{", '{"kind": "request"}', '{"kind": "x", "number": 1, "more": 2}'])
def test_what_is_no_event_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        from_json(text)
