"""Nothing may be left behind: tasks, streams, pool slots, descriptors, memory, all back at their baseline.

What lives here: taking stock before and after, and telling what is left, where it waits and who holds it. What never
will: cleaning up after others.

*Memory* is told in objects: those that an exchange or a connection is made of, alive after a full collection. That is
exact: one exchange that is never let go of fails one test, and nothing else does. The tempting way is to measure
bytes. But a process that leaks nothing still grows (caches fill, allocators keep what they were given, a longer log is
a longer list), so a bound in bytes is either so wide that it finds a leak of thousands of exchanges at best, or it
fails now and then. Bytes are for long runs, where the growth per exchange is what counts.
"""

import gc
import os
import socket
import stat
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import trio
import trio.testing

from gateway.testing.network import MemoryNetwork, MemoryStream
from gateway.transport import BackendTransport

OPEN_FILES = Path("/proc/self/fd")
FRAMES = 3
"""How many of a task's innermost frames outside trio are told."""
OF_AN_EXCHANGE = ("gateway.forward", "gateway.server", "gateway.transport")
"""The packages whose objects live as long as an exchange or a connection, or as long as the gateway."""
KEPT = frozenset({"BackendTransport", "Pool", "Upstream"})
"""Of these, what lives as long as the gateway: whoever holds the gateway holds them."""
HOLDERS = 8
"""How many of those who hold one are told."""
LINKS = frozenset({"frame", "method", "cell", "function", "coroutine", "async_generator"})
"""What leads from one object to the next, and is not who keeps it."""
NAP = 0.03
"""How long to wait for the next look, as a part of the time that was waited so far: seconds and 80 s are both quick."""


class OrphansError(AssertionError):
    """Something is left that was not there before. ``str(error)`` is the tree of it."""


class Running(Protocol):
    """A gateway under test: a RunningGateway."""

    @property
    def network(self) -> Any:
        """The network that it is on."""

    @property
    def transports(self) -> Mapping[str, Any]:
        """Its transports by service."""


@dataclass(frozen=True)
class Stock:
    """What there is at one moment."""

    tasks: frozenset[trio.lowlevel.Task]
    streams: tuple[MemoryStream, ...]
    descriptors: Mapping[int, str]
    counts: Mapping[str, int]
    objects: frozenset[int]
    """The ids of the objects of exchanges and connections that are alive."""

    @classmethod
    def take(cls, networks: tuple[MemoryNetwork, ...], counts: Mapping[str, Callable[[], int]]) -> "Stock":
        """Look round: every task of this run of trio, the open streams of ``networks``, the process's descriptors.

        And the objects that were made since :func:`_since_now` began.
        """
        return cls(
            tasks=frozenset(task for task, _ in _tree()),
            streams=tuple(stream for network in networks for stream in network.open_streams),
            descriptors=_descriptors(),
            counts={name: count() for name, count in counts.items()},
            objects=frozenset(map(id, _alive())),
        )

    def report(self, before: "Stock") -> str:
        """Tell what is here that was not ``before``, as a tree; the empty string when that is nothing."""
        lines = []
        tasks = self.tasks - before.tasks
        if tasks:
            lines.append(f"{len(tasks)} tasks:")
            for task, depth in _tree():
                if task in tasks:
                    lines.append(f"  {'  ' * depth}{task.name}")
                    lines += [f"  {'  ' * depth}    {frame}" for frame in _waits_in(task)]
        streams = [stream for stream in self.streams if stream not in before.streams]
        if streams:
            lines += [f"{len(streams)} streams:", *(f"  {stream!r}" for stream in streams)]
        descriptors = {fd: what for fd, what in self.descriptors.items() if before.descriptors.get(fd) != what}
        if descriptors:
            lines += [
                f"{len(descriptors)} descriptors:",
                *(f"  {fd}: {_details(fd, descriptors[fd])}" for fd in descriptors),
            ]
        lines += [
            f"{name}: {count}, before {before.counts[name]}"
            for name, count in self.counts.items()
            if count != before.counts[name]
        ]
        objects = [each for each in _alive() if id(each) in self.objects - before.objects]
        if objects:
            lines.append(f"{len(objects)} objects:")
            lines += [f"  {count} of {what}" for what, count in Counter(map(_kind, objects)).most_common()]
        return "\n".join(lines)


