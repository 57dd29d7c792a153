"""Clients and a backend of the properties: bytes in packets, in memory, and what each end made of them.

What never lives here: expectations.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio

from gateway.config import Settings
from gateway.testing.app import TWO_SERVICES, RunningGateway, running_gateway
from gateway.testing.backend import Backend, Connection
from gateway.testing.network import MemoryNetwork
from gateway.testing.peer import Peer, PeerGoneError

from . import strict
from .messages import Ask, pieces
from .strict import End, Message

TICK = 0.001
"""Seconds between two packets: each is looked at before the next one comes."""
MOMENT = 0.5
"""Seconds to wait for what should not come."""


async def send_in_packets(peer: Peer, data: bytes, lengths: list[int]) -> None:
    """Send ``data`` in packets of these lengths. Raises PeerGoneError."""
    for packet in pieces(data, lengths):
        await peer.send(packet)
        await trio.sleep(TICK)


class Requests:
    """Reads the requests on a backend's connection, by the second reader."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._at = 0

    async def next(self, *, head: bool = False) -> Message:
        """The next whole request; ``head``: as soon as its head is there, and once more later.

        Raises PeerGoneError where it does not come, AssertionError where what comes is none.
        """
        while True:
            found, wrong = strict.requests(self.connection.received[self._at :])
            assert wrong is None, f"the backend was sent nonsense: {wrong} in {self.connection.received!r}"
            if found and found[0].whole and not head:
                self._at += found[0].ends_at
                return found[0]
            if found and head:
                return found[0]
            if not await self.connection.receive():
                raise PeerGoneError


@dataclass
class Seen:
    """What a client saw of an exchange."""

    answer: strict.Answer
    end: End

    @property
    def final(self) -> Message:
        assert self.answer.final is not None, "no answer"
        return self.answer.final

    @property
    def failed(self) -> bool:
        """Whether the client can see that something went wrong: a failure told by the gateway, or a broken answer."""
        if self.answer.wrong is not None or not self.answer.whole:
            return True
        said = self.final.all(b"proxy-status")
        return any(value.startswith(b"api-gateway; error=") for value in said)


async def ask_http1(gateway: RunningGateway, data: bytes, lengths: list[int], method: bytes) -> Seen:
    """Send ``data`` on a connection of its own, and read what comes: one answer, and a moment longer."""
    async with await gateway.raw_client() as client:
        async with trio.open_nursery() as nursery:

            async def talk() -> None:
                with suppress(PeerGoneError, trio.ClosedResourceError):
                    await send_in_packets(client, data, lengths)

            nursery.start_soon(talk)
            end = End.OPEN
            patience = float("inf")
            while end is End.OPEN:
                more = None
                with trio.move_on_after(patience):
                    more = await client.receive()
                if more is None:
                    break
                if not more:
                    end = End.RST if client.was_reset else End.FIN
                elif strict.answer(client.received, method, End.OPEN).whole:
                    patience = MOMENT
            nursery.cancel_scope.cancel()
        return Seen(strict.answer(client.received, method, end), end)


@dataclass
class _Stream:
    informational: list[Message] = field(default_factory=list)
    final: Message | None = None
    over: bool = False


