"""Byte streams in memory that behave as TCP connections do, on trio's clock alone.

What lives here: the two ends of one connection, with bounded buffers, half-close and reset, and the exceptions that
``trio.SocketStream`` would raise. What never will: addresses and who connects to them, HTTP, a thread, a real second.

The rules are those of Linux, seen through ``trio.SocketStream``; the kit's tests run the same table over both:

    ==============================  ===================================  ===============================================
    what one end does               the other end reads                  the other end writes
    ==============================  ===================================  ===============================================
    ``send_eof()``                  what was sent, then ``b""``          as before
    ``close()``, all bytes read     what was sent, then ``b""``          once into the void, then BrokenResourceError
    ``close()``, bytes left unread  what was sent, then Broken… (once)   BrokenResourceError
    ``reset()``                     what was sent, then Broken… (once)   BrokenResourceError
    ==============================  ===================================  ===============================================

*Once*, because the kernel tells a reset to the first who asks, reader or writer, and says "end of stream" from then on.
So a reader behind a failed write sees ``b""``: whoever takes that for a clean end has a bug, here as on sockets.
"""

import operator
from collections.abc import Callable
from typing import Final, TypeAlias

import trio

Address: TypeAlias = tuple[str, int]
"""Host name or IP, and port: what ``getsockname`` says of a socket."""

BUFFER_SIZE: Final = 65536
"""Bytes that one direction holds before ``send_all`` blocks, unless told otherwise."""

FIRST_EPHEMERAL_PORT: Final = 49152


