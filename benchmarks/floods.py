"""Floods, measured: what clients who mean harm cost the server, and what a good client notices of it meanwhile.

python -m benchmarks.floods PORT    serve what is flooded, configured as ``gateway serve`` does

Each flood meets a fresh server, on a core of its own, and goes on for two seconds as fast as the server takes it; a
connection that the server ends is replaced at once. What never lives here: what a test can show without a clock.
"""

import os
import platform
import selectors
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import trio

from benchmarks import ok
from benchmarks.flood_kinds import FLOODS, LARGE, Flood, ending
from benchmarks.processes import LOAD_CORE, SUBJECT_CORE, Command, free_port, running
from benchmarks.procfs import cpu_seconds, resident
from benchmarks.report import cpu_model, table
from benchmarks.subjects import environment
from gateway import server
from gateway.config import Service, Settings
from gateway.serving import server_config, server_limits

SECONDS = 2.0
PATIENCE = 1.0
"""Seconds in which a good client is to be answered."""
TAIL = 1024
"""Bytes that are kept of what the server said last."""
CHUNK = bytes(65_536)
CHUNKS = 16_384
"""1 GB."""
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


# ---- the server


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer "ok", or at LARGE what nobody can keep."""
    if scope["type"] != "http" or scope["path"] != LARGE:
        await ok.app(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": number < CHUNKS - 1})


def main() -> None:
    """Serve until killed."""
    settings = Settings(
        host="127.0.0.1", port=int(sys.argv[1]), services=(Service(name="none", host="localhost", port=1),)
    )

    async def serve() -> None:
        await server.serve(app, server_config(settings), limits=server_limits(settings))

    trio.run(serve)


# ---- its clients


class Attacker:
    """Floods a port from one thread, over as many connections as the flood has."""

    def __init__(self, flood: Flood, port: int) -> None:
        self._flood = flood
        self._address = ("127.0.0.1", port)
        self._selector = selectors.DefaultSelector()
        self.sent = 0
        """Bytes."""
        self.opened = 0
        self.ends: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Flood for this long. What is open then counts as ``open``."""
        end = time.monotonic() + seconds
        for _ in range(self._flood.connections if self._flood.begin else 0):
            self._open()
        while (now := time.monotonic()) < end:
            for key, events in self._selector.select(0.02):
                self._serve(key.data, events, now)
            if self._flood.pause:
                self._send_again(now)
        for key in list(self._selector.get_map().values()):
            self.ends["open"] += 1
            key.data.socket.close()
        self._selector.close()

    def _open(self) -> None:
        sock = socket.create_connection(self._address)
        sock.setblocking(False)
        self.opened += 1
        self._selector.register(sock, self._wanted, _Link(sock, memoryview(self._flood.begin), time.monotonic()))

    @property
    def _wanted(self) -> int:
        return selectors.EVENT_WRITE | (selectors.EVENT_READ if self._flood.reads else 0)

    def _serve(self, link: "_Link", events: int, now: float) -> None:
        try:
            if events & selectors.EVENT_READ:
                data = link.socket.recv(65_536)
                link.tail = (link.tail + data)[-TAIL:]
                if not data:
                    raise ConnectionResetError
            if events & selectors.EVENT_WRITE:
                self._write(link, now)
        except BlockingIOError:
            return
        except ConnectionError:
            self._ended(link)

    def _write(self, link: "_Link", now: float) -> None:
        if link.left:
            count = link.socket.send(link.left)
            link.left = link.left[count:]
            self.sent += count
        elif self._flood.again and not self._flood.pause:
            link.left = memoryview(self._flood.again)
        else:
            link.next = now + self._flood.pause
            self._selector.modify(link.socket, selectors.EVENT_READ, link)  # it has said all

    def _send_again(self, now: float) -> None:
        for key in list(self._selector.get_map().values()):
            link: _Link = key.data
            if now >= link.next and not link.left:
                link.left, link.next = memoryview(self._flood.again), now + self._flood.pause
                self._selector.modify(link.socket, self._wanted, link)

    def _ended(self, link: "_Link") -> None:
        try:
            while data := link.socket.recv(65_536):
                link.tail = (link.tail + data)[-TAIL:]
        except OSError:
            pass
        self._selector.unregister(link.socket)
        link.socket.close()
        self.ends[ending(link.tail)] += 1
        self._open()


