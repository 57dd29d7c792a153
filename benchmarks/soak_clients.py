"""The clients of a soak: good ones, who ask at a steady rate, some who ask for faults, and some who misbehave.

The good ones are wrk and h2load, in turns of some seconds, and httpx asks for faults: none of them is ours. What never
lives here: what is to be thought of an answer.
"""

import random
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import httpx
import trio

from benchmarks import loads
from benchmarks.processes import LOAD_CORE, pinned
from benchmarks.soak_backend import ALONE
from benchmarks.workloads import PATH, Load
from fixtures.faults.catalogue import BACKEND_FAULTS, CLIENT_FAULTS
from fixtures.faults.fault import BackendFault, ClientFault, ClientScript, Order, Place
from gateway.testing.clients import RawClient
from gateway.testing.peer import PeerGoneError

GOOD, FAULTS = "good", "faults"
"""Names of services: the good backend, and the catalogue by path. Those of ALONE have a service each, of their name."""

TURN = 15.0
"""Seconds of a turn of wrk or h2load. Then their connections are closed, and new ones come."""
USERS, PAUSE_MS = 8, 20
"""Connections of wrk, and what each waits before it asks again: some 300 requests a second."""
STREAMS, CLIENTS, RATE = 10, 2, 50
"""Of h2load: streams and connections, and requests a second on each. With a turn it stays below what one may have."""
ASKING, MISBEHAVING = 8, 6
"""Clients who ask for faults, and who misbehave, at a time."""
PATIENCE = 6.0
"""Seconds after which a client who misbehaves goes and another one comes."""
BODY = bytes(10_000_000)

T = TypeVar("T")
Turn: TypeAlias = Callable[[int], Awaitable[tuple[str, Load] | None]]
"""Of so many seconds: whose, and what came of it; None where that is not installed."""


@dataclass
class Seen:
    """What the clients saw."""

    good: Counter[str] = field(default_factory=Counter)
    """Requests that were answered as they should be, by load generator."""
    bad: Counter[str] = field(default_factory=Counter)
    """Those that were not."""
    why: list[str] = field(default_factory=list)
    """What the load generators said of them."""
    p99: dict[str, list[float]] = field(default_factory=dict)
    """Seconds, of each turn."""
    asked: set[str] = field(default_factory=set)
    """The ids of those requests for faults that are over."""
    broken: dict[str, str] = field(default_factory=dict)
    """Of those, the ones that were not answered as HTTP has it: the fault, and what the client said."""
    answers: Counter[str] = field(default_factory=Counter)
    """What came of them: a status, a status that was cut, or what httpx says."""
    faults: Counter[str] = field(default_factory=Counter)
    """How often each backend's fault was asked for."""
    misbehaved: Counter[str] = field(default_factory=Counter)
    """How often each client's fault was played."""
    complaints: list[str] = field(default_factory=list)


def around(entries: Sequence[T], seed: int) -> Iterator[T]:
    """All of them in random order, again and again."""
    shuffled, dice = list(entries), random.Random(seed)  # noqa: S311 -- to be the same again
    while True:
        dice.shuffle(shuffled)
        yield from shuffled


