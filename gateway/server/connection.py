"""One accepted connection: its bytes, its clock, and the wall between it and all the others.

What lives here: reading, writing, closing. What never will: HTTP. The protocol decides, synchronously, and this class
does what it says; so no decision can be cut in half by a cancellation.

The stock connection runs a task per idle period and shields every write. Here is one scope round the reading, whose
deadline the protocol moves; and a write that is cut off in the middle, by whatever scope, ends the connection, since
nobody could tell where in the stream it stopped.
"""

import contextlib
import os
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import AppWrapper, ConnectionState

from gateway.server import proxy_protocol, transport
from gateway.server.drain import Context
from gateway.server.failures import ClientGone, fatal_part
from gateway.server.protocols import Protocols
from gateway.server.proxy_protocol import Malformed
from gateway.server.streams import Departure
from gateway.server.tasks import Tasks

WRITES_PER_TURN = 16
"""Writes that may succeed at once before the other tasks get their turn: else one fast client starves the rest."""
PIECE = 16_384
"""Bytes per write where one cannot see how many of them went out: over TLS and in memory."""


StockArguments = tuple[
    AppWrapper,
    Config,
    Context,
    Tasks,
    ConnectionState,
    bool,
    transport.Address,
    transport.Address,
    Callable[[Event], Awaitable[None]],
]


