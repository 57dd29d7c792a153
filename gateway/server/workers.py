"""The supervisor: N processes behind the same listening sockets, each replaced when it dies and when it is asked for.

The sockets are bound once and handed down as descriptors, so all workers accept from one queue. That is why nobody's
connection is lost with a worker: what waits in the queue belongs to the socket, and the next worker takes it. With a
socket per worker (SO_REUSEPORT) the kernel spreads connections more evenly, but it gives each to one socket when the
handshake begins, and closing that socket resets what waits in its queue.

A worker is a process of its own, started from scratch and not forked: a fork would take the state of trio, of threads
and of OpenSSL along. It comes up with the code and certificates that are on disk by then.

| what happens | what is done |
|---|---|
| the first worker dies before it is ready | nothing can be served: the supervisor ends with 1 |
| a worker dies later | it is replaced: at once, or after a delay that doubles where it had not lived long |
| SIGHUP | each worker is replaced, in turn: the new one is ready before the old one is told to leave |
| a new one does not get ready then | the old ones stay |
| SIGTERM, SIGINT | all are told to drain; those that overstay are killed; 0 where all of them left well, else 1 |
| once more | all are killed, and the signal does to the supervisor what it does to any process |
| the supervisor is killed | the workers see it, and drain |

What never lives here: what a worker serves, and how it is told so (``worker``).
"""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from gateway.server.shares import SEATS, Shares, open_table
from gateway.server.worker import HEAD, READY, REPLACED, STOP


class Log(Protocol):
    """Where the supervisor tells what it does."""

    def __call__(self, level: str, message: str, /, **facts: object) -> None:
        """Take one line. Must not block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds."""

    start: float = 60.0
    """Until a new worker is ready; then it is killed."""
    steady: float = 10.0
    """Who has lived this long has started well: if it dies, that is no reason to wait."""
    first_delay: float = 0.5
    """Before the second replacement in a row; doubled for each one more."""
    longest_delay: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """What the workers are."""

    count: int
    command: Callable[[int], Sequence[str]]
    """The command line of a worker, by the number of the descriptor that is its line to the supervisor."""
    order: Callable[[int], bytes]
    """What it is told to serve, by its place from 0 on."""
    descriptors: Callable[[int], Sequence[int]]
    """What it inherits, by its place, under the same numbers."""
    patience: float
    """How many seconds it may take to leave; then it is killed."""
    close: Callable[[], None]
    """Closes what they inherit here. Else, at a stop, connections would queue that nobody is going to accept."""


@dataclass(slots=True, eq=False)
class Worker:
    """One process."""

    place: int
    process: trio.Process
    line: trio.SocketStream
    seat: int
    patience: float
    since: float
    ready: bool = False
    settled: trio.Event = field(default_factory=trio.Event)
    """It is ready, or has ended."""
    leaving: bool = False
    """It was told to."""
    killed: bool = False

    async def tell(self, word: bytes) -> None:
        """Say something to it, if it hears yet, and still does. One that is starting hears it when it is ready."""
        self.leaving = True
        if not self.ready:
            return
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            await self.line.send_all(word)

    def kill(self) -> None:
        """End it now."""
        self.killed = True
        self.process.kill()


