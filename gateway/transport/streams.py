"""The three things a connection needs of a byte stream that trio's interfaces do not offer.

Whether something is there to be read, without reading it; closing at once, without waiting; and TLS on top. Each works
on ``trio.SocketStream``, on ``trio.SSLStream`` over one, and on any stream that has ``is_readable()`` and ``close()``
of its own, as in-memory ones have.
"""

import ssl
from typing import Protocol

import trio


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


Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream] | Pollable


def is_readable(stream: Stream) -> bool:
    """Whether bytes, the end of the stream or an error are waiting.

    On an idle connection each of the three means that it must not be used again. Over TLS a session ticket that comes
    late reads as bytes too: one connection is then opened for nothing, which is better than one answer too many.
    """
    match stream:
        case trio.SocketStream():
            return stream.socket.is_readable()
        case trio.SSLStream():
            return bool(stream.pending()) or is_readable(stream.transport_stream)
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


async def start_tls(stream: Stream, context: ssl.SSLContext, hostname: str) -> Stream:
    """Do the handshake as a client of ``hostname``. Whatever goes wrong, or cancelled, the stream is closed.

    Raises trio.BrokenResourceError where there is no TLS with the peer, or its certificate does not hold.
    """
    secure: trio.SSLStream[trio.SocketStream] = trio.SSLStream(
        stream,  # type: ignore[arg-type] # any trio stream will do; the annotation is for its transport_stream
        context,
        server_hostname=hostname,
        https_compatible=True,
    )
    try:
        await secure.do_handshake()
    except BaseException:
        abort(stream)
        raise
    return secure
