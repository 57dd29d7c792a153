"""Real sockets on 127.0.0.1 behind the names of a test, and what a script does to a stream of either kind.

What lives here: the network of real sockets, and closing, resetting and watching a stream, whichever it is. What never
will: a fixed port.
"""

import errno
import os
import select
import socket
import struct
from typing import TypeAlias

import trio

from gateway.testing.network import Network, refused
from gateway.testing.streams import Address, MemoryStream, address_text

Carrier: TypeAlias = MemoryStream | trio.SocketStream
"""What carries the bytes of every stream that is made here."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""``SO_LINGER`` on, for 0 seconds: close() sends RST."""


class SocketNetwork(Network[trio.SocketStream]):
    """Names for real sockets: whatever listens on ``service1:8001`` listens on a free port of 127.0.0.1.

    So the same test runs in memory and over the kernel's TCP. Addresses that nobody listens on by name are connected to
    as they are where they are literal (127.0.0.1 and a port); other names are refused, never resolved.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listeners: dict[Address, trio.SocketListener] = {}

    def __repr__(self) -> str:
        real = {name: listener.socket for name, listener in self._listeners.items() if listener.socket.fileno() >= 0}
        lines = [f"<SocketNetwork: {len(real)} listeners>"]
        lines += [f"  {address_text(name)} at {address_text(sock.getsockname())}" for name, sock in real.items()]
        return "\n".join(lines)

    def listen(self, host: str, port: int = 0, *, backlog: int = 4096) -> trio.SocketListener:
        """Listen on a free port of 127.0.0.1, known here as ``host:port``; port 0 takes the real port's number.

        :raises OSError: ``EADDRINUSE``, while a listener of that name is open.
        """
        earlier = self._listeners.get((host, port))
        if earlier is not None and earlier.socket.fileno() >= 0:
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {address_text((host, port))}")
        bound = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound))
        self._listeners[host, port or bound.getsockname()[1]] = listener
        return listener

    def real_address(self, host: str, port: int) -> Address:
        """Where ``host:port`` listens; itself, where nobody listens by that name."""
        listener = self._listeners.get((host, port))
        if listener is None or listener.socket.fileno() < 0:
            return host, port
        name: Address = listener.socket.getsockname()
        return name

    def close(self) -> None:
        """Close every listener."""
        for listener in self._listeners.values():
            listener.socket.close()

    async def _reach(self, address: Address, source: str) -> trio.SocketStream:
        host, port = self.real_address(*address)
        if host != "127.0.0.1":
            raise refused(address)
        return await trio.open_tcp_stream(host, port, local_address=source)


def carrier(stream: trio.abc.Stream) -> Carrier:
    """Find the stream that carries the bytes: below TLS where there is TLS. :raises TypeError: not one of this kit."""
    below = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if not isinstance(below, MemoryStream | trio.SocketStream):
        raise TypeError(f"{below!r} is neither in memory nor a socket")
    return below


def addresses(stream: trio.abc.Stream) -> tuple[Address, Address | None]:
    """Tell the stream's own address and the other end's, which is None where a socket has lost it already."""
    below = carrier(stream)
    if isinstance(below, MemoryStream):
        return below.local_address, below.remote_address
    try:
        return below.socket.getsockname(), below.socket.getpeername()
    except OSError:
        return below.socket.getsockname(), None


async def send_some(stream: trio.abc.Stream, data: bytes | bytearray | memoryview) -> int:
    """Send a part of the bytes, at least one; tell how many. Cancelled, not one was sent. Not for TLS.

    :raises trio.BrokenResourceError, trio.ClosedResourceError: as ``send_all``.
    """
    if isinstance(stream, MemoryStream):
        return await stream.send_some(data)
    below = carrier(stream)
    if below is not stream or isinstance(below, MemoryStream):
        raise TypeError("over TLS nobody can tell what was sent")
    if below.socket.fileno() < 0:
        raise trio.ClosedResourceError("this stream was closed here")
    try:
        return await below.socket.send(data)
    except OSError as error:
        if below.socket.fileno() < 0:
            raise trio.ClosedResourceError("this stream was closed here") from error
        raise trio.BrokenResourceError(str(error)) from error


def close(stream: trio.abc.Stream) -> None:
    """Close at once, without a TLS goodbye. What was sent still arrives; bytes left unread make it a reset."""
    below = carrier(stream)
    if isinstance(below, trio.SocketStream):
        below.socket.close()
    else:
        below.close()


def reset(stream: trio.abc.Stream) -> None:
    """Close at once with a RST."""
    below = carrier(stream)
    if isinstance(below, MemoryStream):
        below.reset()
    elif below.socket.fileno() >= 0:
        below.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        below.socket.close()


async def wait_for_hangup(stream: trio.abc.Stream) -> None:
    """Return once the other end has ended, closed or reset, even behind bytes that nobody has read.

    Over sockets this needs epoll, and the kernel tells only what has arrived: a FIN behind a full buffer has not.
    """
    below = carrier(stream)
    if isinstance(below, MemoryStream):
        await below.wait_for_hangup()
        return
    with select.epoll(1) as watch:
        watch.register(below.socket.fileno(), select.EPOLLRDHUP)
        await trio.lowlevel.wait_readable(watch.fileno())