@dataclass(slots=True)
class _Link:
    """One connection of an attacker."""

    socket: socket.socket
    left: memoryview
    next: float
    tail: bytes = b""


@dataclass(slots=True)
class Good:
    """A client that asks every few milliseconds, each time over a new connection as a newcomer does."""

    latencies: list[float] = field(default_factory=list)
    """Seconds."""
    unanswered: int = 0

    def ask(self, port: int) -> None:
        """One request."""
        begin = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
                sock.settimeout(PATIENCE)
                sock.sendall(GET)
                answered = sock.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            answered = False
        took = time.monotonic() - begin
        if answered and took <= PATIENCE:
            self.latencies.append(took)
        else:
            self.unanswered += 1


# ---- the measurement


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one flood."""

    flood: Flood
    cpu: float
    """Seconds of the server's."""
    grown: int
    """Bytes of the server's memory, at most."""
    sent: int
    opened: int
    ends: Counter[str]
    good: Good


def measure(flood: Flood, scratch: Path) -> Outcome:
    """Start a server, flood it, ask it for something sensible all the time."""
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.floods", str(port)]
    started = Command("server", words, f"http://127.0.0.1:{port}/", SUBJECT_CORE, environment())
    with running(started, scratch) as session:
        warm_up = Good()
        for _ in range(200):
            warm_up.ask(port)
        before, cpu = resident([session]), cpu_seconds([session])
        attacker, good, most = Attacker(flood, port), Good(), before
        thread = threading.Thread(target=attacker.run, args=(SECONDS,))
        thread.start()
        while thread.is_alive():
            good.ask(port)
            most = max(most, resident([session]))
            time.sleep(0.01)
        thread.join()
        spent = cpu_seconds([session]) - cpu
    return Outcome(flood, spent, most - before, attacker.sent, attacker.opened, attacker.ends, good)


def row(outcome: Outcome) -> list[str]:
    """As cells."""
    good, ends = outcome.good, outcome.ends
    latencies = good.latencies or [PATIENCE]
    return [
        outcome.flood.title,
        f"{outcome.sent / 1e6:.1f}",
        str(outcome.opened),
        ", ".join(f"{end} ({count})" if len(ends) > 1 else end for end, count in ends.most_common()),
        f"{outcome.cpu:.2f}",
        f"{outcome.grown / 1e6:.1f}",
        f"all {len(good.latencies)}"
        if not good.unanswered
        else f"{len(good.latencies)} of {len(good.latencies) + good.unanswered}",
        f"{median(latencies) * 1e3:.1f}",
        f"{max(latencies) * 1e3:.0f}",
    ]


HEAD = ["", "MB sent", "connections", "ended by", "CPU s", "memory, MB", "answered in 1 s", "p50 ms", "max ms"]


def run(scratch: Path, say: Callable[[str], None]) -> str:
    """All floods, one after the other, as a table with where it was measured."""
    rows = [HEAD]
    with ExitStack() as stack:
        cores = os.sched_getaffinity(0)
        stack.callback(os.sched_setaffinity, 0, cores)
        if len(cores) > 1:
            os.sched_setaffinity(0, {sorted(cores)[LOAD_CORE]})  # the other one is the server's
        for flood in FLOODS:
            say(f"flood: {flood.title}")
            rows.append(row(measure(flood, scratch)))
    where = f"{os.cpu_count()} cores ({cpu_model()}), Python {platform.python_version()}, {SECONDS:.0f} s each."
    return f"{where}\n\n{table(rows)}\n"


if __name__ == "__main__":
    main()
