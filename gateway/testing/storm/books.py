"""The books of a storm: every request as its client saw it, beside its record in the log, and whether it adds up.

Entries are compared as soon as both sides are there, and then forgotten, so that a storm of any length fits into
memory. What lives here: what must hold. What never will: clients, backends, chance.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.config import Service, Settings
from gateway.errors import Cause
from gateway.observe import Record
from gateway.testing.storm.moods import Mood
from gateway.testing.storm.plan import Event

BY_CONDUCT: Mapping[str, frozenset[Cause]] = {
    "stalls": frozenset({Cause.CLIENT_TOO_SLOW}),
    "half-closes": frozenset({Cause.CLIENT_GONE, Cause.CLIENT_TOO_SLOW}),
    "never reads": frozenset({Cause.CLIENT_TOO_SLOW, Cause.CLIENT_GONE}),
    "too large": frozenset({Cause.BODY_TOO_LARGE}),
    "own": frozenset({Cause.OK}),
    "nowhere": frozenset({Cause.NO_ROUTE}),
}
"""How else a request may end by the way its client behaves."""

UPLOADS = frozenset({"upload", "streams", "big", "stalls", "half-closes", "too large"})
WITHOUT_SERVICE = frozenset({"own", "nowhere"})

STATUSES: Mapping[Cause, frozenset[int]] = {
    Cause.CLIENT_GONE: frozenset({499}),
    Cause.BACKEND_TIMEOUT: frozenset({504}),
    Cause.CONNECT_FAILED: frozenset({503}),
    Cause.BACKEND_BROKE_OFF: frozenset({502}),
    Cause.BAD_RESPONSE: frozenset({502}),
    Cause.BODY_TOO_LARGE: frozenset({413}),
    Cause.CLIENT_TOO_SLOW: frozenset({408}),
    Cause.NO_ROUTE: frozenset({404}),
    Cause.BAD_REQUEST: frozenset({400}),
    Cause.DRAINED: frozenset({503}),
}
"""What goes with a cause in the log, where no answer had begun; where one had, it is that answer's."""

MILLISECOND = 0.001
MOST_TOLD = 20
"""Violations that are kept in words; all are counted."""


@dataclass(slots=True, eq=False)
class Entry:
    """One request as its client saw it."""

    event: Event
    began: float
    """``trio.current_time()`` when it was sent."""
    status: int | None = None
    whole: bool = False
    """Whether an answer came, and ended as it should."""
    wrong: str | None = None
    """What the client saw that it must not see."""
    left: bool = False
    """Whether the client gave up first, or was torn away."""
    unread: bool = False
    """Whether the gateway may never have read its head: it went over a connection that was ending."""
    weather: bool = False
    """Whether there was weather over its service meanwhile."""
    over: bool = False
    ended_after_drain: bool = False


