"""A network in memory: addresses, listeners and streams that behave as TCP does, on trio's clock alone.

What lives here: where a connection goes (refused, unknown, a black hole, late) and what its two ends then see: bounded
buffers, half-close, reset, and the exceptions that ``trio.SocketStream`` would raise. What never will: HTTP, pytest, a
thread, a real socket, a real second.

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

import errno
import operator
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    @contextmanager
    def held(self) -> "Iterator[None]":
        if self._held:
            raise trio.BusyResourceError(f"another task is currently {self._doing} this stream")
        self._held = True
        try:
            yield
        finally:
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
        ends = f"{_text(self.local_address)} ⇄ {_text(self.remote_address)}"
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
        with self._sending.held(), memoryview(data).cast("B") as view:
            self._check_open()
            if self._eof_sent:
                raise trio.ClosedResourceError("can't send data after sending EOF")
            if not view:
                await trio.lowlevel.checkpoint()
            sent = 0
            while sent < len(view):
                await self._wait_writable()
                if self._outgoing.refuses:
                    self._reset_told = True
                    raise trio.BrokenResourceError("the connection was reset by the other end")
                with view[sent:] as rest:
                    sent += self._outgoing.put(rest)
                await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Return once there is room, or once sending would fail at once.

        :raises trio.ClosedResourceError: closed here, before or meanwhile.
        :raises trio.BusyResourceError: another task is sending.
        """
        with self._sending.held():
            self._check_open()
            await self._wait_writable()
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def send_eof(self) -> None:
        """End this direction (FIN); the other one lives on. Again is harmless.

        :raises trio.ClosedResourceError: closed here.
        :raises trio.BusyResourceError: another task is sending.
        """
        with self._sending.held():
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
        with self._receiving.held():
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

    async def _wait_writable(self) -> None:
        outgoing = self._outgoing
        await trio.lowlevel.checkpoint_if_cancelled()
        # A connection that can only fail is writable, as a socket with an error is: the next send tells.
        while not (self._closed or outgoing.room or outgoing.refuses or outgoing.unattended):
            await outgoing.writer.park()
        self._check_open()


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """A listening address. A connection is made before it is accepted, as the kernel does it, up to ``backlog``."""

    def __init__(
        self, address: Address, *, buffer_size: int, backlog: int, on_close: Callable[["MemoryListener"], None]
    ) -> None:
        self.local_address = address
        self.buffer_size = buffer_size
        self.backlog = backlog
        self._on_close = on_close
        self._pending: deque[MemoryStream] = deque()
        self._closed = False
        self._acceptable = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._pending)} waiting to be accepted"
        return f"<MemoryListener {_text(self.local_address)}, {state}>"

    async def accept(self) -> MemoryStream:
        """Wait for a connection and return its server end.

        :raises trio.ClosedResourceError: closed here, before or meanwhile.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._pending:
            if self._closed:
                raise trio.ClosedResourceError("this listener is closed")
            await self._acceptable.park()
        stream = self._pending.popleft()
        stream.opened_by = _task_name()
        self._room.unpark()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return stream

    async def deliver(self, make: Callable[[], tuple[MemoryStream, MemoryStream]]) -> MemoryStream:
        """Queue the server end of what ``make`` makes and return the client's; wait while the backlog is full.

        :raises ConnectionRefusedError: closed while waiting.
        """
        while len(self._pending) >= self.backlog and not self._closed:
            await self._room.park()
        if self._closed:
            raise _refused(self.local_address)
        client, server = make()
        self._pending.append(server)
        self._acceptable.unpark()
        return client

    def close(self) -> None:
        """Stop listening: connections not yet accepted are reset, further ones refused."""
        if self._closed:
            return
        self._closed = True
        self._on_close(self)
        while self._pending:
            self._pending.popleft().reset()
        self._acceptable.unpark_all()
        self._room.unpark_all()

    async def aclose(self) -> None:
        """Close as :meth:`close` does, and checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()


@dataclass
class _Weather:
    """What a connection to one address meets on its way."""

    delay: float = 0.0
    error: OSError | None = None
    black_hole: bool = False
    black_hole_until: trio.Event = field(default_factory=trio.Event)