class Supervisor:
    """Keeps every place of the crew filled. Runs in the nursery of ``supervise``."""

    def __init__(self, crew: Crew, nursery: trio.Nursery, log: Log, timing: Timing) -> None:
        self.crew = crew
        self.places: dict[int, Worker] = {}
        """Those that serve, and are to go on serving."""
        self.alive: set[Worker] = set()
        """Those, the ones that are starting, and the ones that are leaving."""
        self.stopping = trio.Event()
        self.failed = False
        """One that was told to leave did not leave well."""
        self._nursery = nursery
        self._log = log
        self._timing = timing
        self._deaths: dict[int, int] = {}
        """By place: how many in a row died young."""
        self._starting = 0
        """Processes that are not there yet."""
        self._changed = trio.lowlevel.ParkingLot()
        self._reloading = trio.Lock()
        self._wanted = crew
        """What the latest SIGHUP asked for."""
        self._table = open_table()
        self._shares = None if self._table is None else Shares(self._table)

    async def start(self) -> bool:
        """Start the first worker, then the others. False: it died, and what one cannot, no other can."""
        first = await self._spawn(0)
        if first is None:
            return False
        self._take_place(first)
        for place in range(self.crew.count):
            self._nursery.start_soon(self._fill, place)
        return True

    async def reload(self, crew: Crew) -> None:
        """Replace every worker by one of ``crew``, one after the other. Stops at the first that does not get ready.

        Of those that wait while another reload is under way only the last is done.
        """
        self._wanted = crew
        async with self._reloading:
            if crew is not self._wanted:
                return
            old_crew, self.crew = self.crew, crew
            for place in range(crew.count):
                if self.stopping.is_set():
                    return
                new = await self._spawn(place)
                if self.stopping.is_set():
                    return
                if new is None:
                    self.crew = old_crew
                    self._log("ERROR", "the new worker did not start: the old ones stay", place=place)
                    return
                self._take_place(new)
                self._nursery.start_soon(self._fill, place)
            for place in [place for place in self.places if place >= crew.count]:
                self._dismiss(self.places.pop(place))
            self._log("INFO", "all workers are replaced", workers=crew.count)

    async def stop(self) -> None:
        """Tell every worker to drain, and wait until none is left."""
        self.stopping.set()
        while self._starting:
            await self._changed.park()
        self.crew.close()
        for worker in list(self.alive):
            self._nursery.start_soon(self._see_off, worker, STOP)
        while self.alive:
            await self._changed.park()

    def kill(self) -> None:
        """End them all now."""
        for worker in self.alive:
            worker.kill()

    # ---- one worker

    async def _spawn(self, place: int) -> Worker | None:
        """Start a process; return when it is ready. None: it has ended before."""
        ours, theirs = socket.socketpair()
        inherited = [*self.crew.descriptors(place), *([] if self._table is None else [self._table])]
        self._starting += 1
        with theirs:
            ours.setblocking(False)
            number = theirs.fileno()
            try:
                process = await trio.lowlevel.open_process(
                    list(self.crew.command(number)),
                    stdin=subprocess.DEVNULL,
                    pass_fds=[number, *inherited],
                    process_group=0,  # a terminal's Ctrl-C is for the supervisor, who tells the others
                )
            except OSError as error:  # no room for one more process
                ours.close()
                self._died_young(place)
                self._log("ERROR", "a worker cannot be started", place=place, how=str(error))
                return None
            finally:
                self._starting -= 1
                self._changed.unpark_all()
        line = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        worker = Worker(place, process, line, self._free_seat(), self.crew.patience, trio.current_time())
        self.alive.add(worker)
        self._nursery.start_soon(self._live, worker, self.crew.order(place))
        await worker.settled.wait()
        return worker if worker.ready else None

    def _free_seat(self) -> int:
        taken = {worker.seat for worker in self.alive}
        seat = next(seat for seat in range(1, SEATS) if seat not in taken)
        if self._shares is not None:
            self._shares.give(seat)
        return seat

    async def _live(self, worker: Worker, order: bytes) -> None:
        """Be with it until it ends."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, worker, order)
                await worker.process.wait()
                nursery.cancel_scope.cancel()
        finally:
            if worker.process.poll() is None:  # cancelled: the supervisor itself is at its end
                worker.kill()
                with trio.CancelScope(shield=True):
                    await worker.process.wait()
            worker.line.socket.close()
            if self._shares is not None:
                self._shares.take(worker.seat)
            self.alive.discard(worker)
            worker.settled.set()
            self._changed.unpark_all()
        self._tell_of_the_end(worker)
        if self.places.get(worker.place) is worker:
            del self.places[worker.place]
            await self._fill(worker.place)

    async def _hear(self, worker: Worker, order: bytes) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            with trio.move_on_after(self._timing.start):
                await worker.line.send_all(HEAD.pack(len(order), worker.seat, self._table or 0) + order)
                worker.ready = await worker.line.receive_some(64) == READY
                if not worker.ready:
                    return  # it has ended, or closes its line before it does
            if worker.ready:
                self._log("INFO", "a worker is ready", worker=worker.process.pid)
                worker.settled.set()
                if self.stopping.is_set():
                    await self._see_off(worker, STOP)
            else:
                self._log("ERROR", "a worker does not get ready: it is killed", worker=worker.process.pid)
                worker.kill()

    def _tell_of_the_end(self, worker: Worker) -> None:
        code = worker.process.returncode or 0
        facts = {"worker": worker.process.pid, "how": how_it_ended(code)}
        if worker.leaving and code == 0:
            self._log("INFO", "a worker has left", **facts)
            return
        self.failed = self.failed or worker.leaving
        if worker.ready and trio.current_time() - worker.since >= self._timing.steady:
            self._deaths.pop(worker.place, None)
        else:
            self._died_young(worker.place)
        self._log("ERROR", "a worker has died", **facts)

    def _died_young(self, place: int) -> None:
        self._deaths[place] = self._deaths.get(place, 0) + 1

    async def _fill(self, place: int) -> None:
        """Put a worker in a place that has none, however often that takes."""
        while self._is_open(place):
            delay = self._delay(place)
            if delay:
                self._log("WARNING", "a worker is replaced after a while", place=place, seconds=delay)
                with trio.move_on_after(delay):
                    await self.stopping.wait()
                if not self._is_open(place):
                    return
            new = await self._spawn(place)
            if new is not None and self._is_open(place):
                self._take_place(new)
            elif new is not None:
                self._dismiss(new)

    def _is_open(self, place: int) -> bool:
        return not self.stopping.is_set() and place < self.crew.count and place not in self.places

    def _delay(self, place: int) -> float:
        """Before a worker is put there: nothing, but where they die young."""
        deaths = self._deaths.get(place, 0)
        if deaths < 2:
            return 0.0
        return min(self._timing.longest_delay, self._timing.first_delay * 2.0 ** (deaths - 2))

    def _take_place(self, new: Worker) -> None:
        """Let it serve in the place of whoever did; but not where it was ready and has died since."""
        if new not in self.alive:
            return
        old = self.places.get(new.place)
        self.places[new.place] = new
        if old is not None:
            self._dismiss(old)

    def _dismiss(self, worker: Worker) -> None:
        self._nursery.start_soon(self._see_off, worker, REPLACED)

    async def _see_off(self, worker: Worker, word: bytes) -> None:
        """Tell it to leave, and see to it that it does."""
        await worker.tell(word)
        with trio.move_on_after(worker.patience):
            while worker in self.alive:
                await self._changed.park()
            return
        self._log("ERROR", "a worker overstays: it is killed", worker=worker.process.pid)
        self.failed = True
        worker.kill()


def how_it_ended(code: int) -> str:
    """The exit status in words."""
    return f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


async def supervise(crew: Crew, *, reload: Callable[[], Crew | None], log: Log, timing: Timing | None = None) -> int:
    """Run the crew until SIGTERM or SIGINT; return the exit status once no worker is left.

    ``reload`` is called at each SIGHUP; it gives what is to run from then on, or None where all stays as it is, and
    must not raise. On cancellation the workers are killed.
    """
    now = 0
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            supervisor = Supervisor(crew, nursery, log, timing or Timing())
            started = True

            async def start() -> None:
                nonlocal started
                started = await supervisor.start()
                if not started:
                    nursery.cancel_scope.cancel()

            async def stop() -> None:
                await supervisor.stop()
                nursery.cancel_scope.cancel()

            nursery.start_soon(start)
            async for number in signals:
                if number == signal.SIGHUP:
                    new = reload()
                    if new is not None and not supervisor.stopping.is_set():
                        nursery.start_soon(supervisor.reload, new)
                elif not supervisor.stopping.is_set():
                    log("INFO", f"{signal.Signals(number).name}: all workers are to leave")
                    nursery.start_soon(stop)
                else:
                    now = number
                    supervisor.kill()
    if started:
        log("INFO", "all workers have left")
    if now:
        os.kill(os.getpid(), now)
    return 0 if started and not supervisor.failed else 1