@dataclass
class Books:
    """See the module's docstring. ``tolerance`` is the seconds by which an end may be late."""

    moods: Mapping[str, Mood]
    settings: Settings
    tolerance: float
    ends: Counter[str] = field(default_factory=Counter)
    """Requests by cause."""
    sums: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    """Records by service, status and cause."""
    violations: Counter[str] = field(default_factory=Counter)
    """By kind."""
    told: list[str] = field(default_factory=list)
    """The first of them, in words."""
    draining: bool = False
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    """Of all requests together."""
    unseen: int = 0
    """Requests that the gateway never read."""

    def __post_init__(self) -> None:
        self._open: dict[str, Entry] = {}
        self._records: dict[str, Record] = {}
        self._done: set[str] = set()
        self._services: Mapping[str, Service] = {service.name: service for service in self.settings.services}

    def wrong(self, kind: str, what: str) -> None:
        """Note that something does not hold."""
        self.violations[kind] += 1
        if len(self.told) < MOST_TOLD:
            self.told.append(f"{kind}: {what}")

    def begin(self, entry: Entry) -> None:
        """A client is about to send a request."""
        self._open[name_of(entry.event)] = entry

    def end(self, entry: Entry) -> None:
        """A client has seen the end of it."""
        entry.over = True
        entry.ended_after_drain = self.draining
        if entry.wrong is not None:
            self.wrong("answer", f"{entry.event}: {entry.wrong}")
        record = self._records.pop(name_of(entry.event), None)
        if record is not None:
            self._compare(entry, record)

    def take(self, records: Iterable[Record]) -> None:
        """Enter what the gateway has logged."""
        for record in records:
            self.ends[record.cause] += 1
            self.sums[record.target_service or "gateway", record.status_code, record.cause] += 1
            self.bytes_in += record.bytes_in
            self.bytes_out += record.bytes_out
            self.seconds += record.duration_ms / 1000
            if abs(sum(record.timings_ms.values()) - record.duration_ms) > 1:
                self.wrong("phases", f"they sum up to something else than the duration: {record}")
            name = record.request_id
            if name in self._done or name in self._records:
                self.wrong("ends", f"a second record of one request: {record}")
                continue
            entry = self._open.get(name)
            if entry is None:
                self.wrong("ends", f"a record of a request that nobody sent: {record}")
            elif entry.over:
                self._compare(entry, record)
            else:
                self._records[name] = record

    def close(self) -> None:
        """The storm is over: what is still open has no record."""
        for name, entry in self._open.items():
            if not entry.over:
                self.wrong("ends", f"a client that still waits: {entry}")
            elif entry.whole or entry.status is not None:
                self.wrong("ends", f"an answer without a record: {entry}")
            elif not (entry.left or entry.unread or entry.ended_after_drain):
                self.wrong("ends", f"a request without answer and record, {name}: {entry}")
            else:
                self.unseen += 1
        self._open.clear()

    def balance(self, metrics: str) -> None:
        """Compare with the counters of the gateway, as Prometheus reads them."""
        found: Counter[tuple[str, int, str]] = Counter()
        pattern = r'^gateway_requests_total\{service="(.*?)",status="(\d+)",cause="(.*?)"\} (\d+)$'
        for service, status, cause, count in re.findall(pattern, metrics, re.MULTILINE):
            found[service, int(status), cause] += int(count)
        if found != self.sums:
            self.wrong("sums", f"the counters have {found - self.sums} more and {self.sums - found} less than the log")
        for name, sum_of_log in (("request", self.bytes_in), ("response", self.bytes_out)):
            totals = re.findall(rf"^gateway_{name}_body_bytes_total\{{.*?\}} (\d+)$", metrics, re.MULTILINE)
            if sum(map(int, totals)) != sum_of_log:
                self.wrong("sums", f"bytes of {name}s: {totals} in the counters, {sum_of_log} in the log")
        count, seconds = (
            sum(
                map(
                    float,
                    re.findall(rf"^gateway_request_duration_seconds_{each}\{{.*\}} (\S+)$", metrics, re.MULTILINE),
                )
            )
            for each in ("count", "sum")
        )
        if count != self.sums.total() or abs(seconds - self.seconds) > MILLISECOND:
            ours = f"{self.sums.total()} of {self.seconds:.3f} s"
            self.wrong("sums", f"durations: {count:g} of {seconds:.3f} s in the counters, {ours} in the log")
        if busy := re.findall(r"^gateway_requests_in_flight\{.*\} [1-9]\d*$", metrics, re.MULTILINE):
            self.wrong("sums", f"still in flight: {busy}")

    def _compare(self, entry: Entry, record: Record) -> None:
        name = name_of(entry.event)
        del self._open[name]
        self._done.add(name)
        for kind, what in self._differences(entry, record):
            self.wrong(kind, f"{what}: {entry}, {record}")

    def _differences(self, entry: Entry, record: Record) -> Iterable[tuple[str, str]]:
        if entry.status is not None and record.status_code not in (entry.status, 499):
            yield "answer", "the client saw another status than the log"
        elif entry.status is None and entry.whole:
            yield "answer", "whole, and no status"
        ok = record.cause is Cause.OK
        if not entry.left and entry.whole and (entry.status == 200) != (ok and record.status_code == 200):
            yield "answer", "a whole answer and the log disagree"
        if not entry.left and ok and not entry.whole:
            yield "answer", "the log says ok and the client's answer broke off"
        if not (ok or entry.left or entry.status) and record.status_code not in STATUSES.get(record.cause, {500}):
            yield "cause", "no status for this cause"
        if record.cause not in self._may_end(entry):
            yield "cause", "no way for this request to end"
        stalled = entry.event.conduct == "stalls" and record.phase == "send" and not self.tolerance
        if stalled and record.cause is Cause.BACKEND_TIMEOUT:
            yield "cause", "the backend is blamed for a client that stalls"
        yield from self._too_late(entry, record)

    def _may_end(self, entry: Entry) -> set[Cause]:
        event = entry.event
        causes = set(BY_CONDUCT.get(event.conduct, ()))
        if event.conduct in WITHOUT_SERVICE:
            causes |= {Cause.CLIENT_GONE} if entry.left else set()
            return causes | ({Cause.DRAINED} if self.draining else set())
        causes |= self.moods[event.mood].causes
        service = self._services[event.service]
        if entry.left:
            causes.add(Cause.CLIENT_GONE)
        if self.draining:
            causes.add(Cause.DRAINED)
        if entry.weather:
            causes |= {Cause.CONNECT_FAILED, Cause.BACKEND_TIMEOUT, Cause.BACKEND_BROKE_OFF}
        if service.max_connections or service.deadline is not None:
            causes |= {Cause.CONNECT_FAILED, Cause.BACKEND_TIMEOUT}
        if event.conduct in UPLOADS:
            # An upload is not sent twice, so it fails on a connection that is closed just then; and it may break off
            # against a backend that answers without reading it.
            causes.add(Cause.BACKEND_BROKE_OFF)
        if self.tolerance:
            causes |= {Cause.BACKEND_TIMEOUT, Cause.CLIENT_TOO_SLOW}  # where time is real, anybody may be kept waiting
        if event.conduct == "reads slowly":
            causes.add(Cause.CLIENT_TOO_SLOW)
        return causes

    def _too_late(self, entry: Entry, record: Record) -> Iterable[tuple[str, str]]:
        service = self._services.get(record.target_service or "")
        if service is None:
            return
        slack = self.tolerance * 1000 + 0.01
        duration = record.duration_ms
        if record.status_code != 200 and record.cause is not Cause.OK:
            # The exchange is over, and the client takes its time over the gateway's own answer. That is on its clock.
            duration -= record.timings_ms["body"]
        if service.deadline is not None and duration > service.deadline * 1000 + slack:
            yield "late", "over its deadline"
        before_body = sum(ms for phase, ms in record.timings_ms.items() if phase != "body")
        if entry.event.conduct not in UPLOADS and before_body > service.timeout * 1000 + slack:
            yield "late", "over its timeout"
        if record.timings_ms["connect"] > service.connect_timeout * 1000 + slack:
            yield "late", "over its connect timeout"
        if record.cause is Cause.BACKEND_TIMEOUT and record.phase != "body" and entry.event.conduct not in UPLOADS:
            due = min(service.timeout, service.deadline or service.timeout) * 1000
            connecting = record.timings_ms["connect"] >= service.connect_timeout * 1000 - slack
            if not connecting and duration < due - slack:
                yield "late", "a timeout before its time"


def name_of(event: Event) -> str:
    """The X-Request-ID of a request."""
    return f"e{event.number}"
