"""The books find each thing that must not be: one test for each kind of it."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import Cause, Phase
from gateway.observe import Record
from gateway.testing.storm.books import Books, Entry
from gateway.testing.storm.moods import MOODS
from gateway.testing.storm.plan import Event
from gateway.testing.storm.play import settings_for

EVENT = Event(kind="request", number=7, service="service1", protocol="1.1", conduct="plain", mood="well")
METRICS = (
    'gateway_requests_total{service="service1",status="200",cause="ok"} 1\n'
    'gateway_request_body_bytes_total{service="service1"} 0\n'
    'gateway_response_body_bytes_total{service="service1"} 5\n'
    'gateway_request_duration_seconds_sum{service="service1"} 0.1\n'
    'gateway_request_duration_seconds_count{service="service1"} 1\n'
)


NO_TIME = dict.fromkeys(Phase, 0.0)


def record(**changes: Any) -> Record:
    facts: dict[str, Any] = {
        "timestamp": "",
        "level": "INFO",
        "message": "",
        "request_id": "e7",
        "method": "GET",
        "path": "/",
        "protocol": "HTTP/1.1",
        "client_ip": "",
        "target_service": "service1",
        "target_url": None,
        "status_code": 200,
        "bytes_in": 0,
        "bytes_out": 5,
        "duration_ms": 100.0,
        "timings_ms": {**NO_TIME, Phase.FIRST_BYTE: 100.0},
        "cause": Cause.OK,
    }
    return Record(**{**facts, **changes})


def timed(ms: float, phase: Phase = Phase.FIRST_BYTE, **changes: Any) -> Record:
    return record(duration_ms=ms, timings_ms={**NO_TIME, phase: ms}, **changes)


def in_send(ms: float, **changes: Any) -> Record:
    return timed(ms, Phase.SEND, **changes)._replace(phase=Phase.SEND)


def books_of(entry: Entry, *records: Record) -> Books:
    books = Books(MOODS, settings_for(0.1), tolerance=0.0)
    books.begin(entry)
    books.take(records)
    books.end(entry)
    books.close()
    return books


def entry(event: Event = EVENT, **changes: Any) -> Entry:
    facts: dict[str, Any] = {"status": 200, "whole": True}
    return Entry(event, 0.0, **{**facts, **changes})


HANGS = replace(EVENT, mood="hangs")
TIMEOUT: dict[str, Any] = {"status_code": 504, "cause": Cause.BACKEND_TIMEOUT}
BOUNDED = replace(EVENT, service="service3")
STALLS = replace(BOUNDED, conduct="stalls")


def test_request_whose_record_agrees_is_in_order_whichever_comes_first() -> None:
    books = books_of(entry(), record())
    assert books.violations == {}
    late = Books(MOODS, settings_for(0.1), tolerance=0.0)
    one = entry()
    late.begin(one)
    late.end(one)
    late.take([record()])
    late.close()
    assert late.violations == {}
    assert late.ends == books.ends == {Cause.OK: 1}


@pytest.mark.parametrize(
    ("kind", "seen", "logged"),
    [
        ("ends", entry(), []),
        ("ends", entry(status=None, whole=False), []),
        ("ends", entry(), [record(), record()]),
        ("ends", entry(left=True, status=None, whole=False), [record(request_id="e8")]),
        ("phases", entry(), [record(timings_ms={**NO_TIME, Phase.BODY: 98.9})]),
        ("answer", entry(), [record(status_code=404)]),
        ("answer", entry(whole=False), [record()]),
        ("answer", entry(), [record(cause=Cause.BACKEND_BROKE_OFF)]),
        ("answer", entry(wrong="somebody else's"), [record()]),
        ("cause", entry(status=502), [record(status_code=502, cause=Cause.BACKEND_BROKE_OFF)]),
        ("cause", entry(HANGS, status=None, whole=False), [timed(3000, cause=Cause.BACKEND_TIMEOUT)]),
        ("cause", entry(status=503), [record(status_code=503, cause=Cause.DRAINED)]),
        (
            "cause",
            entry(STALLS, status=504),
            [in_send(2500, target_service="service3", **TIMEOUT)],
        ),
        ("late", entry(HANGS, status=504), [timed(3000.1, **TIMEOUT)]),
        ("late", entry(HANGS, status=504), [timed(2999.9, **TIMEOUT)]),
        ("late", entry(BOUNDED), [timed(2500.1, Phase.BODY, target_service="service3")]),
        ("late", entry(weather=True), [timed(500.1, Phase.CONNECT)]),
    ],
)
def test_what_must_not_be_is_found(kind: str, seen: Entry, logged: list[Record]) -> None:
    books = books_of(seen, *logged)
    assert kind in books.violations
    assert any(told.startswith(f"{kind}: ") for told in books.told)


@pytest.mark.parametrize(
    ("seen", "logged"),
    [
        (entry(HANGS, status=504), timed(3000, **TIMEOUT)),
        (entry(BOUNDED), timed(2500, Phase.BODY, target_service="service3")),
        (entry(weather=True), timed(500, Phase.CONNECT)),
        (entry(status=None, whole=False, left=True), record(status_code=499, cause=Cause.CLIENT_GONE)),
        (entry(status=503, weather=True), record(status_code=503, cause=Cause.CONNECT_FAILED)),
        (entry(replace(EVENT, conduct="stalls"), status=408), record(status_code=408, cause=Cause.CLIENT_TOO_SLOW)),
        (entry(replace(EVENT, conduct="nowhere"), status=404), record(status_code=404, cause=Cause.NO_ROUTE)),
    ],
)
def test_what_may_be_is_in_order(seen: Entry, logged: Record) -> None:
    assert books_of(seen, logged).violations == {}


@pytest.mark.parametrize("why", ["left", "unread"])
def test_request_that_was_never_read_needs_no_record(why: str) -> None:
    seen = entry(status=None, whole=False)
    setattr(seen, why, True)
    books = books_of(seen)
    assert (books.violations, books.unseen) == ({}, 1)


def test_client_that_still_waits_is_found() -> None:
    books = Books(MOODS, settings_for(0.1), tolerance=0.0)
    books.begin(entry(status=None, whole=False))
    books.close()
    assert set(books.violations) == {"ends"}


def test_counters_that_agree_with_the_log_are_in_order() -> None:
    books = books_of(entry(), record())
    books.balance(METRICS)
    assert books.violations == {}


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ('cause="ok"} 1', 'cause="ok"} 2'),
        ('cause="ok"', 'cause="internal"'),
        ('bytes_total{service="service1"} 5', 'bytes_total{service="service1"} 6'),
        ('seconds_sum{service="service1"} 0.1', 'seconds_sum{service="service1"} 0.102'),
        ('seconds_count{service="service1"} 1', 'seconds_count{service="service1"} 2'),
        ("gateway_request_body", 'gateway_requests_in_flight{service="service1"} 1\ngateway_request_body'),
    ],
)
def test_counters_that_disagree_are_found(was: str, becomes: str) -> None:
    assert was in METRICS
    books = books_of(entry(), record())
    books.balance(METRICS.replace(was, becomes))
    assert set(books.violations) == {"sums"}
