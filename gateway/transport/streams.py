"""What a connection needs of a byte stream beyond trio's interfaces.

Whether something is there to be read, without reading it; closing at once, without waiting; TLS on top; and for plain
sockets, reads and writes without trio's own ceremony, which costs more than the system call. Each works on
``trio.SocketStream``, on ``trio.SSLStream`` over one, and on any stream that has ``is_readable()`` and ``close()`` of
its own, as in-memory ones have.
"""

import os
import select
import ssl
from typing import Protocol

import trio

DEFAULT_READ = 65_536
"""Bytes asked for at once where the caller does not say."""


class ByteStream(Protocol):
    """What a connection asks of its stream: a trio stream, and no more of it than this."""

    async def send_all(self, data: bytes) -> None:
        """See trio.abc.SendStream."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See trio.abc.ReceiveStream."""


class Pollable(ByteStream, Protocol):
    """A stream that can be asked and closed without waiting."""

    def is_readable(self) -> bool:
        """Tell whether bytes, the end or an error are there to be read."""

    def close(self) -> None:
        """Close both directions at once."""


class PlainStream:
    """A TCP connection without trio's own ceremony, which costs more than the system calls do."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._descriptor = stream.socket.fileno()
        self._poll = select.poll()  # made once: to make one takes longer than to ask it
        self._poll.register(self._descriptor, select.POLLIN)

    def is_readable(self) -> bool:
        """See Pollable."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """See Pollable."""
        self._descriptor = -1  # its number may soon be another's
        self._stream.socket.close()

    async def send_all(self, data: bytes) -> None:
        """The write is tried first and waited for only where it must be; so this is no checkpoint.

        Raises NothingSent where not a byte was taken, trio.BrokenResourceError or ClosedResourceError where nobody
        knows how many were.
        """
        sent = 0
        while True:
            try:
                sent += os.write(self._descriptor, memoryview(data)[sent:] if sent else data)
            except BlockingIOError:
                pass
            except OSError as error:
                raise (trio.BrokenResourceError if sent else NothingSent)(str(error)) from error
            if sent == len(data):
                return
            await trio.lowlevel.wait_writable(self._descriptor)

    async def receive_some(self, max_bytes: int | None = None, *, patiently: bool = False) -> bytes:
        """See ByteStream; ``patiently``: nothing can be there yet, so wait first."""
        while (descriptor := self._descriptor) >= 0:  # looked at anew behind each wait
            if patiently:
                await trio.lowlevel.wait_readable(descriptor)
                patiently = False
                continue
            try:
                return os.read(descriptor, max_bytes or DEFAULT_READ)
            except BlockingIOError:
                patiently = True
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
        raise trio.ClosedResourceError("the connection was closed")


Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream] | Pollable


class NothingSent(trio.BrokenResourceError):
    """The connection was found broken before a byte of the data was taken."""


def plain(stream: Stream) -> Stream:
    """The same stream, a plain socket's without the ceremony."""
    return PlainStream(stream) if isinstance(stream, trio.SocketStream) else stream


def tells_of_reset(error: BaseException) -> bool:
    """Whether what a write raised was a reset that came before the end of the stream.

    The kernel tells of a reset once, to the first who asks: a reader then finds what looks like a clean end. Behind the
    end it is EPIPE instead, and what was read is whole.
    """
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, ConnectionResetError):
        reason = reason.__cause__
    return reason is not None


def is_readable(stream: Stream) -> bool:
    """Whether bytes, the end of the stream or an error are waiting.

    On an idle connection each of the three means that it must not be used again. Over TLS a session ticket that comes
    late reads as bytes too: one connection is then opened for nothing, which is better than one answer too many.
    """
    match stream:
        case trio.SocketStream():
            return stream.socket.is_readable()
        case trio.SSLStream():
            # Deciphered and not read, taken off the wire and not deciphered, still on the wire. Without the second, an
            # unasked answer in one segment with the last one would answer the next request.
            undeciphered = stream._incoming.pending  # noqa: SLF001 -- trio has no public word for it
            return bool(stream.pending() or undeciphered) or is_readable(stream.transport_stream)
        case _:
            return stream.is_readable()


def abort(stream: Stream) -> None:
    """Close at once, without a TLS goodbye. Whoever waits on the stream gets ClosedResourceError.

    Synchronous on purpose: the tempting ``await stream.aclose()`` in a ``finally`` is itself cancelled, and over TLS it
    would first try to send.
    """
    match stream:
        case trio.SocketStream():
            stream.socket.close()
        case trio.SSLStream():
            abort(stream.transport_stream)
        case _:
            stream.close()


async def receive_some(stream: Stream, size: int, *, patiently: bool = False) -> bytes:
    """Between 1 and ``size`` bytes, or ``b""`` at the end. ``patiently``: nothing can be there yet, so wait first.

    Raises trio.BrokenResourceError, and ClosedResourceError where the stream was closed here.
    """
    if isinstance(stream, PlainStream):
        return await stream.receive_some(size, patiently=patiently)
    return bytes(await stream.receive_some(size))


async def start_tls(stream: Stream, context: ssl.SSLContext, hostname: str) -> Stream:
    """Do the handshake as a client of ``hostname``. Whatever goes wrong, or cancelled, the stream is closed.

    Raises trio.BrokenResourceError where there is no TLS with the peer, or its certificate does not hold.
    """
    try:
        secure: trio.SSLStream[trio.SocketStream] = trio.SSLStream(
            stream,  # type: ignore[arg-type] # any trio stream will do; the annotation is for its transport_stream
            context,
            server_hostname=hostname,
            https_compatible=True,
        )
        await secure.do_handshake()
    except BaseException:
        abort(stream)
        raise
    return secure
