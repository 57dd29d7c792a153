"""Accepting from a socket, several connections in one turn.

trio's own listener takes one connection and then waits for its next turn, behind everything that runs: with a hundred
clients at once the last of them waits for a hundred turns, each as long as all the requests of those before it.
"""

import socket
from errno import (
    ECONNABORTED,
    EHOSTDOWN,
    EHOSTUNREACH,
    ENETDOWN,
    ENETUNREACH,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPERM,
    EPROTO,
)

import trio

PASSES = frozenset(
    {ECONNABORTED, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENOPROTOOPT, EOPNOTSUPP, EPERM, EPROTO}
)
"""What accept(2) says of a connection that has failed while it waited: the next one may be good."""


class PromptListener(trio.abc.Listener[trio.SocketStream]):
    """A listening socket. Takes it over."""

    at_once = 64
    """Connections that may be taken in one turn."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock

    async def wait(self) -> None:
        """Until there may be a connection."""
        await trio.lowlevel.wait_readable(self.socket)

    async def accept(self) -> trio.SocketStream:
        """Wait for a connection. Raises OSError where there is no room for one; cancelled, it loses none."""
        while True:
            await self.wait()
            stream = self.accept_now()
            if stream is not None:
                return stream

    def accept_now(self) -> trio.SocketStream | None:
        """Give a connection that is there. Raises OSError where there is no room for one."""
        while True:
            try:
                sock, _ = self.socket.accept()
            except BlockingIOError:  # or somebody else has it
                return None
            except OSError as error:
                if error.errno not in PASSES:
                    raise
            else:
                return trio.SocketStream(trio.socket.from_stdlib_socket(sock))

    async def aclose(self) -> None:
        """Close the socket."""
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()
        await trio.lowlevel.checkpoint()
