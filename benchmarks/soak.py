"""The soak: the gateway under steady load and all faults of the catalogue at once, for minutes.

Real processes and sockets. Good clients ask a good backend at a steady rate; beside them others ask for every backend's
fault in turn, and others commit every client's fault. Meanwhile memory and descriptors are sampled and every line of
the log is read. Then all clients leave and the backends end, and what is left is counted. What never lives here: the
clients, and what a sample is.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import trio

from benchmarks.processes import LOAD_CORE, SUBJECT_CORE, Command, free_port, running
from benchmarks.procfs import members
from benchmarks.soak_backend import ALL, ALONE
from benchmarks.soak_clients import FAULTS, GOOD, Crowd, Seen
from benchmarks.soak_told import Soak
from benchmarks.soak_watch import NOTHING, Counters, Log, Sample, descriptors, read_metrics, take
from benchmarks.subjects import Stage, environment

TIMEOUT = 2.0
UNIT = TIMEOUT / 30
"""Seconds: the gateway's patience with its backends, and what the catalogue makes of it."""
CLOCKS = {
    "GATEWAY_TIMEOUT": f"{TIMEOUT * 1000:.0f}ms",
    "GATEWAY_CONNECT_TIMEOUT": f"{5 * UNIT * 1000:.0f}ms",
    "GATEWAY_CLIENT_TIMEOUT": f"{60 * UNIT * 1000:.0f}ms",
}
WARM_UP = 0.2
"""Part of the whole that is the warm-up, but no more than WARM_UP_SECONDS."""
WARM_UP_SECONDS = 60.0
SAMPLES = 600
SETTLE_SECONDS = 30.0
"""Real time in which what is left may go, after all have left."""
SEED = 5


@dataclass(frozen=True)
class Subject:
    """The gateway that is soaked."""

    pid: int
    port: int
    admin: int


def run(seconds: float, scratch: Path, say: Callable[[str], None], seed: int = SEED) -> Soak:
    """Soak for so long, and tell what came of it. Raises DidNotStartError."""
    with ExitStack() as stack:
        backends = stack.enter_context(ExitStack())
        services = start_backends(backends, scratch, say)
        reading, writing = os.pipe()
        port, admin = free_port(), free_port()
        env = environment(
            GATEWAY_HOST="127.0.0.1",
            GATEWAY_PORT=str(port),
            GATEWAY_ADMIN_PORT=str(admin),
            GATEWAY_SERVICES=",".join(services),
            **{f"{name.upper().replace('-', '_')}_URL": url for name, url in services.items()},
            **CLOCKS,
        )
        words = [sys.executable, "-m", "gateway", "serve"]
        say("starting the gateway")
        command = Command("gateway", words, f"http://127.0.0.1:{port}/livez", SUBJECT_CORE, env)
        try:
            session = stack.enter_context(running(command, scratch, stdout=writing))
        finally:
            os.close(writing)
        (pid,) = members([session])
        watch = Watch(Subject(pid, port, admin), seconds, reading, say)
        trio.run(watch.main, Crowd(("127.0.0.1", port), UNIT, scratch, seed), backends)
        stderr = (scratch / "gateway.stderr").read_text(encoding="utf-8", errors="replace")
        return watch.soak(stderr)


def start_backends(stack: ExitStack, scratch: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Start the good backend and the faulty ones; the URLs of the services."""
    good = Stage(stack, scratch, say).backend()
    ports = {name: free_port() for name in (ALL, *ALONE)}
    words = [sys.executable, "-m", "benchmarks.soak_backend", str(UNIT), *(f"{name}:{ports[name]}" for name in ports)]
    say("starting the faults")
    url = f"http://127.0.0.1:{ports[ALL]}/health"
    stack.enter_context(running(Command("faults", words, url, LOAD_CORE, environment()), scratch))
    alone = {name: f"http://127.0.0.1:{ports[name]}" for name in ALONE}
    return {GOOD: good.origin, FAULTS: f"http://127.0.0.1:{ports[ALL]}", **alone}


class Watch:
    """Looks on while the clients come and go."""

    def __init__(self, subject: Subject, seconds: float, log: int, say: Callable[[str], None]) -> None:
        self.log = Log()
        self.samples: list[Sample] = []
        self._subject = subject
        self._seconds = seconds
        self._reading = log
        self._say = say
        self._baseline = 0
        self._left = 0
        self._counters = NOTHING
        self._seen = Seen()

    async def main(self, crowd: Crowd, backends: ExitStack) -> None:
        """Let them come, let them go, and see what is left."""
        self._seen = crowd.seen
        pid = self._subject.pid
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_log)
            while "the gateway is running" not in self.log.events:  # noqa: ASYNC110 -- a list has no event
                await trio.sleep(0.01)
            await self._quiet()
            self._baseline = descriptors(pid)
            async with trio.open_nursery() as sampling:
                sampling.start_soon(self._sample)
                await crowd.come(self._seconds)
                sampling.cancel_scope.cancel()
            self._say("the clients have left")
            await self._quiet()
            await trio.to_thread.run_sync(backends.close)
            with trio.move_on_after(SETTLE_SECONDS):
                while descriptors(pid) > self._baseline:  # noqa: ASYNC110 -- nothing tells
                    await trio.sleep(0.05)
            self._left = descriptors(pid)
            self._counters = await self._metrics()
            os.kill(pid, signal.SIGTERM)  # the log ends then, and with it this

    def soak(self, stderr: str) -> Soak:
        """What came of it."""
        return Soak(
            seconds=self._seconds,
            warm_up=min(WARM_UP_SECONDS, self._seconds * WARM_UP),
            samples=self.samples,
            log=self.log,
            seen=self._seen,
            counters=self._counters,
            baseline=self._baseline,
            left=self._left,
            stderr=stderr,
        )

    async def _quiet(self) -> None:
        """Wait until nothing is in flight."""
        with trio.move_on_after(SETTLE_SECONDS):
            while (now := await self._metrics()).in_flight or now.leased:  # noqa: ASYNC110 -- nothing tells
                await trio.sleep(0.05)

    async def _metrics(self) -> Counters:
        # A connection of its own each time: it must not count among those that are left.
        async with httpx.AsyncClient(verify=False, trust_env=False) as client:  # noqa: S501 -- there is no TLS
            return read_metrics((await client.get(f"http://127.0.0.1:{self._subject.admin}/metrics")).text)

    async def _read_log(self) -> None:
        async with trio.lowlevel.FdStream(self._reading) as stream:
            async for data in stream:
                self.log.feed(bytes(data), GOOD)

    async def _sample(self) -> None:
        start, told = trio.current_time(), 0.0
        interval = max(self._seconds / SAMPLES, 0.05)
        for number in range(10 * SAMPLES):
            await trio.sleep_until(start + number * interval)
            second = trio.current_time() - start
            sample = take(self._subject.pid, second, self.log.ended)
            self.samples.append(sample)
            if second >= told:
                told += max(self._seconds / 40, 1)
                self._say(
                    f"{second:5.0f} s  {sample.rss / 1e6:6.1f} MB resident, {sample.descriptors:3} descriptors, "
                    f"{sample.ended:7,} requests, {sum(self._seen.bad.values())} of the good ones failed"
                )
