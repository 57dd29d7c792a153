"""Cases played on a proxy: :func:`run_case` for one, :func:`run_cases` for a table, over TCP with nothing but ports.

What lives here: a case from its first byte to its verdict. What never will: which proxy it is.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeAlias

import trio

from gateway.testing import sockets

from .backend import CONTROL, Backend
from .case import Case, Verdict
from .client1 import Client1
from .client2 import Client2
from .messages import HOST, Got
from .play import Play
from .reading import Ended, Malformed, Reader

Connect: TypeAlias = Callable[[], Awaitable[trio.abc.HalfCloseableStream]]
"""Opens a connection to the proxy under test."""

PATIENCE = 5.0
"""Seconds that either script may take; of the virtual clock, where that runs."""
TAIL = 2.0
"""Seconds that the backend's script may still take once the client's is over."""


async def run_case(
    case: Case,
    connect: Connect,
    backend: Backend,
    protocol: str,
    *,
    patience: float = PATIENCE,
    control: Connect | None = None,
) -> Verdict:
    """Play ``case`` with a client that speaks ``protocol`` (``1.1`` or ``2``, by prior knowledge).

    ``backend`` must be running (``running_backend``), and the proxy have been told of its listener's address.
    Waits for whoever does not come no longer than ``patience``; never raises for what a proxy does.
    ``control`` opens a connection that takes HTTP/1.1, where ``connect`` opens one that takes HTTP/2 alone.
    """
    play = Play(protocol)
    faults = play.faults
    backend.begin(play, case.exchanges)
    try:
        stream = await connect()
    except OSError as error:
        return Verdict(case, protocol, [f"the proxy cannot be reached: {error}"], play)
    client = (Client2 if protocol == "2" else Client1)(stream, play)
    try:
        with trio.move_on_after(patience * (10 if case.slow else 1)) as scope:
            await client.run(case.script)
        if scope.cancelled_caught:
            faults.append(f"the client waits in vain at {play.client_at}")
    finally:
        sockets.close(stream)
    with trio.move_on_after(TAIL):
        await backend.finished()
    faults += [f"the backend, request {place + 1}: stuck at {at}" for place, at in play.backend_at.items()]
    backend.end()
    faults += [fault for check in case.requirements for fault in check(play)]
    if case.control:
        faults += await _control(control or connect, patience)
    return Verdict(case, protocol, faults, play)


async def _control(connect: Connect, patience: float) -> list[str]:
    """Whatever was played, the next client gets its own answer: nothing may have been left for it on any connection."""
    token = b"0123456789abcdef"
    with trio.move_on_after(patience):
        try:
            stream = await connect()
            try:
                await stream.send_all(
                    b"GET %s%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (CONTROL, token, HOST)
                )
                reader = Reader(stream)
                got: Got = await reader.response_head()
                await reader.body(got, to_end=True)
            finally:
                sockets.close(stream)
        except (OSError, trio.BrokenResourceError, Ended, Malformed) as error:
            return [f"the next client's request failed: {type(error).__name__} {error}"]
        if (got.status, got.body.start) == (200, token):
            return []
        return [f"the next client got {got.status} {got.body}, which was not for it"]
    return ["the next client waits in vain"]


@asynccontextmanager
async def running_backend(listener: trio.abc.Listener[trio.SocketStream]) -> AsyncIterator[Backend]:
    """Run the backend of all cases on a listener."""
    backend = Backend(listener)
    async with trio.open_nursery() as nursery:
        await nursery.start(backend.run)
        yield backend
        nursery.cancel_scope.cancel()


async def run_cases(
    cases: Iterable[Case],
    protocol: str,
    proxy: tuple[str, int],
    backend: Backend,
    *,
    patience: float = PATIENCE,
    settle: float = 0.01,
) -> AsyncIterator[Verdict]:
    """Play the cases that are for ``protocol`` on the proxy at that address, one after the other.

    ``settle`` seconds go by between two, so that a proxy has seen what ended before the next begins.
    """

    async def connect() -> trio.SocketStream:
        return await trio.open_tcp_stream(*proxy)

    for case in cases:
        if protocol in case.protocols:
            yield await run_case(case, connect, backend, protocol, patience=patience)
            await trio.sleep(settle)
