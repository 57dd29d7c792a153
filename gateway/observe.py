"""What is seen of the gateway from outside: the record of one exchange, the counters, the log lines and where they go.

A record is a frozen value; sinks are guests that are handed it when the exchange has ended. Nothing here can hold up a
request: ``LineWriter.write`` appends to a bounded queue and a thread of its own writes, in batches. When the reader of
the log stalls, or the disk behind it is full, lines are dropped and counted, and the count is logged as soon as a line
gets through again.

This is the only door to ``logging``. Clocks are not read here, but for the wall clock once, at the start: a time
stamp is that start plus what the monotonic clock has moved since, so that a test's virtual clock moves it too.
"""

import atexit
import json
import logging
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from email.utils import formatdate
from time import time
from typing import IO, Any, Protocol

from gateway.errors import Cause, Phase


@dataclass(frozen=True, slots=True)
class WallClock:
    """Turns seconds of the monotonic clock into time stamps."""

    wall: float
    monotonic: float

    @classmethod
    def start(cls, now: float) -> "WallClock":
        """Tie the monotonic ``now`` to this moment of the wall clock."""
        return cls(time(), now)

    def at(self, now: float) -> datetime:
        """The moment in UTC."""
        return datetime.fromtimestamp(self.wall + now - self.monotonic, UTC)

    def iso(self, now: float) -> str:
        """The moment as ISO 8601 in UTC, to the millisecond."""
        return self.at(now).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def http_date(self, now: float) -> bytes:
        """The moment as the Date field has it (RFC 9110 section 5.6.7)."""
        return formatdate(self.wall + now - self.monotonic, usegmt=True).encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One exchange from its request's head to its end, as the log tells it. Field order is the order in a line."""

    timestamp: str
    level: str
    message: str
    request_id: str
    method: str
    path: str
    """The request target up to its query: a query may hold what should not be kept."""
    protocol: str
    client_ip: str
    target_service: str | None
    target_url: str | None
    status_code: int
    bytes_in: int
    bytes_out: int
    duration_ms: float
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    cause: Cause
    phase: Phase | None = None
    """Where it failed; absent when it did not."""
    error: str | None = None
    """Why it failed, as one sentence; absent when it did not."""


class Sink(Protocol):
    """Where records and events go. Must not block and must not raise."""

    def exchange(self, record: Record) -> None:
        """One exchange has ended."""

    def event(self, level: str, message: str, /, **facts: Any) -> None:
        """Something happened to the process that is not an exchange."""


class Counters:
    """How many exchanges ended how: a sink that only counts. Keyed by service, status and cause."""

    def __init__(self) -> None:
        self.exchanges: Counter[tuple[str | None, int, Cause]] = Counter()

    def exchange(self, record: Record) -> None:
        """See Sink."""
        self.exchanges[record.target_service, record.status_code, record.cause] += 1

    def event(self, level: str, message: str, /, **facts: Any) -> None:
        """See Sink. Events are not counted."""


