"""What is watched during a soak: memory and descriptors of the gateway, its log line by line, its counters.

What never lives here: a process that is started, a client.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.procfs import PROC, parse_status
from gateway.metrics import OURSELVES

End = tuple[str, str, str]
"""Service, status and cause."""
KEPT = 5
"""Lines of the log that are kept to be shown, of each kind."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The gateway at one moment."""

    second: float
    """Since the clients came."""
    rss: int
    pss: int
    anonymous: int
    """Bytes: resident; the same, but what is shared counts in part; of it, what is no file's."""
    descriptors: int
    ended: int
    """Requests in the log so far."""


def take(pid: int, second: float, ended: int, proc: Path = PROC) -> Sample:
    """Look at a process."""
    rollup = (proc / str(pid) / "smaps_rollup").read_text(encoding="ascii")
    rss, pss, anonymous = (parse_status(rollup, name) for name in ("Rss", "Pss", "Anonymous"))
    return Sample(second, rss, pss, anonymous, descriptors(pid, proc), ended)


def descriptors(pid: int, proc: Path = PROC) -> int:
    """How many files the process has open."""
    return len(list((proc / str(pid) / "fd").iterdir()))


def growth(values: Sequence[float]) -> float:
    """By what part the median of the last fifth exceeds that of the first."""
    fifth = max(1, len(values) // 5)
    return median(values[-fifth:]) / median(values[:fifth]) - 1


@dataclass
class Log:
    """What the gateway's log said."""

    ends: Counter[End] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    ours: list[str] = field(default_factory=list)
    """Lines of errors that are the gateway's own."""
    twice: list[str] = field(default_factory=list)
    """Ids that stand in it more than once."""
    torn: list[str] = field(default_factory=list)
    """Lines that are none."""
    unbalanced: list[str] = field(default_factory=list)
    """Lines of exchanges whose phases do not sum up to their duration."""
    events: list[str] = field(default_factory=list)
    """Messages of the last lines that are not an exchange's."""
    steady: Counter[str] = field(default_factory=Counter)
    """Exchanges with the good backend, by protocol and cause."""
    ids: set[str] = field(default_factory=set)
    _unread: bytes = b""

    @property
    def ended(self) -> int:
        """How many exchanges."""
        return self.ends.total()

    def feed(self, data: bytes, good: str) -> None:
        """More of the log has come; ``good`` is the name of the good service."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            try:
                self._take(json.loads(line), line.decode(), good)
            except ValueError:
                keep(self.torn, repr(line))

    def _take(self, facts: dict[str, Any], line: str, good: str) -> None:
        self.levels[facts["level"]] += 1
        if facts["level"] in ("ERROR", "CRITICAL"):
            keep(self.ours, line)
        if "cause" not in facts:
            self.events = [*self.events[-KEPT:], facts["message"]]
            return
        service, name = facts["target_service"], facts["request_id"]
        self.ends[service or OURSELVES, str(facts["status_code"]), facts["cause"]] += 1
        if name in self.ids:
            keep(self.twice, name)
        self.ids.add(name)
        if abs(sum(facts["timings_ms"].values()) - facts["duration_ms"]) > 1:
            keep(self.unbalanced, line)
        if service == good:
            self.steady[f"{facts['protocol']} {facts['cause']}"] += 1


def keep(lines: list[str], line: str) -> None:
    """Keep the first few to be shown, and that there were more."""
    if len(lines) < KEPT:
        lines.append(line)


@dataclass(frozen=True, slots=True)
class Counters:
    """What the gateway itself has counted."""

    ends: Counter[End]
    in_flight: int
    leased: int
    idle: int
    dropped: int
    """Lines of the log."""


NOTHING = Counters(Counter(), 0, 0, 0, 0)
LABELLED = re.compile(r"^(\w+)(?:\{(.*)\})? ([\d.]+)$", re.MULTILINE)


def read_metrics(text: str) -> Counters:
    """Read the page that Prometheus reads."""
    ends: Counter[End] = Counter()
    sums: Counter[str] = Counter()
    for name, inside, value in LABELLED.findall(text):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', inside))
        if name == "gateway_requests_total":
            ends[labels["service"], labels["status"], labels["cause"]] += int(value)
        sums[f"{name} {labels.get('state', '')}".rstrip()] += int(float(value))
    return Counters(
        ends,
        sums["gateway_requests_in_flight"],
        sums["gateway_backend_connections leased"],
        sums["gateway_backend_connections idle"],
        sums["gateway_log_lines_dropped_total"],
    )