class _Guard:
    """Lets one task in; the second gets :exc:`trio.BusyResourceError`, as on a socket."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._held = False

    def __enter__(self) -> None:
        if self._held:
            raise trio.BusyResourceError(f"another task is currently {self._doing} this stream")
        self._held = True

    def __exit__(self, *_exc: object) -> None:
        self._held = False


class _Direction:
    """The bytes on their way from one end to the other: all that the two ends share."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buffer = bytearray()
        self.ended = False
        """The sender's FIN: behind the bytes comes the end."""
        self.reset = False
        """The sender's RST: behind the bytes comes an error."""
        self.refuses = False
        """The receiver's RST: no byte is taken any more."""
        self.unattended = False
        """The receiver is closed: it answers the next byte with a RST."""
        self.reader = trio.lowlevel.ParkingLot()
        self.writer = trio.lowlevel.ParkingLot()
        self.hangup = trio.lowlevel.ParkingLot()

    @property
    def room(self) -> int:
        return self.capacity - len(self.buffer)

    def wake(self) -> None:
        self.reader.unpark_all()
        self.writer.unpark_all()
        self.hangup.unpark_all()

    def end(self) -> None:
        self.ended = True
        self.wake()

    def put(self, data: memoryview) -> int:
        """Take what fits, at once. Returns how many bytes that was."""
        if self.unattended:
            # The tempting way is to fail here. TCP cannot: the kernel takes the bytes, and only their RST tells.
            # This is why a request on a stale connection seems to have been sent.
            self.refuses = True
            return min(len(data), self.capacity)
        taken = data[: self.room]
        self.buffer += taken
        self.reader.unpark_all()
        return len(taken)

    def take(self, limit: int) -> bytes:
        data = bytes(self.buffer[:limit])
        del self.buffer[:limit]
        self.writer.unpark_all()
        return data


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory. See the module's docstring for what the other end sees.

    Cancelled while it waits, ``receive_some`` loses nothing; ``send_all`` has sent a part that nobody knows, as with
    sockets. Made by :meth:`MemoryNetwork.connect`, :meth:`MemoryListener.accept` and :func:`memory_stream_pair`.
    """

    def __init__(  # noqa: PLR0913 - private to this module: both directions, both addresses, and who keeps the books
        self,
        incoming: _Direction,
        outgoing: _Direction,
        *,
        local_address: Address,
        remote_address: Address,
        opened_by: str,
        on_close: Callable[["MemoryStream"], None],
    ) -> None:
        self.local_address = local_address
        self.remote_address = remote_address
        self.opened_by = opened_by
        """Name of the task that connected or accepted: who forgot it, when it is still open at the end."""
        self._incoming = incoming
        self._outgoing = outgoing
        self._on_close = on_close
        self._closed = False
        self._eof_sent = False
        self._reset_told = False
        self._sending = _Guard("sending on")
        self._receiving = _Guard("receiving from")

    def __repr__(self) -> str:
        state = "closed" if self._closed else "half-closed" if self._outgoing.ended else "open"
        incoming = self._incoming
        news = f", {len(incoming.buffer)} bytes unread" if incoming.buffer else ""
        news += ", peer ended" if incoming.ended else ", peer reset" if incoming.reset else ""
        ends = f"{address_text(self.local_address)} ⇄ {address_text(self.remote_address)}"
        return f"<MemoryStream {ends} {state}{news}, by {self.opened_by}>"

    @property
    def closed(self) -> bool:
        """Whether this end was closed, by whichever method."""
        return self._closed

    def is_readable(self) -> bool:
        """Whether ``receive_some`` would return (or raise) at once: bytes, the end, a reset, or closed here."""
        incoming = self._incoming
        return bool(incoming.buffer) or incoming.ended or incoming.reset or self._closed

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``, waiting for room as often as it takes.

        :raises trio.ClosedResourceError: closed here, before or meanwhile, or after :meth:`send_eof`.
        :raises trio.BrokenResourceError: the other end is closed or was reset.
        :raises trio.BusyResourceError: another task is sending.
        """
        with self._sending, memoryview(data).cast("B") as view:
            self._check_open()
            if self._eof_sent:
                raise trio.ClosedResourceError("can't send data after sending EOF")
            if not view:
                await trio.lowlevel.checkpoint()
            sent = 0
            while sent < len(view):
                with view[sent:] as rest:
                    sent += await self._send_what_fits(rest)

    async def send_some(self, data: bytes | bytearray | memoryview) -> int:
        """Send what there is room for, at least one byte; tell how many. Cancelled, not a byte was sent.

        As ``send`` of a socket. Raises as :meth:`send_all`.
        """
        with self._sending, memoryview(data).cast("B") as view:
            self._check_open()
            if self._eof_sent:
                raise trio.ClosedResourceError("can't send data after sending EOF")
            return await self._send_what_fits(view)

    async def wait_send_all_might_not_block(self) -> None:
        """Return once there is room, or once sending would fail at once.

        :raises trio.ClosedResourceError: closed here, before or meanwhile.
        :raises trio.BusyResourceError: another task is sending.
        """
        with self._sending:
            self._check_open()
            await self._wait_writable()
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def send_eof(self) -> None:
        """End this direction (FIN); the other one lives on. Again is harmless.

        :raises trio.ClosedResourceError: closed here.
        :raises trio.BusyResourceError: another task is sending.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            if self._eof_sent:
                return
            self._check_open()
            if self._outgoing.refuses:
                raise trio.BrokenResourceError("the connection was reset by the other end")
            self._eof_sent = True
            self._outgoing.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive between 1 and ``max_bytes`` bytes (65536 unless told), ``b""`` at the end of the stream.

        :raises trio.ClosedResourceError: closed here, before or meanwhile.
        :raises trio.BrokenResourceError: reset by the other end.
        :raises trio.BusyResourceError: another task is receiving.
        """
        max_bytes = BUFFER_SIZE if max_bytes is None else operator.index(max_bytes)
        if max_bytes < 1:
            raise ValueError("max_bytes must be >= 1")
        incoming = self._incoming
        with self._receiving:
            self._check_open()
            await trio.lowlevel.checkpoint_if_cancelled()
            while not self.is_readable():
                await incoming.reader.park()
            self._check_open()
            data = incoming.take(max_bytes)
            if not (data or incoming.ended or self._reset_told):
                self._reset_told = True
                raise trio.BrokenResourceError("the connection was reset by the other end")
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data

    def close(self) -> None:
        """Close both directions at once; bytes left unread make it a reset.

        Tasks waiting in this stream get :exc:`trio.ClosedResourceError`.
        """
        if self._closed:
            return
        if self._incoming.buffer:
            self.reset()
        else:
            self._outgoing.end()
            self._shut()

    def reset(self) -> None:
        """Close with a RST instead of a FIN (a socket's ``SO_LINGER`` of 0): the other end gets BrokenResourceError."""
        if self._closed:
            return
        self._outgoing.reset = True
        self._incoming.refuses = True
        self._shut()

    async def wait_for_hangup(self) -> None:
        """Return once the other end has ended, closed or reset, even while bytes before that stand unread.

        A socket has this as ``EPOLLRDHUP``. Returns also once this end is closed.
        """
        await trio.lowlevel.checkpoint()
        while not (self._incoming.ended or self._incoming.reset or self._closed):
            await self._incoming.hangup.park()

    async def aclose(self) -> None:
        """Close as :meth:`close` does, and checkpoint. Cancelled, it is closed all the same."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _shut(self) -> None:
        self._closed = True
        self._incoming.buffer.clear()
        self._incoming.unattended = True
        self._incoming.wake()
        self._outgoing.wake()
        self._on_close(self)

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed here")

    async def _send_what_fits(self, data: memoryview) -> int:
        await self._wait_writable()
        if self._outgoing.refuses:
            self._reset_told = True
            raise trio.BrokenResourceError("the connection was reset by the other end")
        sent = self._outgoing.put(data)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return sent

    async def _wait_writable(self) -> None:
        outgoing = self._outgoing
        await trio.lowlevel.checkpoint_if_cancelled()
        # A connection that can only fail is writable, as a socket with an error is: the next send tells.
        while not (self._closed or outgoing.room or outgoing.refuses or outgoing.unattended):
            await outgoing.writer.park()
        self._check_open()


def memory_stream_pair(
    buffer_size: int = BUFFER_SIZE,
    *,
    client: Address = ("127.0.0.1", FIRST_EPHEMERAL_PORT),
    server: Address = ("127.0.0.1", 80),
    on_close: Callable[[MemoryStream], None] = lambda _stream: None,
) -> tuple[MemoryStream, MemoryStream]:
    """Two ends connected to each other: client, server. ``buffer_size`` bytes in each direction.

    ``on_close`` is called with each end when that end is closed here.
    """
    up, down = _Direction(buffer_size), _Direction(buffer_size)
    who = task_name()
    return (
        MemoryStream(down, up, local_address=client, remote_address=server, opened_by=who, on_close=on_close),
        MemoryStream(up, down, local_address=server, remote_address=client, opened_by=who, on_close=on_close),
    )


def task_name() -> str:
    """Name of the task that asks."""
    return trio.lowlevel.current_task().name


def address_text(address: Address) -> str:
    """``host:port``."""
    return f"{address[0]}:{address[1]}"
