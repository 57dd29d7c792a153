"""Nothing may be left behind: tasks, streams in memory, descriptors, all that can be counted, back at their baseline.

What lives here: taking stock before and after, and telling what is left and where it waits. What never will: cleaning
up after others.
"""

import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
import trio.testing

from gateway.testing.network import MemoryNetwork, MemoryStream

OPEN_FILES = Path("/proc/self/fd")
FRAMES = 3
"""How many of a task's innermost frames outside trio are told."""


class OrphansError(AssertionError):
    """Something is left that was not there before. ``str(error)`` is the tree of it."""


@dataclass(frozen=True)
class Stock:
    """What there is at one moment."""

    tasks: frozenset[trio.lowlevel.Task]
    streams: tuple[MemoryStream, ...]
    descriptors: Mapping[int, str]
    counts: Mapping[str, int]

    @classmethod
    def take(cls, networks: tuple[MemoryNetwork, ...], counts: Mapping[str, Callable[[], int]]) -> "Stock":
        """Look round: every task of this run of trio, the open streams of ``networks``, the process's descriptors."""
        return cls(
            tasks=frozenset(task for task, _ in _tree()),
            streams=tuple(stream for network in networks for stream in network.open_streams),
            descriptors=_descriptors(),
            counts={name: count() for name, count in counts.items()},
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
        return "\n".join(lines)


@asynccontextmanager
async def assert_no_orphans(
    *networks: MemoryNetwork, grace: float = 0.0, **counts: Callable[[], int]
) -> AsyncIterator[None]:
    """Check that the block leaves nothing behind.

    Tasks of this run of trio, open streams of ``networks`` and descriptors of this process must be gone that were not
    there before; each of ``counts`` (``slots=lambda: pool.leased``) must be what it was. What is on its way out when
    the block ends may go on until every task waits, and then for ``grace`` seconds of trio's clock: over real sockets
    a little is needed. When the block raises, that is what comes out, and nothing is checked.

    :raises OrphansError: something is left.
    """
    before = Stock.take(networks, counts)
    yield
    deadline = trio.current_time() + grace
    while True:
        await trio.testing.wait_all_tasks_blocked()
        report = Stock.take(networks, counts).report(before)
        if not report:
            return
        if trio.current_time() >= deadline:
            raise OrphansError(f"left behind:\n{report}")
        await trio.sleep(min(0.01, grace))


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