class Connection(TCPServer):
    """Hypercorn's connection, walled off: whatever fails in here is logged and ends here."""

    protocol: Protocols
    context: Context

    def __init__(self, app: AppWrapper, config: Config, context: Context, state: ConnectionState, stream: Any) -> None:
        super().__init__(app, config, context, state, stream)
        self.limits = context.limits
        self.nursery: trio.Nursery
        """Where the apps of this connection run."""
        self.tasks: Tasks
        """The same for Hypercorn's streams."""
        self.gone = False
        """Nothing can be read or written any more."""
        self.departure: Departure | None = None
        """Why, where it is not that the client just left."""
        self.clock = trio.CancelScope()
        self._now = trio.lowlevel.current_clock().current_time
        self._due = inf
        """When ``protocol.timed_out`` is to be called; the scope's deadline may be sooner."""
        self._held: trio.CancelScope | None = None
        self._descriptor: int | None = None
        self._hangup = transport.HangupWatch(stream)
        self._at_once = 0
        self._writing = False
        self._writers = trio.lowlevel.ParkingLot()

    async def run(self) -> None:
        """Serve the connection until it is closed and its apps have ended. Raises no Exception.

        On cancellation the connection is closed and its apps are cancelled.
        """
        try:
            await self._converse()
        except BaseException as error:  # noqa: BLE001 -- what is fatal is raised again
            # Nothing that happens on one connection may reach another.
            fatal = fatal_part(error)
            if fatal is not error:
                await self.config.log.exception("A connection failed")
            if fatal is not None:
                raise fatal from None
        finally:
            self.lose()
            self.context.discard(self)
            if hasattr(self, "protocol"):
                del self.protocol  # which knows us: a cycle that holds all that was read last

    async def _converse(self) -> None:
        try:
            client, server = await self._addresses()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):  # it has left already
            return
        except (Malformed, trio.TooSlowError) as error:
            await self.config.log.warning("A connection from a proxy without its PROXY header is refused: %r", error)
            self.abort()
            return
        alpn = None
        secure = isinstance(self.stream, trio.SSLStream)
        if secure:
            try:
                with trio.fail_after(self.limits.handshake_timeout):
                    await self.stream.do_handshake()
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                return
            alpn = self.stream.selected_alpn_protocol()
        else:
            self._descriptor = transport.descriptor(self.stream)
        async with trio.open_nursery() as self.nursery:
            self.tasks = Tasks(self.nursery)
            self.protocol = Protocols(self, client, server, secure=secure, alpn=alpn)
            await self.protocol.initiate()
            while await self._read_until_clock() and await self.protocol.timed_out():
                pass
            self.lose()

    async def _addresses(self) -> tuple[transport.Address, transport.Address]:
        """Who is there and whom they called: by the socket, or by the word of a proxy that is believed."""
        client, server = transport.addresses(self.stream)
        if client is None or client[0] not in self.context.proxies:
            return client, server
        carrier = transport.transport_of(self.stream)
        data = b""
        with trio.fail_after(self.limits.handshake_timeout):
            while isinstance(header := proxy_protocol.parse(data), int):
                piece = await carrier.receive_some(header)
                if not piece:
                    raise trio.ClosedResourceError
                data += piece
        return header.source or client, header.destination or server

    async def _read_until_clock(self) -> bool:
        """Read until the client has left (false) or the clock has run out (true)."""
        while True:
            clock = self.clock
            with clock:
                await self._read_data()
            self.clock = trio.CancelScope()
            if self.gone or not clock.cancelled_caught:
                return False
            if self._due <= self._now():
                return True
            # It has been set anew since: what has begun must not be cut off.
            self.clock.deadline = self._due

    async def _read_data(self) -> None:
        while not self.gone:
            if not self.protocol.wants_data and not await self._hold_back():
                return
            try:
                data = await self._receive(self.protocol.read_size)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                return
            # What was on its way here when the connection was given up belongs to a request that is over. Read on, the
            # rest of its body would be taken for requests.
            if not data or self.gone:
                return
            await self.protocol.received(data)

    async def _hold_back(self) -> bool:
        """Wait until more bytes may come (true), or the connection is over (false).

        Over it may be in any turn of another task; the number of its descriptor is then somebody else's.
        """
        await trio.lowlevel.checkpoint()  # the app may just not have had its turn to take what came
        while not self.gone and not self.protocol.wants_data:
            with trio.CancelScope() as self._held:
                with contextlib.suppress(trio.ClosedResourceError):
                    await self._hangup.wait()
                return False
            self._held = None
        return not self.gone

    async def _receive(self, size: int) -> bytes:
        """Between 1 and ``size`` bytes, or ``b""`` at the end.

        A plain socket is waited for and then read, without trio's ceremony: that tries to read first, when the client
        is still busy with our answer, and costs more than the system calls.
        """
        if self._descriptor is None:
            return bytes(await self.stream.receive_some(size))
        while True:
            await trio.lowlevel.wait_readable(self._descriptor)
            if self.gone:  # closed since the wait was over; its number may be somebody else's by now
                return b""
            try:
                return os.read(self._descriptor, size)
            except BlockingIOError:
                continue

    def for_hypercorn(self, client: transport.Address, server: transport.Address, *, secure: bool) -> StockArguments:
        """What the constructors of Hypercorn's protocols take, in their order."""
        state = ConnectionState(self.state)
        return self.app, self.config, self.context, self.tasks, state, secure, client, server, self.protocol_send

    def read_on(self) -> None:
        """What held the client back is gone."""
        if self._held is not None:
            self._held.cancel()

    def rest(self) -> None:
        """No request is under way: let go of what only a busy connection needs, for there may be thousands idle."""
        if self._held is None:
            self._hangup.close()

    def set_clock(self, seconds: float) -> None:
        """From now on so long, then ``protocol.timed_out``; ``inf`` for no clock.

        trio's own deadline is only ever moved forward: to move one costs more than to look again when it has passed,
        and with every request it moves twice.
        """
        self._due = inf if seconds == inf else self._now() + seconds  # to ask for the time costs, too
        if self._due < self.clock.deadline:  # noqa: PLR1730 -- min() would move it every time
            self.clock.deadline = self._due

    async def turn(self) -> None:
        """Until this task may write. Raises ClientGone. Cancelled here, nothing of what it has to say is written."""
        if self._at_once >= WRITES_PER_TURN:
            self._at_once = 0
            await trio.lowlevel.checkpoint()
        while self._writing:
            await self._writers.park()
        if self.gone:
            raise ClientGone("the client has left")

    def pass_turn(self) -> None:
        """Let the next one in who waits for its turn: whoever had it and writes nothing must say so."""
        self._writers.unpark(count=1)

    async def write(self, data: bytes) -> None:
        """Write all of it, in turn with other writers.

        Raises ClientGone when the client has left, or has left no room for ``client_timeout`` seconds. Cancelled
        before the first byte, nothing happens; later, the connection is aborted.
        """
        await self.turn()
        rest: bytes | memoryview = data
        if self._descriptor is not None:
            self._at_once += 1
            try:
                sent = os.write(self._descriptor, data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.lose()
                raise ClientGone("the client has left") from error
            if sent == len(data):
                # Who writes all of it at once may have waited too, and others behind it.
                if self._writers:
                    self.pass_turn()
                return
            rest = memoryview(data)[sent:]
        self._writing = True
        try:
            await self._write_patiently(rest)
        finally:
            self._writing = False
            self.pass_turn()

    async def _write_patiently(self, data: bytes | memoryview) -> None:
        sock = transport.socket_of(self.stream) if self._descriptor is not None else None
        patience = self.limits.client_timeout
        try:
            with trio.CancelScope() as clock:
                while data:
                    # Every bit of progress winds the clock up again: a slow client is served, a stopped one is not.
                    clock.deadline = self._now() + patience
                    if sock is not None:
                        sent = await sock.send(data)
                    else:
                        await self.stream.send_all(data[:PIECE])
                        sent = PIECE
                    data = data[sent:]
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            self.lose()
            raise ClientGone("the client has left") from error
        except BaseException:
            self.abort()
            raise
        if clock.cancelled_caught:
            self.departure = Departure.TOO_SLOW
            self.abort()
            raise ClientGone("the client was too slow to read")

    async def protocol_send(self, event: Event) -> None:
        """Hypercorn's way for a protocol to talk to its connection."""
        if isinstance(event, RawData):
            await self.write(event.data)
        elif isinstance(event, Closed):
            self.lose()

    def lose(self, *, reset: bool = False) -> None:
        """The connection is over: close it, and tell everybody on it who still cares. Once is enough."""
        if self.gone:
            return
        self.gone = True
        self._hangup.close()
        if reset:
            transport.abort(self.stream)
        else:
            transport.close(self.stream)
        self._writers.unpark_all()
        self.read_on()
        if hasattr(self, "protocol"):
            self.protocol.client_left()

    def abort(self) -> None:
        """Close at once and drop what was written: the client must not take it for an end."""
        self.lose(reset=True)

    def linger(self) -> None:
        """Say that nothing more will come, and read on for a while, so that the client gets to read the last answer.

        To close while input is unread makes the kernel send RST, which takes the answer away from the client (RFC 9112
        section 9.6).
        """
        if not transport.half_close_at_once(self.stream):
            self.nursery.start_soon(transport.half_close, self.stream)
        self.set_clock(self.limits.linger_timeout)
        self.read_on()

    def prepare_to_retire(self) -> None:
        """See Drainable."""
        if hasattr(self, "protocol") and not self.gone:
            self.protocol.prepare_to_retire()

    def retire(self) -> None:
        """See Drainable. One whose handshake is not done yet has asked for nothing: it ends, and holds up nobody."""
        if not hasattr(self, "protocol"):
            self.lose()
        elif not self.gone:
            self.protocol.retire()