class Crowd:
    """All clients. ``unit`` is the faults' measure of time, in seconds."""

    def __init__(self, address: tuple[str, int], unit: float, scratch: Path, seed: int) -> None:
        self.seen = Seen()
        self._address = address
        self._url = f"http://{address[0]}:{address[1]}"
        self._unit = unit
        self._scratch = scratch
        self._faults = around(BACKEND_FAULTS, seed)
        self._scripts = around(
            [(fault, script) for fault in CLIENT_FAULTS for script in (fault.http1, fault.http2) if script], seed
        )

    async def come(self, seconds: float) -> None:
        """Ask for so long. Who is under way then is cut off, but for the good ones."""
        async with trio.open_nursery() as nursery, trio.open_nursery() as good:
            for number in range(ASKING):
                nursery.start_soon(self._ask, number)
            for _ in range(MISBEHAVING):
                nursery.start_soon(self._misbehave)
            end = trio.current_time() + seconds
            for each in (self._wrk, self._h2load):
                good.start_soon(self._turns, each, end)
            await trio.sleep(seconds)
            while good.child_tasks:  # noqa: ASYNC110 -- a nursery has no event
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()

    # ---- good ones

    async def _turns(self, turn: Turn, end: float) -> None:
        while (left := end - trio.current_time()) >= 1:
            try:
                load = await turn(int(min(TURN, left)))
            except loads.NoLoadError as error:
                self.seen.complaints.append(str(error))
                return
            if load is None:
                return
            name, done = load
            self.seen.good[name] += done.requests
            self.seen.bad[name] += done.errors
            self.seen.p99.setdefault(name, []).append(done.p99)

    async def _wrk(self, seconds: int) -> tuple[str, Load] | None:
        if shutil.which("wrk") is None:
            return None
        script = self._scratch / "soak.lua"
        script.write_text(f"function delay() return {PAUSE_MS} end\n", encoding="utf-8")
        command = ["wrk", "--latency", "--threads=1", f"--connections={USERS}", f"--duration={seconds}s"]
        output = await told([*command, f"--script={script}", f"{self._url}/api/{GOOD}{PATH}"])
        return "wrk", self._explained(output, loads.parse_wrk(output))

    async def _h2load(self, seconds: int) -> tuple[str, Load] | None:
        if shutil.which("h2load") is None:
            return None
        log = self._scratch / "soak.h2load"
        log.unlink(missing_ok=True)
        command = ["h2load", f"--requests={CLIENTS * RATE * seconds}", f"--clients={CLIENTS}", f"--rps={RATE}"]
        command += [f"--max-concurrent-streams={STREAMS}", f"--log-file={log}"]
        output = await told([*command, f"{self._url}/api/{GOOD}{PATH}"])
        said = log.read_text(encoding="ascii") if log.exists() else ""
        return "h2load", self._explained(output, loads.parse_h2load(output, said))

    def _explained(self, output: str, load: Load) -> Load:
        """Keep what was said of requests that failed."""
        if load.errors:
            lines = (line.strip() for line in output.splitlines())
            self.seen.why += [
                line for line in lines if line.startswith(("Socket errors", "Non-2xx", "requests:", "status"))
            ]
        return load

    # ---- those who ask for faults

    async def _ask(self, number: int) -> None:
        http2 = number % 2 == 1
        options: dict[str, Any] = {
            "http1": not http2,
            "http2": http2,
            "limits": httpx.Limits(max_keepalive_connections=1),
        }
        # What ends is to be ended by the gateway, so there is no timeout; and no TLS.
        async with httpx.AsyncClient(**{**options, "timeout": None, "verify": False, "trust_env": False}) as client:
            count = 0
            while True:
                fault = next(self._faults)
                for _ in range(2 if fault.warm else 1):
                    count += 1
                    await self._one(client, fault, f"soak-{number}-{count}")

    async def _one(self, client: httpx.AsyncClient, fault: BackendFault, name: str) -> None:
        path = f"/api/{fault.name}/x" if fault.name in ALONE else f"/api/{FAULTS}/{fault.name}"
        status, size = "none", 0
        try:
            async with client.stream(
                fault.ask.method.decode(),
                self._url + path,
                headers={"x-request-id": name},
                content=BODY[: fault.ask.body] or None,
            ) as answer:
                status = str(answer.status_code)
                async for piece in answer.aiter_raw():
                    size += len(piece)
                    if size >= fault.ask.reads:
                        break
        except httpx.RequestError as error:
            self.seen.broken[name] = f"{fault.name}: {status}, {error!r}"
            status = f"{status}, {type(error).__name__}"
        self.seen.asked.add(name)
        self.seen.answers[status] += 1
        self.seen.faults[fault.name] += 1

    # ---- those who misbehave

    async def _misbehave(self) -> None:
        while True:
            fault, script = next(self._scripts)
            with trio.move_on_after(PATIENCE):
                await self._play(fault, script)
            self.seen.misbehaved[fault.name] += 1
            await trio.sleep(self._unit)

    async def _play(self, fault: ClientFault, script: ClientScript) -> None:
        service = "black-hole" if fault.place is Place.BLACK_HOLE else FAULTS
        order = Order(host=b"soak", path=f"/api/{service}/{fault.name}".encode(), unit=self._unit)
        async with RawClient(await trio.open_tcp_stream(*self._address)) as client:
            try:
                await script(client, order)
            except (PeerGoneError, trio.ClosedResourceError):
                return


async def told(command: list[str]) -> str:
    """Run a load generator beside us; what it said."""
    done = await trio.run_process(pinned(LOAD_CORE, command), capture_stdout=True, capture_stderr=True, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")
