"""Isolation, measured: what users of one service notice of another one that hangs.

Real processes and sockets. Requests to a good service are sent at a fixed rate, far below what the gateway can do and
whether or not earlier ones were answered, so that waiting shows. In turn, round after round: with nobody else there,
with HANGING requests to a service whose packets get lost, and with as many to one that takes them and never answers.
What never lives here: what needs no clock to be seen; see ``isolation_cases``.
"""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import loads
from benchmarks.processes import LOAD_CORE, SUBJECT_CORE, Command, free_port, pinned, running
from benchmarks.procfs import members
from benchmarks.report import table
from benchmarks.soak_told import machine
from benchmarks.soak_watch import Counters, read_metrics
from benchmarks.subjects import Stage, environment
from benchmarks.workloads import PATH

HANGING = 500
CLIENTS, RATE = 4, 75
"""Connections of h2load, over HTTP/2, and requests a second on each."""
SECONDS = 5
"""Of one measurement: then a connection has had fewer requests than it may."""
HEALTH_EVERY = 0.05
"""Seconds between two looks at /health."""
PATIENCE = 20.0
LONG = {"GATEWAY_TIMEOUT": "600s", "GATEWAY_CONNECT_TIMEOUT": "600s", "GATEWAY_CLIENT_TIMEOUT": "600s"}
"""What hangs hangs for as long as it is measured."""

MOST_GROWTH, MOST_HEALTH = 0.10, 0.050

GOOD = f"/api/good{PATH}"
ALONE = "nobody"
STATES: Mapping[str, str | None] = {
    ALONE: None,
    "packets get lost": "/api/black-hole/x",
    "never answers": "/api/faults/silent",
}
"""What hangs, and what is asked for to make it hang."""