@asynccontextmanager
async def assert_no_orphans(
    *places: MemoryNetwork | Running, grace: float = 0.0, **counts: Callable[[], int]
) -> AsyncIterator[None]:
    """Check that the block leaves nothing behind.

    Tasks of this run of trio, descriptors of this process, open streams of the networks and objects of exchanges and
    connections must be gone that were not there before. A gateway (a ``RunningGateway``) stands for its network and for
    the slots of its pools; each of ``counts`` (``mine=lambda: len(my_pool)``) must be what it was as well.

    What is on its way out when the block ends may go on until every task waits, and then for ``grace`` seconds of
    trio's clock. Over real sockets a little is needed. With the gateway running on, in virtual time, 80 s cost nothing:
    by then it has closed the idle connections of its backends (60 s) and clients (75 s), which are no orphans.

    When the block raises, that is what comes out, and nothing is checked.

    :raises OrphansError: something is left; the message is the tree of it.
    """
    networks = tuple(place for place in places if isinstance(place, MemoryNetwork))
    for place in places:
        if not isinstance(place, MemoryNetwork):
            networks += (place.network,) if isinstance(place.network, MemoryNetwork) else ()
            counts |= {f"slots of {name}": _slots_of(transport) for name, transport in place.transports.items()}
    with _since_now():
        before = Stock.take(networks, counts)
        yield
        began = trio.current_time()
        while True:
            await trio.testing.wait_all_tasks_blocked()
            report = Stock.take(networks, counts).report(before)
            if not report:
                return
            waited = trio.current_time() - began
            if waited >= grace:
                raise OrphansError("\n".join(["left behind:", report, *_holders(Stock.take(networks, counts), before)]))
            await trio.sleep(min(max(0.01, NAP * waited), grace - waited))


def slots_taken(transport: Any) -> int:
    """Count the connections of a transport that carry an exchange; 0 where the transport cannot tell.

    Where connections are bounded, slots are counted as well: one may be lost that never had a connection.
    """
    if not isinstance(transport, BackendTransport):
        return 0
    slots = [pool._slots for pool in transport._pools.values() if pool._slots is not None]  # noqa: SLF001 -- nobody else may see them
    return max(transport.leased, sum((each.max_value or 0) - each.value for each in slots))


def _slots_of(transport: Any) -> Callable[[], int]:
    return lambda: slots_taken(transport)


_blocks = 0
"""Blocks that are open: they may be nested, and there is one collector for all of them."""


@contextmanager
def _since_now() -> Iterator[None]:
    """Let the collector look at nothing that was made before: it is then so quick that every test can afford it."""
    global _blocks  # noqa: PLW0603 - the collector is one for the whole process, and so is this
    if _blocks == 0:
        gc.freeze()
    _blocks += 1
    try:
        yield
    finally:
        _blocks -= 1
        if _blocks == 0:
            gc.unfreeze()


def _alive() -> list[Any]:
    """The objects of exchanges and connections that were made since :func:`_since_now` began and are still there."""
    gc.collect()
    return [
        thing
        for thing in gc.get_objects()
        if type(thing).__module__.startswith(OF_AN_EXCHANGE) and type(thing).__name__ not in KEPT
    ]


def _kind(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _holders(now: Stock, before: Stock) -> list[str]:
    """Who holds one of the objects that are left, and is none of them. Types alone: texts may be long."""
    things = [thing for thing in _alive() if id(thing) in now.objects - before.objects]
    inside = {id(things), *map(id, things), *(id(thing.__dict__) for thing in things if hasattr(thing, "__dict__"))}
    gc.unfreeze()  # the holder may well be one that was there before
    found = {
        f"  {_kind(thing)} is held by {_kind(holder)}"
        for thing in things
        for holder in gc.get_referrers(thing)
        if id(holder) not in inside and type(holder).__name__ not in LINKS
    }
    gc.freeze()
    return sorted(found)[:HOLDERS]


def task_tree() -> str:
    """Tell every task of this run of trio, and where it waits: for a test that hangs."""
    lines = []
    for task, depth in _tree():
        lines.append(f"{'  ' * depth}{task.name}")
        lines += [f"{'  ' * depth}    {frame}" for frame in _waits_in(task)]
    return "\n".join(lines)


def _tree() -> Iterator[tuple[trio.lowlevel.Task, int]]:
    root = trio.lowlevel.current_root_task()
    pending = [] if root is None else [(root, 0)]
    while pending:
        task, depth = pending.pop()
        yield task, depth
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        pending += [(child, depth + 1) for child in sorted(children, key=lambda child: child.name, reverse=True)]


def _waits_in(task: trio.lowlevel.Task) -> list[str]:
    """The innermost frames of a task that are not trio's own, the innermost one last."""
    frames = [(frame.f_code.co_filename, line, frame.f_code.co_qualname) for frame, line in task.iter_await_frames()]
    outside = [frame for frame in frames if f"{os.sep}trio{os.sep}" not in frame[0]]
    return [f"{_short(file)}:{line} in {name}" for file, line, name in (outside or frames)[-FRAMES:]]


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else "/".join(path.parts[-2:])


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    if not OPEN_FILES.is_dir():  # pragma: no cover - only Linux tells
        return found
    for entry in OPEN_FILES.iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except OSError:
            continue  # the descriptor that lists them
    return found


def _details(fd: int, what: str) -> str:
    """For a socket its two ends, which say more than its number."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return what
    with socket.socket(fileno=os.dup(fd)) as sock:
        try:
            return f"{what} {sock.getsockname()} ⇄ {sock.getpeername()}"
        except OSError:
            return f"{what} {sock.getsockname()}"