class Collector:
    """Keeps what it is given, for tests."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.events: list[dict[str, Any]] = []

    def exchange(self, record: Record) -> None:
        """See Sink."""
        self.records.append(record)

    def event(self, level: str, message: str, /, **facts: Any) -> None:
        """See Sink."""
        self.events.append({"level": level, "message": message, **facts})


_LEVELS = logging.getLevelNamesMapping()
_NAMES = tuple(f.name for f in fields(Record))


def record_to_dict(record: Record) -> dict[str, Any]:
    """The record as it stands in a JSON line: absent what has no value, but for the routing decision."""
    line = {name: getattr(record, name) for name in _NAMES}
    if record.phase is None:
        del line["phase"]
    if record.error is None:
        del line["error"]
    return line


def json_line(facts: Mapping[str, Any]) -> str:
    """One JSON object on one line. A control character in a value is escaped, so that no value can forge a line."""
    return json.dumps(facts, separators=(",", ":"), default=str)


def text_line(facts: Mapping[str, Any]) -> str:
    """The same for people: time, level, message, then ``name=value``."""
    rest = " ".join(
        f"{name}={json.dumps(value, default=str) if not isinstance(value, str | int | float) else _bare(value)}"
        for name, value in facts.items()
        if name not in ("timestamp", "level", "message") and value is not None
    )
    timestamp, level, message = (facts.get(name, "") for name in ("timestamp", "level", "message"))
    return f"{timestamp} {level:<7} {_bare(message)} {rest}".rstrip()


def _bare(value: object) -> str:
    # Log readers take a line for a record: what would end the line, or move the cursor, is escaped.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


class LineWriter:
    """Writes lines to a stream from a thread of its own.

    ``write`` never blocks. At most ``limit`` lines wait; more are dropped and counted in ``dropped``. The thread looks
    every ``interval`` seconds of real time rather than being woken per line: waking it costs a system call and a turn
    of the interpreter's lock for every request, a look costs ten of them a second.
    """

    def __init__(self, stream: IO[str], *, limit: int = 10_000, interval: float = 0.1) -> None:
        self._stream = stream
        self._limit = limit
        self._interval = interval
        self._lines: deque[str] = deque()
        self._stopping = threading.Event()
        self._unreported = 0
        self.dropped = 0
        # A daemon, so that a reader that never comes back cannot keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue one line (without its line end)."""
        if len(self._lines) >= self._limit:
            self.dropped += 1
            self._unreported += 1
        else:
            self._lines.append(line)

    def close(self, patience: float = 1.0) -> None:
        """Write what is queued, for up to ``patience`` seconds of real time, and stop."""
        self._stopping.set()
        self._thread.join(patience)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        batch = [self._lines.popleft() for _ in range(len(self._lines))]
        if not batch and not self._unreported:
            return
        unreported, self._unreported = self._unreported, 0
        if unreported:
            batch.append(json_line({"level": "WARNING", "message": "log lines dropped", "dropped": unreported}))
        try:
            self._stream.write("".join(line + "\n" for line in batch))
            self._stream.flush()
        except (OSError, ValueError):
            # A full disk, a closed pipe or a closed stream. There is nobody to tell but the counter.
            lost = len(batch) - bool(unreported)
            self.dropped += lost
            self._unreported += lost + unreported


class LogSink:
    """Records and events as lines of ``log_format`` ("json" or "text") at ``level`` and above."""

    def __init__(
        self, write: Callable[[str], None], *, log_format: str, level: str, timestamp: Callable[[], str]
    ) -> None:
        self._write = write
        self._form = text_line if log_format == "text" else json_line
        self._threshold = _LEVELS[level]
        self._timestamp = timestamp

    def exchange(self, record: Record) -> None:
        """See Sink."""
        if self.wants(record.level):
            self._write(self._form(record_to_dict(record)))

    def event(self, level: str, message: str, /, **facts: Any) -> None:
        """See Sink."""
        if self.wants(level):
            self._write(self._form({"timestamp": self._timestamp(), "level": level, "message": message, **facts}))

    def wants(self, level: str) -> bool:
        """Whether lines of this level are written at all."""
        return _LEVELS.get(level, logging.INFO) >= self._threshold


class LoggingBridge(logging.Handler):
    """Takes what libraries say through ``logging`` and hands it to a sink, so that there is one log with one form."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        facts: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            facts["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        self._sink.event(record.levelname, record.getMessage(), **facts)


def open_log(
    *, log_format: str, level: str, timestamp: Callable[[], str], stream: IO[str] | None = None
) -> tuple[LogSink, LineWriter]:
    """The process's log on ``stream`` (standard output), with the libraries' own logging led into it."""
    writer = LineWriter(sys.stdout if stream is None else stream)
    atexit.register(writer.close)
    sink = LogSink(writer.write, log_format=log_format, level=level, timestamp=timestamp)
    logging.basicConfig(handlers=[LoggingBridge(sink)], level=level, force=True)
    return sink, writer
