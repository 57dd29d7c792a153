"""A raw client of HTTP/2: streams opened, fed, reset and left alone as a test says.

What lives here: one connection by prior knowledge or over TLS, and what was seen of each stream. What never will:
politeness. Windows are opened only as far as the client is told to read, and what h2 refuses to send can go out raw.
"""

from collections.abc import Iterable
from typing import Any, Self

import h2.connection
import h2.events
import h2.exceptions
import trio
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import Frame, GoAwayFrame

from gateway.testing import sockets
from gateway.testing.network import Network
from gateway.testing.peer import PeerGoneError
from gateway.testing.streams import Address

Fields = list[tuple[bytes, bytes]]


class _PatientConnection(h2.connection.H2Connection):
    """h2's own, but a GOAWAY does not keep it from reading the answers to what was asked before (RFC 9113 6.8)."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        event = h2.events.ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class H2Stream:
    """What a client has seen of one stream."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.headers: Fields = []
        """Of the final answer, ``:status`` included."""
        self.informational: list[int] = []
        """The status of each 1xx."""
        self.body = bytearray()
        self.trailers: Fields = []
        self.ended = False
        """Whether it ended as it should, with END_STREAM."""
        self.reset: int | None = None
        """The error code of RST_STREAM, sent or received; -1 where the connection ended."""

    @property
    def status(self) -> int | None:
        """Of the final answer; None before it."""
        return int(dict(self.headers)[b":status"]) if self.headers else None

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended or self.reset is not None


