"""Isolation that shows without a clock: too few descriptors, a log that nobody reads, a full disk behind it.

Each case is played against a process of its own, and told in figures; a test plays the same with smaller numbers. What
never lives here: what is compared with a run without it; see ``isolation``.
"""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.backend import BODY
from benchmarks.isolation import GOOD, LONG, PATIENCE, Gateway, backends, gateway, get, until
from benchmarks.report import table
from benchmarks.soak_watch import descriptors

CONNECTIONS, DESCRIPTORS = 300, 128
REQUESTS = 15_000
"""More than the log has room for while nobody reads it."""
FULL = Path("/dev/full")
BATCH, PER_CONNECTION = 50, 500
OKS = b"HTTP/1.1 200 "


@dataclass(frozen=True, kw_only=True)
class Crowded:
    """300 requests that hang, against 128 descriptors."""

    at_most: int
    """Descriptors that were open."""
    refused: int
    """Clients that were told at once that there is no more room: 503."""
    waiting: int
    """Clients that had no answer."""
    again: float
    """Seconds from their leaving to a good answer for another client."""
    before: int
    after: int
    """Descriptors."""
    errors: int
    """Lines of the log that are errors of the gateway itself."""

    def failures(self) -> Iterator[str]:
        """What is not as it must be."""
        if self.at_most <= DESCRIPTORS / 2:
            yield f"no more than {self.at_most} descriptors were in use: that was no crowd"
        if self.after > self.before:
            yield f"{self.after} descriptors are left, there were {self.before}"
        if self.errors:
            yield f"{self.errors} errors of the gateway"


@dataclass(frozen=True, kw_only=True)
class Logged:
    """Requests while the log cannot be written."""

    where: str
    requests: int
    answered: int
    seconds: float
    slowest: float
    """Seconds for a batch of requests."""
    dropped: int
    """Lines, as the gateway counted them in the end."""
    read: int
    """Lines of requests that were read at last."""
    told: int
    """Dropped lines, as the log itself tells of them."""

    def failures(self) -> Iterator[str]:
        """What is not as it must be."""
        if self.answered != self.requests:
            yield f"{self.where}: {self.requests - self.answered} requests were not answered"
        if self.read + self.dropped < self.requests:
            yield f"{self.where}: {self.requests - self.read - self.dropped} lines are neither read nor counted"


def crowded(scratch: Path, say: Callable[[str], None], *, count: int = CONNECTIONS) -> Crowded:
    """Let so many clients ask for what hangs, and go. Raises DidNotStartError, OSError."""
    with ExitStack() as stack:
        services = backends(stack, scratch, say)
        reading, writing = os.pipe()
        log = Reader(reading)
        limited = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh")
        try:
            # With hundreds of connections to come, its patience must not be what frees descriptors.
            subject = stack.enter_context(gateway(services, scratch, under=limited, stdout=writing, settings=LONG))
        finally:
            os.close(writing)
        log.start()
        until(lambda: log.has("the gateway is running"))
        before = descriptors(subject.pid)
        with ExitStack() as crowd:
            clients = [
                crowd.enter_context(socket.create_connection(("127.0.0.1", subject.port), PATIENCE))
                for _ in range(count)
            ]
            for client in clients:
                client.sendall(b"GET /api/faults/silent HTTP/1.1\r\nHost: a\r\n\r\n")
            at_most = settled(lambda: descriptors(subject.pid))
            answers = [first_bytes(client) for client in clients]
        start = time.monotonic()
        answered = until(lambda: get(subject.port, GOOD)[0] == 200)
        again = time.monotonic() - start if answered else float("inf")
        until(lambda: descriptors(subject.pid) <= before + 1)  # and the connection to the good backend
        after = descriptors(subject.pid) - 1
    log.join()
    return Crowded(
        at_most=at_most,
        refused=sum(answer.startswith(b"HTTP/1.1 503") for answer in answers),
        waiting=answers.count(b""),
        again=again,
        before=before,
        after=after,
        errors=sum(line["level"] in ("ERROR", "CRITICAL") for line in log.lines),
    )


def settled(figure: Callable[[], int], seconds: float = 0.5) -> int:
    """The figure, once it has not changed for so long."""
    last, since = figure(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.02)
        if (now := figure()) != last:
            last, since = now, time.monotonic()
    return last


def first_bytes(client: socket.socket) -> bytes:
    """What has come; empty where nothing has."""
    client.setblocking(False)
    with suppress(BlockingIOError):
        return client.recv(4096)
    return b""