class MemoryNetwork:
    """Addresses, and what happens to connections on their way to them.

    ``connect`` has the shape of ``trio.open_tcp_stream``, so it plugs in wherever a gateway asks for a connection. Host
    names are compared as they are written; nothing is resolved.
    """

    def __init__(self, *, buffer_size: int = BUFFER_SIZE) -> None:
        self.buffer_size = buffer_size
        self.connects: list[Address] = []
        """Every connection attempt in order, refused and lost ones included."""
        self._listeners: dict[Address, MemoryListener] = {}
        self._open: dict[MemoryStream, None] = {}  # a set that keeps the order of opening
        self._weather: dict[Address, _Weather] = {}
        self._unknown_names: set[str] = set()
        self._next_port = FIRST_EPHEMERAL_PORT

    def __repr__(self) -> str:
        lines = [f"<MemoryNetwork: {len(self._listeners)} listeners, {len(self._open)} open streams>"]
        lines += [f"  {listener!r}" for listener in self._listeners.values()]
        lines += [f"  {stream!r}" for stream in self._open]
        return "\n".join(lines)

    @property
    def open_streams(self) -> list[MemoryStream]:
        """Every end of a connection that nobody has closed, oldest first, those not yet accepted included."""
        return list(self._open)

    @property
    def listeners(self) -> list[MemoryListener]:
        """Everything that listens."""
        return list(self._listeners.values())

    def listen(
        self, host: str, port: int = 0, *, buffer_size: int | None = None, backlog: int = 4096
    ) -> MemoryListener:
        """Listen at ``host:port``; port 0 takes a free one (see ``listener.local_address``).

        ``buffer_size`` is that of each direction of its connections, in bytes; ``backlog`` how many connections may
        wait to be accepted.

        :raises OSError: ``EADDRINUSE``.
        """
        if port == 0:
            port = self._free_port()
        address = (host, port)
        if address in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {_text(address)}")
        listener = MemoryListener(
            address, buffer_size=buffer_size or self.buffer_size, backlog=backlog, on_close=self._forget_listener
        )
        self._listeners[address] = listener
        return listener

    async def connect(self, host: str, port: int, *, source: str = "127.0.0.1") -> MemoryStream:
        """Connect to ``host:port``, seen there as coming from the address ``source``.

        Cancelled on its way, it leaves nothing behind.

        :raises ConnectionRefusedError: nobody listens there.
        :raises socket.gaierror: the name was declared unknown (:meth:`unknown_name`).
        :raises OSError: whatever :meth:`fail` was told.
        """
        await trio.lowlevel.checkpoint()
        address = (host, port)
        self.connects.append(address)
        if host in self._unknown_names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        weather = self._weather.get(address, _Weather())
        if weather.black_hole:
            await weather.black_hole_until.wait()
        if weather.delay:
            await trio.sleep(weather.delay)
        if weather.error is not None:
            # A fresh one for each: an exception raised twice gathers the tracebacks of both.
            raise type(weather.error)(*weather.error.args)
        listener = self._listeners.get(address)
        if listener is None:
            raise _refused(address)
        here = (source, self._free_port())
        return await listener.deliver(lambda: self._pair(here, address, listener.buffer_size))

    def black_hole(self, host: str, port: int) -> None:
        """From now on, connecting there never returns: packets to it get lost. :meth:`heal` lets them through."""
        self._weather.setdefault((host, port), _Weather()).black_hole = True

    def delay(self, host: str, port: int, seconds: float) -> None:
        """From now on, connecting there takes ``seconds``, whatever comes of it."""
        self._weather.setdefault((host, port), _Weather()).delay = seconds

    def fail(self, host: str, port: int, error: OSError) -> None:
        """From now on, connecting there raises a copy of ``error``, e.g. ``OSError(errno.EHOSTUNREACH, "…")``."""
        self._weather.setdefault((host, port), _Weather()).error = error

    def unknown_name(self, host: str) -> None:
        """From now on, ``host`` is a name that does not resolve, on any port."""
        self._unknown_names.add(host)

    def heal(self, host: str, port: int) -> None:
        """Take back all of the above; connections waiting in the black hole go on."""
        self._unknown_names.discard(host)
        weather = self._weather.pop((host, port), None)
        if weather is not None:
            weather.delay = 0.0
            weather.error = None
            weather.black_hole_until.set()

    def _free_port(self) -> int:
        self._next_port += 1
        return self._next_port - 1

    def _pair(self, client: Address, server: Address, buffer_size: int) -> tuple[MemoryStream, MemoryStream]:
        return _make_pair(client, server, buffer_size, on_open=self._remember, on_close=self._forget)

    def _remember(self, stream: MemoryStream) -> None:
        self._open[stream] = None

    def _forget(self, stream: MemoryStream) -> None:
        self._open.pop(stream, None)

    def _forget_listener(self, listener: MemoryListener) -> None:
        self._listeners.pop(listener.local_address, None)


def memory_stream_pair(
    buffer_size: int = BUFFER_SIZE,
    *,
    client: Address = ("127.0.0.1", FIRST_EPHEMERAL_PORT),
    server: Address = ("127.0.0.1", 80),
) -> tuple[MemoryStream, MemoryStream]:
    """Two ends connected to each other, without a network: client, server. ``buffer_size`` bytes in each direction."""
    return _make_pair(client, server, buffer_size, on_open=_nothing, on_close=_nothing)


def _make_pair(
    client: Address,
    server: Address,
    buffer_size: int,
    *,
    on_open: Callable[[MemoryStream], None],
    on_close: Callable[[MemoryStream], None],
) -> tuple[MemoryStream, MemoryStream]:
    up, down = _Direction(buffer_size), _Direction(buffer_size)
    who = _task_name()
    near = MemoryStream(down, up, local_address=client, remote_address=server, opened_by=who, on_close=on_close)
    far = MemoryStream(
        up, down, local_address=server, remote_address=client, opened_by="nobody yet: not accepted", on_close=on_close
    )
    on_open(near)
    on_open(far)
    return near, far


def _nothing(_stream: MemoryStream) -> None:
    pass


def _task_name() -> str:
    return trio.lowlevel.current_task().name


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def _refused(address: Address) -> ConnectionRefusedError:
    return ConnectionRefusedError(errno.ECONNREFUSED, f"{os.strerror(errno.ECONNREFUSED)}: {_text(address)}")