class Http2Client:
    """HTTP/2 by hyper-h2, with a window for everything; what it says goes out when it is told to."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**24})
        self.h2.increment_flow_control_window(2**24)
        self.streams: dict[int, _Stream] = {}
        self.gone = False

    def stream(self, stream_id: int) -> _Stream:
        return self.streams.setdefault(stream_id, _Stream())

    async def receive(self) -> None:
        """Take what came, one piece."""
        data = await self.peer.receive()
        if not data:
            self.gone = True
            return
        for event in self.h2.receive_data(data):
            self._take(event)
        await self.flush()

    async def flush(self) -> None:
        if data := self.h2.data_to_send():
            try:
                await self.peer.send(data)
            except PeerGoneError:
                self.gone = True

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.InformationalResponseReceived() | h2.events.ResponseReceived():
                fields = [(bytes(name), bytes(value)) for name, value in event.headers or []]
                status = fields[0][1]
                message = Message((b"HTTP/2", status, b""), fields[1:])
                if isinstance(event, h2.events.ResponseReceived):
                    self.stream(event.stream_id).final = message
                else:
                    self.stream(event.stream_id).informational.append(message)
            case h2.events.DataReceived():
                final = self.stream(event.stream_id).final
                assert final is not None
                final.body += event.data or b""
            case h2.events.TrailersReceived():
                final = self.stream(event.stream_id).final
                assert final is not None
                final.trailers = [(bytes(name), bytes(value)) for name, value in event.headers or []]
            case h2.events.StreamEnded():
                stream = self.stream(event.stream_id)
                assert stream.final is not None
                stream.over = stream.final.whole = True
            case h2.events.StreamReset():
                # After the end of an answer a reset only stops the upload (RFC 9113 section 8.1).
                self.stream(event.stream_id).over = True

    def seen(self, stream_id: int) -> Seen:
        stream = self.stream(stream_id)
        end = End.FIN if stream.final is not None and stream.final.whole else End.RST
        return Seen(strict.Answer(stream.informational, stream.final, b"", None), end)


async def ask_http2(gateway: RunningGateway, ask: Ask, lengths: list[int]) -> Seen:
    """Ask on a connection of its own, whose every byte goes out in packets of these lengths."""
    async with await gateway.raw_client() as peer:
        client = Http2Client(peer)
        ask.http2(client.h2, 1)
        data = client.h2.data_to_send()
        async with trio.open_nursery() as nursery:

            async def talk() -> None:
                try:
                    await send_in_packets(peer, data, lengths)
                except PeerGoneError:
                    return
                while not (client.stream(1).over or client.gone):
                    await client.receive()
                nursery.cancel_scope.cancel()

            nursery.start_soon(talk)
        return client.seen(1)


Version = Literal[0, 1, 2]
"""Of the client: HTTP/1.0, HTTP/1.1, HTTP/2."""


async def ask_gateway(gateway: RunningGateway, ask: Ask, lengths: list[int], version: Version) -> Seen:
    if version == 2:
        return await ask_http2(gateway, ask, lengths)
    return await ask_http1(gateway, ask.http1(minor=version), lengths, ask.method)


Script = Callable[[Connection], Awaitable[None]]


@asynccontextmanager
async def world(
    script: Script, settings: Settings = TWO_SERVICES, *, hosts: Sequence[str] = ("service1",)
) -> AsyncIterator[tuple[RunningGateway, Backend]]:
    """A gateway before new backends that all do the same; gives the first of them. No defect may be logged."""
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(Backend(network, host, 8001, script)) for host in hosts]
        async with running_gateway(network, settings) as gateway:
            yield gateway, backends[0]
            assert [event for event in gateway.events if event["level"] == "ERROR"] == []


class Exchange(NamedTuple):
    """One request, and what the backend says to it, whatever that is."""

    ask: Ask
    answer: bytes
    end: End = End.OPEN
    """What the backend does then."""
    packets: tuple[list[int], list[int]] = ([], [])
    """Their lengths: the client's, the backend's."""
    version: Version = 1


async def exchange(several: Sequence[Exchange]) -> list[tuple[list[Message], Seen]]:
    """One exchange after another, through one gateway, each from a client of its own.

    Gives for each what the backend had of the request, once for each time that it had it whole; and what the client
    saw. Between two of them everything has been said, so that connections to the backend may be used again.
    """
    results: list[tuple[list[Message], Seen]] = []
    asked: list[Message] = []
    current = several[0]

    async def script(conn: Connection) -> None:
        requests = Requests(conn)
        while True:
            asked.append(await requests.next())
            await send_in_packets(conn, current.answer, current.packets[1])
            if current.end is End.RST:
                conn.reset()
            if current.end is not End.OPEN:
                return

    async with world(script) as (gateway, _):
        for current in several:
            asked.clear()
            seen = await ask_gateway(gateway, current.ask, current.packets[0], current.version)
            await trio.sleep(MOMENT)
            results.append(([*asked], seen))
    return results
