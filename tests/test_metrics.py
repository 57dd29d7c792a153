import re
from typing import Any

import pytest

from gateway.errors import Cause
from gateway.metrics import BUCKETS, Metrics, Snapshot
from gateway.observe import Record


def record(**changes: Any) -> Record:
    facts: dict[str, Any] = {
        "timestamp": "2026-01-02T03:04:05.678Z",
        "level": "INFO",
        "message": "request",
        "request_id": "r1",
        "method": "GET",
        "path": "/api/service1/x",
        "protocol": "HTTP/1.1",
        "client_ip": "192.0.2.1",
        "target_service": "service1",
        "target_url": "http://service1:8001/api/x",
        "status_code": 200,
        "bytes_in": 3,
        "bytes_out": 20,
        "duration_ms": 1.5,
        "timings_ms": {},
        "cause": Cause.OK,
    }
    return Record(**facts | changes)


NOTHING = Snapshot(version="1.2", pid=42, uptime=1.25, in_flight={}, connections={}, dropped=0)


def samples(text: str) -> dict[str, float]:
    """The samples by name and labels; every line must be of the text format."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP [a-z_]+ [^\n]+\.|TYPE [a-z_]+ (counter|gauge|histogram))", line)
        else:
            assert re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*\})? [0-9.e+-]+', line)
            name, _, value = line.rpartition(" ")
            assert name not in found
            found[name] = float(value)
    return found


def test_process_that_has_done_nothing_has_its_figures() -> None:
    assert samples(Metrics().render(NOTHING)) == {
        'gateway_info{version="1.2",pid="42"}': 1,
        "gateway_uptime_seconds": 1.25,
        "gateway_log_lines_dropped_total": 0,
    }


def test_requests_are_told_apart_by_service_status_and_cause() -> None:
    metrics = Metrics()
    metrics.exchange(record())
    metrics.exchange(record())
    metrics.exchange(record(status_code=504, cause=Cause.BACKEND_TIMEOUT))
    metrics.exchange(record(target_service=None, status_code=404, cause=Cause.NO_ROUTE, bytes_in=0))
    metrics.event("INFO", "not an exchange")
    found = samples(metrics.render(NOTHING))
    assert {name: value for name, value in found.items() if name.startswith("gateway_requests_total")} == {
        'gateway_requests_total{service="service1",status="200",cause="ok"}': 2,
        'gateway_requests_total{service="service1",status="504",cause="backend_timeout"}': 1,
        'gateway_requests_total{service="gateway",status="404",cause="no_route"}': 1,
    }
    assert found['gateway_request_body_bytes_total{service="service1"}'] == 9
    assert found['gateway_request_body_bytes_total{service="gateway"}'] == 0
    assert found['gateway_response_body_bytes_total{service="service1"}'] == 60


def test_durations_are_counted_in_every_bucket_that_holds_them() -> None:
    metrics = Metrics()
    for milliseconds in (5, 5.1, 60_000):
        metrics.exchange(record(duration_ms=milliseconds))
    found = samples(metrics.render(NOTHING))
    name = "gateway_request_duration_seconds"
    buckets = [value for sample, value in found.items() if sample.startswith(f"{name}_bucket")]
    assert buckets == [1, *[2] * (len(BUCKETS) - 1), 3]
    assert found[f'{name}_bucket{{service="service1",le="0.005"}}'] == 1
    assert found[f'{name}_bucket{{service="service1",le="30"}}'] == 2
    assert found[f'{name}_bucket{{service="service1",le="+Inf"}}'] == 3
    assert found[f'{name}_count{{service="service1"}}'] == 3
    assert found[f'{name}_sum{{service="service1"}}'] == pytest.approx(60.0101)


def test_what_is_so_now_is_told_beside_what_was_counted() -> None:
    now = Snapshot(
        version="1",
        pid=1,
        uptime=0,
        in_flight={None: 1, "service1": 2},
        connections={"service1": (2, 5)},
        dropped=7,
    )
    found = samples(Metrics().render(now))
    assert found['gateway_requests_in_flight{service="gateway"}'] == 1
    assert found['gateway_requests_in_flight{service="service1"}'] == 2
    assert found['gateway_backend_connections{service="service1",state="leased"}'] == 2
    assert found['gateway_backend_connections{service="service1",state="idle"}'] == 5
    assert found["gateway_log_lines_dropped_total"] == 7
