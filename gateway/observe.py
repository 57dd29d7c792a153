"""What is seen of the gateway from outside: the record of one exchange, the log lines and where they go.

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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from select import PIPE_BUF
from time import time
from typing import IO, Any, NamedTuple, Protocol

from gateway.errors import Cause, Phase


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@dataclass(frozen=True, slots=True)
class WallClock:
    """Turns seconds of the monotonic clock into time stamps."""

    wall: float
    monotonic: float

    @classmethod
    def start(cls, now: float) -> "WallClock":
        """Tie the monotonic ``now`` to this moment of the wall clock."""
        return cls(time(), now)

    def iso(self, now: float) -> str:
        """The moment as ISO 8601 in UTC, to the millisecond."""
        milliseconds = round((self.wall + now - self.monotonic) * 1000)
        return f"{_to_the_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"

    def http_date(self, now: float) -> bytes:
        """The moment as the Date field has it (RFC 9110 section 5.6.7)."""
        return formatdate(self.wall + now - self.monotonic, usegmt=True).encode("ascii")


class Record(NamedTuple):
    """One exchange from its request's head to its end, as the log tells it. Field order is the order in a line.

    A tuple, because one is made for every request: a frozen dataclass of this size takes ten times as long.
    """

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
    timings_ms: Mapping[str, float]
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
_quoted = json.encoder.encode_basestring_ascii
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


LONGEST = 450
"""Characters of a value that a client may choose. A path of 64 KiB would stand in its line three times; and several
processes may share a pipe only as long as no line is longer than PIPE_BUF, with every quotation mark escaped."""


def record_line(record: Record) -> str:
    """What ``json_line(record_to_dict(record))`` gives, in a third of its time: there is one for every request."""
    service, url = record.target_service, record.target_url
    if max(len(record.message), len(record.method), len(record.path), 0 if url is None else len(url)) > LONGEST:
        return json_line(record_to_dict(record))
    timings = ",".join([f'"{phase}":{spent!r}' for phase, spent in record.timings_ms.items()])
    where = "" if record.phase is None else f',"phase":"{record.phase}"'
    why = "" if record.error is None else f',"error":{_quoted(record.error)}'
    return (
        f'{{"timestamp":"{record.timestamp}","level":"{record.level}","message":{_quoted(record.message)},'
        f'"request_id":{_quoted(record.request_id)},"method":{_quoted(record.method)},"path":{_quoted(record.path)},'
        f'"protocol":{_quoted(record.protocol)},"client_ip":{_quoted(record.client_ip)},'
        f'"target_service":{"null" if service is None else _quoted(service)},'
        f'"target_url":{"null" if url is None else _quoted(url)},'
        f'"status_code":{record.status_code},"bytes_in":{record.bytes_in},"bytes_out":{record.bytes_out},'
        f'"duration_ms":{record.duration_ms!r},"timings_ms":{{{timings}}},"cause":"{record.cause}"{where}{why}}}'
    )


def record_to_dict(record: Record) -> dict[str, Any]:
    """The record as it stands in a JSON line: absent what has no value, but for the routing decision.

    What the client chose is cut to LONGEST characters.
    """
    line = record._asdict()
    for name in ("message", "method", "path", "target_url"):
        value = line[name]
        if value is not None and len(value) > LONGEST:
            line[name] = f"{value[:LONGEST]}..."
    if record.phase is None:
        del line["phase"]
    if record.error is None:
        del line["error"]
    return line


def json_line(facts: Mapping[str, Any]) -> str:
    """One JSON object on one line. A control character in a value is escaped, so that no value can forge a line."""
    return _encode(facts)


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
        written = 0
        try:
            for piece in _whole_lines(batch):
                self._stream.write(piece)
                self._stream.flush()
                written += piece.count("\n")
        except (OSError, ValueError):
            # A full disk, a closed pipe or a closed stream. There is nobody to tell but the counter.
            lost = len(batch) - written - bool(unreported)
            self.dropped += lost
            self._unreported += lost + unreported


def _whole_lines(lines: Iterable[str]) -> Iterator[str]:
    """Pieces of whole lines that a pipe takes in one go.

    Several workers share one standard output: a write of more than PIPE_BUF bytes to a pipe may be torn apart by that
    of another process (pipe(7)).
    """
    piece, size = "", 0
    for line in lines:
        more = len(line.encode("utf-8", "replace")) + 1
        if piece and size + more > PIPE_BUF:
            yield piece
            piece, size = "", 0
        piece += line + "\n"
        size += more
    yield piece


class LogSink:
    """Records and events as lines of ``log_format`` ("json" or "text") at ``level`` and above.

    ``always`` stands in the lines of events: which of several processes speaks. An exchange has its own id.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        log_format: str,
        level: str,
        timestamp: Callable[[], str],
        always: Mapping[str, Any] | None = None,
    ) -> None:
        self._write = write
        self._always = always or {}
        as_text = log_format == "text"
        self._form = text_line if as_text else json_line
        self._form_of_record = (lambda record: text_line(record_to_dict(record))) if as_text else record_line
        self._threshold = _LEVELS[level]
        self._timestamp = timestamp

    def exchange(self, record: Record) -> None:
        """See Sink."""
        if self.wants(record.level):
            self._write(self._form_of_record(record))

    def event(self, level: str, message: str, /, **facts: Any) -> None:
        """See Sink."""
        if self.wants(level):
            head = {"timestamp": self._timestamp(), "level": level, "message": message}
            self._write(self._form({**head, **facts, **self._always}))

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
    *,
    log_format: str,
    level: str,
    timestamp: Callable[[], str],
    always: Mapping[str, Any] | None = None,
    stream: IO[str] | None = None,
) -> tuple[LogSink, LineWriter]:
    """The process's log on ``stream`` (standard output), with the libraries' own logging led into it."""
    writer = LineWriter(sys.stdout if stream is None else stream)
    atexit.register(writer.close)
    sink = LogSink(writer.write, log_format=log_format, level=level, timestamp=timestamp, always=always)
    logging.basicConfig(handlers=[LoggingBridge(sink)], level=level, force=True)
    return sink, writer