class TooFewError(Exception):
    """Not all of the requests that were to hang do. ``str(error)`` says how many."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """One that runs."""

    pid: int
    port: int
    admin: int

    def counters(self) -> Counters:
        """What it has counted."""
        return read_metrics(get(self.admin, "/metrics")[1].decode())


@contextmanager
def gateway(
    services: Mapping[str, str],
    scratch: Path,
    *,
    under: Sequence[str] = (),
    stdout: int = subprocess.DEVNULL,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Gateway]:
    """Run a gateway with these services; ``under`` are words to put before its own. Raises DidNotStartError."""
    port, admin = free_port(), free_port()
    env = environment(
        GATEWAY_HOST="127.0.0.1",
        GATEWAY_PORT=str(port),
        GATEWAY_ADMIN_PORT=str(admin),
        GATEWAY_SERVICES=",".join(services),
        **{f"{name.upper().replace('-', '_')}_URL": url for name, url in services.items()},
        **(settings or {}),
    )
    words = [*under, sys.executable, "-m", "gateway", "serve"]
    command = Command("gateway", words, f"http://127.0.0.1:{port}/livez", SUBJECT_CORE, env)
    with running(command, scratch, stdout) as session:
        (pid,) = members([session])
        yield Gateway(pid, port, admin)


def backends(stack: ExitStack, scratch: Path, say: Callable[[str], None], *faults: str) -> dict[str, str]:
    """Start a good backend, ``good``, and the catalogue, ``faults``, with those that need a port of their own."""
    good = Stage(stack, scratch, say).backend()
    ports = {name: free_port() for name in ("all", *faults)}
    words = [sys.executable, "-m", "benchmarks.soak_backend", "0.1", *(f"{name}:{ports[name]}" for name in ports)]
    url = f"http://127.0.0.1:{ports['all']}/health"
    stack.enter_context(running(Command("faults", words, url, LOAD_CORE, environment()), scratch))
    named = {"faults" if name == "all" else name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    return {"good": good.origin, **named}


@contextmanager
def hanging(subject: Gateway, path: str | None, count: int = HANGING) -> Iterator[None]:
    """Hold so many requests that are not answered; none without a path. Raises TooFewError."""
    with ExitStack() as stack:
        for _ in range(count if path else 0):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", subject.port), PATIENCE))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wanted = count if path else 0
        if not until(lambda: subject.counters().in_flight == wanted):
            raise TooFewError(f"{subject.counters().in_flight} of {wanted} requests hang")
        yield
        if (left := subject.counters().in_flight) != wanted:
            raise TooFewError(f"{left} of {wanted} requests hung to the end")
    until(lambda: subject.counters().in_flight == 0)


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Wait until it is so; whether it is, in the end."""
    end = time.monotonic() + patience
    while not (so := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return so


def get(port: int, path: str) -> tuple[int, bytes]:
    """Ask on a connection of its own. Raises OSError, http.client.HTTPException."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as client:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read()


class Health(threading.Thread):
    """Asks for /health now and then, and takes down how long each answer took."""

    def __init__(self, port: int) -> None:
        super().__init__(name="health")
        self.seconds: list[float] = []
        self._port = port
        self._over = threading.Event()

    def run(self) -> None:
        """See Thread. It shares a core with the load, not with the gateway."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > LOAD_CORE:
            os.sched_setaffinity(0, {cores[LOAD_CORE]})
        while not self._over.wait(HEALTH_EVERY):
            start = time.monotonic()
            get(self._port, "/health")
            self.seconds.append(time.monotonic() - start)

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()
        self.join()


@dataclass
class Measured:
    """What was measured in one state, by round. Seconds."""

    latencies: list[list[float]] = field(default_factory=list)
    health: list[float] = field(default_factory=list)

    @property
    def p99s(self) -> list[float]:
        """Of each round."""
        return [loads.percentile(sorted(each), 99) for each in self.latencies]

    @property
    def pooled(self) -> list[float]:
        """Of all rounds, in order."""
        return sorted(second for each in self.latencies for second in each)


Results = dict[str, Measured]


def run(rounds: int, scratch: Path, say: Callable[[str], None], *, seconds: int = SECONDS) -> Results:
    """Measure. Raises DidNotStartError, NoLoadError, TooFewError."""
    results: Results = {state: Measured() for state in STATES}
    with ExitStack() as stack:
        services = backends(stack, scratch, say, "black-hole")
        subject = stack.enter_context(gateway(services, scratch, settings=LONG))
        steady(subject, scratch, 1)
        states = list(STATES)
        for number in range(rounds):
            # Begin with another one in each round, so that none is always behind the same one.
            for state in states[number % len(states) :] + states[: number % len(states)]:
                with hanging(subject, STATES[state]):
                    health = Health(subject.port)
                    health.start()
                    try:
                        latencies = steady(subject, scratch, seconds)
                    finally:
                        health.stop()
                results[state].latencies.append(latencies)
                results[state].health += health.seconds
                say(
                    f"round {number + 1}/{rounds}  {state:<17} p50 {median(latencies) * 1e3:6.2f} ms"
                    f"  p99 {results[state].p99s[-1] * 1e3:7.2f} ms"
                    f"  /health {max(health.seconds) * 1e3:6.1f} ms at most"
                )
    return results


def steady(subject: Gateway, scratch: Path, seconds: int) -> list[float]:
    """Ask for the good service at the fixed rate; seconds that each request took. Raises NoLoadError."""
    log = scratch / "isolation.h2load"
    log.unlink(missing_ok=True)
    command = ["h2load", f"--requests={CLIENTS * RATE * seconds}", f"--clients={CLIENTS}", f"--rps={RATE}"]
    command += ["--max-concurrent-streams=100", f"--log-file={log}", f"http://127.0.0.1:{subject.port}{GOOD}"]
    try:
        done = subprocess.run(  # noqa: S603 -- the command is our own
            pinned(LOAD_CORE, command), check=False, capture_output=True, text=True, timeout=PATIENCE + seconds
        )
    except FileNotFoundError as error:
        raise loads.NoLoadError("h2load is not installed") from error
    written = log.read_text(encoding="ascii") if log.exists() else ""
    if (failed := loads.parse_h2load(done.stdout + done.stderr, written).errors) > 0:
        raise loads.NoLoadError(f"{failed} requests to the good service failed")
    return [int(line.split("\t")[2]) / 1e6 for line in written.splitlines()]


# ---- what came of it


def growths(results: Results, state: str) -> list[float]:
    """By what part the p99 was longer than with nobody there, round by round."""
    return [there / alone - 1 for there, alone in zip(results[state].p99s, results[ALONE].p99s, strict=True)]


def failures(results: Results) -> Iterator[str]:
    """What is not as it must be, as sentences. What is so with nobody there is the machine's own noise."""
    for state in (each for each in results if each != ALONE):
        measured = results[state]
        if (grown := median(growths(results, state))) >= MOST_GROWTH:
            yield f"{state}: the p99 of the good service has grown by {grown:.0%}"
        if (slowest := max(measured.health, default=0.0)) >= MOST_HEALTH:
            yield f"{state}: /health took {slowest * 1e3:.0f} ms"


def told(results: Results) -> str:
    """As Markdown."""
    head = ["hanging", "requests", "p50 ms", "p99 ms: median (range)", "p99 of all", "p99 growth: median (range)"]
    rows = [[*head, "/health ms: p50, p99, most"]]
    for state, measured in results.items():
        p99s, grown, pooled = measured.p99s, growths(results, state), measured.pooled
        health = sorted(measured.health)
        seen = [loads.percentile(health, percent) for percent in (50, 99, 100)]
        rows.append(
            [
                state if state == ALONE else f"{HANGING}: {state}",
                f"{len(pooled):,}",
                f"{loads.percentile(pooled, 50) * 1e3:.2f}",
                f"{median(p99s) * 1e3:.2f} ({min(p99s) * 1e3:.2f} to {max(p99s) * 1e3:.2f})",
                f"{loads.percentile(pooled, 99) * 1e3:.2f}",
                "" if state == ALONE else f"{median(grown):+.1%} ({min(grown):+.0%} to {max(grown):+.0%})",
                ", ".join(f"{each * 1e3:.1f}" for each in seen),
            ]
        )
    rounds = len(results[ALONE].latencies)
    about = f"{machine()} {CLIENTS * RATE} requests a second over {CLIENTS} connections of HTTP/2, {rounds} rounds."
    found = list(failures(results))
    verdict = "Failed:\n\n" + "\n".join(f"- {each}" for each in found) if found else "All of it held."
    return "\n\n".join([about, table(rows), verdict]) + "\n"