class H2Client:
    """One connection. Several tasks may use it at once; one of them, or ``run`` in a task of its own, reads.

    ``greedy`` gives back the window of what was read at once; else windows shut and stay so. ``window`` is the initial
    window of its streams in bytes. Sending raises PeerGoneError once the connection is over. Cancelled while sending,
    the bytes go out with whatever is sent next.
    """

    def __init__(self, stream: trio.abc.Stream, *, greedy: bool = True, window: int | None = None) -> None:
        self.stream = stream
        self.greedy = greedy
        self.h2 = _PatientConnection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        if window is not None:
            self.h2.local_settings.update({SettingCodes.INITIAL_WINDOW_SIZE: window})
            self.h2.local_settings.acknowledge()
        self.streams: dict[int, H2Stream] = {}
        self.goaway: h2.events.ConnectionTerminated | None = None
        """The last GOAWAY."""
        self.closed = False
        """Whether the other end has ended or reset the connection, or this end has closed it."""
        self.local_address: Address = sockets.addresses(stream)[0]
        self._turn = trio.Lock()
        self._unsent = bytearray()
        self._news = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> Self:
        self.h2.initiate_connection()
        await self.flush()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    @property
    def full(self) -> bool:
        """Whether no more streams may be opened here: too many are open, or the server has said goodbye."""
        at_most = self.h2.remote_settings.max_concurrent_streams
        return self.closed or self.goaway is not None or self.h2.open_outbound_streams >= at_most

    def close(self) -> None:
        """Close at once."""
        sockets.close(self.stream)
        self._over()

    def abort(self) -> None:
        """Close at once with a RST."""
        sockets.reset(self.stream)
        self._over()

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are, behind what waits."""
        await self._write(data)

    async def flush(self) -> None:
        """Send what h2 holds ready."""
        await self._write(b"")

    async def request(
        self,
        path: bytes,
        *,
        method: bytes = b"GET",
        authority: bytes = b"gateway",
        headers: Iterable[tuple[bytes, bytes]] = (),
        end: bool = True,
    ) -> H2Stream:
        """Open a stream with a request's head; ``end`` says that no body follows. Cancelled, it is reset."""
        if self.closed:
            raise PeerGoneError("the connection is over")
        number = self.h2.get_next_available_stream_id()
        fields = [(b":method", method), (b":scheme", b"http"), (b":authority", authority), (b":path", path), *headers]
        stream = self.streams[number] = H2Stream(number)
        self.h2.send_headers(number, fields, end_stream=end)
        try:
            await self.flush()
        except BaseException:
            self.give_up(stream)  # nobody else knows of it
            raise
        return stream

    async def send(self, stream: H2Stream, data: bytes, *, end: bool = False) -> None:
        """Send a piece of a request's body, as the windows allow; ``end`` says that it was the last.

        Stops without a word once the stream is over: a server may answer early.
        """
        while not stream.over and not self.closed:
            size = min(self.h2.local_flow_control_window(stream.number), self.h2.max_outbound_frame_size, len(data))
            if size or not data:
                piece, data = data[:size], data[size:]
                self.h2.send_data(stream.number, piece, end_stream=end and not data)
                await self.flush()
                if not data:
                    return
            else:
                await self._news.park()

    async def cancel(self, stream: H2Stream, code: int = ErrorCodes.CANCEL) -> None:
        """Reset a stream. One that is over is left as it is."""
        if self.give_up(stream, code):
            await self.flush()

    def give_up(self, stream: H2Stream, code: int = ErrorCodes.CANCEL) -> bool:
        """Reset a stream without waiting: the frame goes out with whatever is sent next. Tells whether there is one."""
        if stream.over or self.closed:
            return False
        self.h2.reset_stream(stream.number, code)
        stream.reset = int(code)
        self._news.unpark_all()
        return True

    async def read(self) -> None:
        """Take in what comes next. Once the connection is over, every stream that was open is over too."""
        try:
            data = await self.stream.receive_some(65536)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            self._over()
            return
        for event in self.h2.receive_data(bytes(data)):
            self._note(event)
        self._news.unpark_all()
        try:
            await self.flush()
        except PeerGoneError:
            self._over()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read until the connection is over."""
        task_status.started()
        while not self.closed:
            await self.read()

    async def wait_for_news(self) -> None:
        """Wait until the task that reads has read something."""
        await self._news.park()

    async def answer(self, stream: H2Stream) -> H2Stream:
        """Read until the stream is over, where no other task reads."""
        while not stream.over:
            await self.read()
        return stream

    async def _write(self, more: bytes) -> None:
        self._unsent += self.h2.data_to_send() + more
        try:
            async with self._turn:
                # The tempting way is send_all. Cancelled in it, nobody knows which part of a frame went out.
                while self._unsent:
                    data = bytes(self._unsent)
                    sent = await sockets.send_some(self.stream, data)
                    del self._unsent[:sent]
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerGoneError("the connection is over") from error

    def _over(self) -> None:
        self.closed = True
        for stream in self.streams.values():
            if not stream.over:
                stream.reset = -1
        self._news.unpark_all()

    def _note(self, event: h2.events.Event) -> None:
        number: Any = getattr(event, "stream_id", None)
        stream = self.streams.get(number) or H2Stream(0)
        match event:
            case h2.events.ResponseReceived():
                stream.headers = list(event.headers)
            case h2.events.InformationalResponseReceived():
                stream.informational.append(int(dict(event.headers)[b":status"]))
            case h2.events.TrailersReceived():
                stream.trailers = list(event.headers)
            case h2.events.DataReceived():
                stream.body += event.data
                if self.greedy and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset():
                if not stream.over:
                    stream.reset = int(event.error_code)
            case h2.events.ConnectionTerminated():
                self.goaway = event


async def h2_client(  # noqa: PLR0913 - where to, and how: all but the network have a default
    network: Network[Any],
    host: str = "gateway",
    port: int = 80,
    *,
    source: str = "127.0.0.1",
    greedy: bool = True,
    window: int | None = None,
) -> H2Client:
    """Connect a raw client of HTTP/2. Its preface goes out at the beginning of ``async with``, which closes it.

    :raises OSError: as Network.connect.
    """
    return H2Client(await network.connect(host, port, source=source), greedy=greedy, window=window)
