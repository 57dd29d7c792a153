"""What differs between a socket, TLS over it, and a stream in memory: who is there, and how to close at once.

What never lives here: anything about HTTP. Everything is synchronous but waiting.
"""

import contextlib
import select
import socket
import struct
from typing import Any

import trio
from hypercorn.utils import parse_socket_addr

Address = tuple[str, int] | None

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def transport_of(stream: Any) -> Any:
    """The stream that carries the bytes: below TLS where there is TLS."""
    return stream.transport_stream if isinstance(stream, trio.SSLStream) else stream


def socket_of(stream: Any) -> trio.socket.SocketType | None:
    """The socket underneath, or None for a stream in memory."""
    return getattr(transport_of(stream), "socket", None)


def addresses(stream: Any) -> tuple[Address, Address]:
    """The client's and our own address. Raises OSError where the client has left already."""
    carrier = transport_of(stream)
    sock = socket_of(stream)
    if sock is not None:
        family = sock.family
        return parse_socket_addr(family, sock.getpeername()), parse_socket_addr(family, sock.getsockname())
    return getattr(carrier, "remote_address", None), getattr(carrier, "local_address", None)


def descriptor(stream: Any) -> int | None:
    """What ``os.write`` takes, where there is a socket."""
    sock = socket_of(stream)
    return None if sock is None else sock.fileno()


def half_close_at_once(stream: Any) -> bool:
    """Send FIN now, where that needs no waiting; false where it does."""
    sock = socket_of(stream)
    if sock is None:
        return False
    with contextlib.suppress(OSError):  # it has left
        sock.shutdown(socket.SHUT_WR)
    return True


async def half_close(stream: Any) -> None:
    """Send FIN and go on reading, where the stream can do that. TLS says no goodbye: the FIN goes out below it."""
    carrier = transport_of(stream)
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
        await carrier.send_eof()


def close(stream: Any) -> None:
    """Close now: what was written is still delivered (FIN). Closing twice is nothing. TLS says no goodbye."""
    carrier = transport_of(stream)
    sock = socket_of(stream)
    if sock is not None:
        sock.close()
    elif isinstance(carrier, trio.StapledStream):
        carrier.send_stream.close()
        carrier.receive_stream.close()
    else:
        carrier.close()


def abort(stream: Any) -> None:
    """Close now and drop what was written (RST), so that the client cannot take it for an end."""
    sock = socket_of(stream)
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    carrier = transport_of(stream)
    reset = getattr(carrier, "reset", None)
    if reset is not None:
        reset()
    else:
        close(stream)


class HangupWatch:
    """Sees the client's FIN or RST, even behind bytes that nobody has read.

    While a connection is held back nobody reads it, so nobody would see the client leave. The kernel knows: an epoll
    of its own tells of EPOLLRDHUP, and trio can wait for that epoll as for any descriptor. It is made at the first need
    and kept, for one that is held back once is held back again. Without a socket, without epoll or without a free
    descriptor, ``wait`` waits for ever: then the departure is seen when reading goes on.
    """

    def __init__(self, stream: Any) -> None:
        self._sock = socket_of(stream) if hasattr(select, "epoll") else None
        self._watch: select.epoll | None = None

    async def wait(self) -> None:
        """Until the client has left."""
        if self._watch is None and self._sock is not None:
            with contextlib.suppress(OSError):  # out of descriptors
                self._watch = select.epoll(1)
                self._watch.register(self._sock.fileno(), select.EPOLLRDHUP)
        if self._watch is None:
            await trio.sleep_forever()
        else:
            await trio.lowlevel.wait_readable(self._watch.fileno())

    def close(self) -> None:
        """Give the descriptor back. Whoever waits gets trio.ClosedResourceError."""
        if self._watch is not None:
            trio.lowlevel.notify_closing(self._watch.fileno())
            self._watch.close()
            self._watch = None
