"""Ten thousand clients that have asked once and stay: what each costs in memory, and what an active one notices.

Two gateways of its own are started for it, one with them and one without, and the active client goes to both in turn.
What never lives here: clients that mean harm; see ``floods``.
"""

import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.procfs import resident
from benchmarks.run import Runner
from benchmarks.subjects import Stage
from benchmarks.workloads import PATH, WORKLOADS, Idle
from gateway.serving import MANY_DESCRIPTORS, connections_for

WANTED = 10_000
OTHERS = 100
"""Connections that are left for the active client and what else wants one."""
TOGETHER = 200
"""Clients that come at the same time: one after the other they would take longer than an idle one may stay."""
ROUNDS = 2
"""Of the active client, to each round of the whole run: nothing else is measured meanwhile, and they are short."""
PATIENCE = 10.0
"""Seconds that an idle client waits for its one answer."""

ACTIVE = next(workload for workload in WORKLOADS if workload.key == "get-32")


def room(hard: int) -> int:
    """How many clients can be idle where no process may have more than ``hard`` descriptors.

    The gateway takes clients for half of its own, and we need one for each client, and some for ourselves.
    """
    unlimited = hard == resource.RLIM_INFINITY
    descriptors = MANY_DESCRIPTORS if unlimited else min(MANY_DESCRIPTORS, hard)
    ours = WANTED if unlimited else hard - OTHERS
    return int(max(0, min(WANTED, connections_for(descriptors) - OTHERS, ours)))


def measure(stage: Stage, origin: str, rounds: int, scratch: Path, say: Callable[[str], None]) -> Idle:
    """Measure an active client without the idle ones and beside them. Raises OSError where they are not let in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = room(hard)
    alone = stage.gateway(origin, key="alone", title="gateway, nobody idle")
    crowded = stage.gateway(origin, key="crowded", title=f"gateway, {count:,} idle")
    active = Runner([alone, crowded], [ACTIVE], scratch, say)
    active.run(1)
    before = resident([crowded.session])
    say(f"{count:,} clients come and stay")
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with clients(crowded.url, count) as held:
            after = resident([crowded.session])
            results = active.run(ROUNDS * rounds)
            left = sum(map(is_open, held))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return Idle(
        wanted=WANTED,
        held=left,
        before=before,
        after=after,
        alone=results.of(ACTIVE, alone),
        beside=results.of(ACTIVE, crowded),
    )


@contextmanager
def clients(url: str, count: int) -> Iterator[list[socket.socket]]:
    """Open so many connections, each of which has been answered once. All are closed behind the block."""
    authority, _, prefix = url.removeprefix("http://").partition("/")
    host, _, port = authority.partition(":")
    request = f"GET /{prefix}{PATH} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()
    with ExitStack() as stack:
        held: list[socket.socket] = []
        while len(held) < count:
            batch = min(TOGETHER, count - len(held))
            new = [stack.enter_context(socket.create_connection((host, int(port)), PATIENCE)) for _ in range(batch)]
            for sock in new:
                sock.sendall(request)
            for sock in new:
                take_in(sock)
            held += new
        yield held


def take_in(sock: socket.socket) -> None:
    """Take in an answer, which has a Content-Length. Raises ConnectionError where it does not come."""
    received = b""
    while True:
        head, found, body = received.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0):
            return
        data = sock.recv(65_536)
        if not data:
            raise ConnectionError(f"the connection ended behind {received[-100:]!r}")
        received += data


def is_open(sock: socket.socket) -> bool:
    """Whether the other side has not closed it."""
    try:
        sock.setblocking(False)
        return sock.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