class Reader(threading.Thread):
    """Reads a log to its end, once it is started."""

    def __init__(self, reading: int) -> None:
        super().__init__(name="reader of the log", daemon=True)
        self.lines: list[dict[str, Any]] = []
        self._reading = reading

    def run(self) -> None:
        """See Thread."""
        with os.fdopen(self._reading, encoding="utf-8") as stream:
            self.lines.extend(map(json.loads, stream))

    def has(self, message: str) -> bool:
        """Whether it was said."""
        return any(line["message"] == message for line in list(self.lines))

    def good(self) -> int:
        """How many lines tell of a request to the good service."""
        return sum(line.get("target_service") == "good" for line in list(self.lines))


def stalled_reader(scratch: Path, say: Callable[[str], None], *, requests: int = REQUESTS) -> Logged:
    """Read nothing of the log until all requests are over; then all of it. Raises DidNotStartError, OSError."""
    with ExitStack() as stack:
        services = backends(stack, scratch, say)
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        log = Reader(reading)
        try:
            subject = stack.enter_context(gateway(services, scratch, stdout=writing))
        finally:
            os.close(writing)
        answered, seconds, slowest = ask(subject, requests)
        log.start()
        # What waits is written now; the last of it tells how many were dropped.
        until(lambda: log.good() + subject.counters().dropped >= requests)
        dropped = subject.counters().dropped
    log.join()
    return Logged(
        where="nobody reads it",
        requests=requests,
        answered=answered,
        seconds=seconds,
        slowest=slowest,
        dropped=dropped,
        read=log.good(),
        told=sum(line.get("dropped", 0) for line in log.lines),
    )


def full_disk(scratch: Path, say: Callable[[str], None], *, requests: int = REQUESTS) -> Logged:
    """Write the log where there is no room. Raises DidNotStartError, OSError."""
    with ExitStack() as stack:
        services = backends(stack, scratch, say)
        with FULL.open("wb") as full:
            subject = stack.enter_context(gateway(services, scratch, stdout=full.fileno()))
        answered, seconds, slowest = ask(subject, requests)
        until(lambda: subject.counters().dropped >= requests)
        dropped = subject.counters().dropped
    return Logged(
        where="the disk is full",
        requests=requests,
        answered=answered,
        seconds=seconds,
        slowest=slowest,
        dropped=dropped,
        read=0,
        told=0,
    )


def ask(subject: Gateway, requests: int) -> tuple[int, float, float]:
    """Ask the good service so often, in batches; how many were answered, and seconds: of all, of the slowest batch."""
    answered, slowest, start = 0, 0.0, time.monotonic()
    request = f"GET {GOOD} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    while answered < requests:
        with socket.create_connection(("127.0.0.1", subject.port), PATIENCE) as client:
            for _ in range(PER_CONNECTION // BATCH):
                if not (batch := min(BATCH, requests - answered)):
                    break
                began = time.monotonic()
                client.sendall(request * batch)
                try:
                    answered += answers(client, batch)
                except OSError:
                    return answered, time.monotonic() - start, time.monotonic() - began
                slowest = max(slowest, time.monotonic() - began)
    return answered, time.monotonic() - start, slowest


def answers(client: socket.socket, count: int) -> int:
    """Read so many good answers. Raises ConnectionError where they do not come, TimeoutError where they take long."""
    received = b""
    while received.count(OKS) < count or not received.endswith(BODY):
        data = client.recv(65_536)
        if not data:
            raise ConnectionError(f"{received.count(OKS)} of {count} answers came")
        received += data
    return received.count(OKS)


def failures(crowd: Crowded, logs: list[Logged]) -> list[str]:
    """What is not as it must be, in any of them."""
    return [*crowd.failures(), *(failure for log in logs for failure in log.failures())]


def told(crowd: Crowded, logs: list[Logged]) -> str:
    """As Markdown."""
    found = failures(crowd, logs)
    verdict = "Failed:\n\n" + "\n".join(f"- {each}" for each in found) if found else "All of it held."
    crowd_rows = [
        ["", "figure"],
        ["requests that hang, descriptors", f"{CONNECTIONS}, {DESCRIPTORS}"],
        ["descriptors in use meanwhile", f"{crowd.at_most}"],
        ["clients told 503 at once, clients left waiting", f"{crowd.refused}, {crowd.waiting}"],
        ["ms from their leaving to a good answer for another", f"{crowd.again * 1e3:.1f}"],
        ["descriptors before, after", f"{crowd.before}, {crowd.after}"],
        ["errors in the log", f"{crowd.errors}"],
    ]
    log_rows = [["the log", "requests", "answered", "a second", "slowest 50, ms", "lines dropped", "lines read"]]
    log_rows += [
        [
            log.where,
            f"{log.requests:,}",
            f"{log.answered:,}",
            f"{log.answered / log.seconds:,.0f}",
            f"{log.slowest * 1e3:.0f}",
            f"{log.dropped:,}",
            f"{log.read:,}",
        ]
        for log in logs
    ]
    return "\n\n".join([table(crowd_rows), table(log_rows), verdict]) + "\n"
