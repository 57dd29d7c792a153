"""The worker's end of what a supervisor and its worker have to say to each other.

One socket pair per worker carries all of it:

| from | says | means |
|---|---|---|
| supervisor | three numbers, an order | how long the order is; which seat at which table (``shares``); what to serve |
| worker | ``ready`` | it accepts connections |
| supervisor | ``stop`` | drain, nobody else serves |
| supervisor | ``replaced`` | drain, another one accepts from the same sockets |
| supervisor | the end of the stream | the supervisor is dead: drain |

Not signals: a terminal's Ctrl-C and systemd's stop reach all processes of a group by themselves, and a worker that was
told twice would take the second time for "now".

What never lives here: how workers are started and replaced (``workers``).
"""

import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable

import trio

from gateway.server.drain import Leave
from gateway.server.shares import Shares

HEAD = struct.Struct("!III")
"""Length of the order, seat, descriptor of the table; 0 where there is none."""
READY = b"ready\n"
STOP = b"stop\n"
REPLACED = b"replaced\n"


class Line:
    """The line to the supervisor, over the inherited descriptor ``number``."""

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(fileno=number)
        self._socket.set_inheritable(False)
        self.shares: Shares | None = None
        """Which of the connections are for this worker; known with the order."""

    def order(self) -> bytes:
        """Read the order; blocks. Raises EOFError where the supervisor is dead by now."""
        with self._socket.makefile("rb", buffering=0) as stream:
            length, seat, table = HEAD.unpack(_exactly(stream.read, HEAD.size))
            order = _exactly(stream.read, length)
        if table:
            self.shares = Shares(table, seat)
            os.close(table)
        return order

    def ready(self) -> None:
        """Tell that connections are accepted from now on."""
        with contextlib.suppress(OSError):  # it is dead: dismissed() tells
            self._socket.sendall(READY)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    async def dismissed(self) -> Leave:
        """Wait until this worker is to leave, and tell why."""
        heard = b""
        self._socket.setblocking(False)
        while not heard.endswith(b"\n"):
            await trio.lowlevel.wait_readable(self._socket)
            try:
                more = self._socket.recv(64)
            except OSError:
                more = b""
            if not more:
                return Leave.STOP
            heard += more
        return Leave.REPLACED if heard.startswith(REPLACED) else Leave.STOP


def _exactly(read: Callable[[int], bytes | None], size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = read(size - len(data))
        if not more:
            raise EOFError("the supervisor is gone")
        data += more
    return data


async def first_of(*waits: Callable[[], Awaitable[object]]) -> object:
    """Wait for whichever is over first; give what it gave. The others are cancelled."""
    result: object = None

    async def wait(this: Callable[[], Awaitable[object]]) -> None:
        nonlocal result
        result = await this()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for this in waits:
            nursery.start_soon(wait, this)
    return result
