"""The figures of one process, counted as exchanges end and written as Prometheus reads them.

Pure: records and a snapshot in, text out. The form is Prometheus' text format, version 0.0.4. Values of labels come
from closed lists or from the configuration, so that no client can make a new series: a path is never one.

What never lives here: a clock, a socket, what is kept longer than the process.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import Cause
from gateway.observe import Record

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OURSELVES = "gateway"
"""The label ``service`` of what went to none. No service can have this name."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds. Fixed, so that the figures of several processes can be added up."""


@dataclass(slots=True)
class _Totals:
    """What ended, of one service."""

    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is so at this moment, and is not counted."""

    version: str
    pid: int
    uptime: float
    """Seconds."""
    in_flight: Mapping[str | None, int]
    """Exchanges by service."""
    connections: Mapping[str, tuple[int, int]]
    """To backends, by service: those that carry an exchange, those that are idle."""
    dropped: int
    """Lines of the log that nobody will ever read."""


class Metrics:
    """A sink that only counts. See ``observe.Sink``."""

    def __init__(self) -> None:
        self._ended: Counter[tuple[str | None, int, Cause]] = Counter()
        self._totals: dict[str | None, _Totals] = {}

    def exchange(self, record: Record) -> None:
        """See Sink."""
        service = record.target_service
        self._ended[service, record.status_code, record.cause] += 1
        totals = self._totals.get(service)
        if totals is None:
            totals = self._totals[service] = _Totals()
        totals.bytes_in += record.bytes_in
        totals.bytes_out += record.bytes_out
        seconds = record.duration_ms / 1000
        totals.seconds += seconds
        totals.buckets[bisect_left(BUCKETS, seconds)] += 1

    def event(self, level: str, message: str, /, **facts: Any) -> None:
        """See Sink. Events are not counted."""

    def render(self, now: Snapshot) -> str:
        """Write all of it."""
        families = [
            _family("gateway_info", "gauge", "The process", [({"version": now.version, "pid": now.pid}, 1)]),
            _family("gateway_uptime_seconds", "gauge", "Time since it began to serve", [({}, now.uptime)]),
            _family(
                "gateway_requests_total",
                "counter",
                "Requests that have ended",
                (
                    ({"service": service or OURSELVES, "status": status, "cause": cause}, count)
                    for (service, status, cause), count in self._ended.items()
                ),
            ),
            _family(
                "gateway_requests_in_flight",
                "gauge",
                "Requests that have not ended",
                (({"service": service or OURSELVES}, count) for service, count in now.in_flight.items()),
            ),
            _family(
                "gateway_request_body_bytes_total",
                "counter",
                "Bytes of bodies that came from clients",
                (({"service": service or OURSELVES}, each.bytes_in) for service, each in self._totals.items()),
            ),
            _family(
                "gateway_response_body_bytes_total",
                "counter",
                "Bytes of bodies that went to clients",
                (({"service": service or OURSELVES}, each.bytes_out) for service, each in self._totals.items()),
            ),
            self._durations(),
            _family(
                "gateway_backend_connections",
                "gauge",
                "Open connections to backends",
                (
                    ({"service": service, "state": state}, count)
                    for service, counts in now.connections.items()
                    for state, count in zip(("leased", "idle"), counts, strict=True)
                ),
            ),
            _family("gateway_log_lines_dropped_total", "counter", "Log lines that were lost", [({}, now.dropped)]),
        ]
        return "".join(f"{line}\n" for family in families for line in family)

    def _durations(self) -> Iterator[str]:
        name = "gateway_request_duration_seconds"
        yield from _head(name, "histogram", "Time from a request's head to its end")
        for service, totals in self._totals.items():
            count = 0
            for bound, more in zip((*map(_number, BUCKETS), "+Inf"), totals.buckets, strict=True):
                count += more
                yield _sample(f"{name}_bucket", {"service": service or OURSELVES, "le": bound}, count)
            yield _sample(f"{name}_sum", {"service": service or OURSELVES}, totals.seconds)
            yield _sample(f"{name}_count", {"service": service or OURSELVES}, count)


def _family(name: str, kind: str, about: str, samples: Iterable[tuple[Mapping[str, object], float]]) -> Iterator[str]:
    yield from _head(name, kind, about)
    for labels, value in samples:
        yield _sample(name, labels, value)


def _head(name: str, kind: str, about: str) -> Iterator[str]:
    yield f"# HELP {name} {about}."
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: Mapping[str, object], value: float) -> str:
    inside = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 6))
