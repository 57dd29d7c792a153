"""The raw HTTP/2 client of a case: frames by h2, which is not ours and does not check here what it sends.

What lives here: how each step of a client is done over HTTP/2, by prior knowledge. What never will: what is right.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import h2.connection
import h2.events
import trio
from h2.config import H2Configuration
from h2.exceptions import NoSuchStreamError, ProtocolError, StreamClosedError
from h2.settings import SettingCodes

from gateway.testing import sockets

from . import steps
from .messages import Fields, Got, Request, length_of, pieces_of
from .play import Play

OF_THE_CONNECTION = frozenset(
    [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"]
)
"""What HTTP/2 must not say (RFC 9113 section 8.2.2)."""
WINDOW = 1 << 20
CANCEL = 8


def fields_of(request: Request) -> Fields:
    """The header section of a request, as HTTP/2 has it."""
    pseudo = (
        (b":method", request.method),
        (b":scheme", b"http"),
        (b":authority", request.host),
        (b":path", request.target),
    )
    told = [(name.lower(), value) for name, value in request.fields if name.lower() not in OF_THE_CONNECTION]
    length = length_of(request.body)
    return (*pseudo, *told, *(() if length is None else ((b"content-length", b"%d" % length),)))


@dataclass
class Stream:
    """One exchange on the connection."""

    number: int
    got: Got = field(default_factory=lambda: Got([], version=b"HTTP/2"))
    over: bool = False


Condition: TypeAlias = Callable[[Stream], bool]


class Client2:
    """One connection that speaks HTTP/2, and what came of it in ``play``. Within ``run`` a task reads all the time."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, play: Play) -> None:
        self.stream = stream
        self.play = play
        self._h2 = h2.connection.H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None)
        )
        self._streams: dict[int, Stream] = {}
        self._unheard: list[Stream] = []
        self._heard: Stream | None = None
        self._said = Stream(0)
        self._news = trio.lowlevel.ParkingLot()
        self._lock = trio.Lock()
        self._gone = ""

    async def run(self, script: tuple[steps.ClientStep, ...]) -> None:
        """Do it all. The connection is closed by the caller."""
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW, SettingCodes.ENABLE_PUSH: 0})
        self._h2.increment_flow_control_window(WINDOW)
        await self._flush()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            await self._play(script)
            nursery.cancel_scope.cancel()

    async def _play(self, script: tuple[steps.ClientStep, ...]) -> None:
        for step in script:
            self.play.client_at = step
            await self._do(step)
        self.play.client_at = None

    async def _do(self, step: steps.ClientStep) -> None:  # noqa: C901, PLR0912 - one branch per step
        match step:
            case steps.Say(request):
                await self._say_head(request, end=request.body is None and not request.trailers)
                if request.body is not None or request.trailers:
                    for piece in pieces_of(request.body):
                        await self._say_body(piece)
                    await self._say_end(request.trailers)
            case steps.SayHead(request):
                await self._say_head(request, end=False)
            case steps.SayBody(body):
                for piece in pieces_of(body):
                    await self._say_body(piece)
            case steps.SayEnd(trailers):
                await self._say_end(trailers)
            case steps.Open(fields, end):
                await self._open(fields, end=end)
            case steps.Hear():
                await self._hear_head()
                await self._until(lambda stream: stream.over)
            case steps.HearInformational():
                count = len(self._unheard[0].got.informational)
                await self._until(lambda stream: len(stream.got.informational) > count, self._unheard[0])
            case steps.HearHead():
                await self._hear_head()
            case steps.HearBody(size):
                await self._until(lambda stream: stream.got.body.size >= size)
            case steps.HearEnd():
                await self._until(lambda stream: stream.over)
            case steps.Together(first, second):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._play, first)
                    nursery.start_soon(self._play, second)
            case steps.Bytes(data):
                self._account(data)
                await self._flush(data)
            case steps.Leave():
                sockets.close(self.stream)
            case steps.Reset():
                self._h2.reset_stream(self._said.number, CANCEL)
                self._said.over, self._said.got.fault = True, "reset here"
                await self._flush()
            case steps.AwaitGone():
                while not self._gone:
                    await self._news.park()
                self.play.client_cut = self._gone
            case _:
                await self.play.do(step)

    # ---- saying

    async def _say_head(self, request: Request, *, end: bool) -> None:
        self.play.sent.append(request)
        await self._open(fields_of(request), end=end)

    async def _open(self, fields: Fields, *, end: bool) -> None:
        number = self._h2.get_next_available_stream_id()
        self._said = self._streams[number] = Stream(number)
        self._unheard.append(self._said)
        try:
            self._h2.send_headers(number, fields, end_stream=end)
        except ProtocolError:  # the server has said GOAWAY
            self._said.over, self._said.got.fault = True, "Ended: no stream can be opened any more"
        await self._flush()

    async def _say_body(self, data: bytes) -> None:
        stream = self._said
        while data and not stream.over and not self._gone:
            room = self._room(stream)
            if room == 0:
                await self._news.park()
                continue
            if room < 0:
                break
            try:
                self._h2.send_data(stream.number, data[:room])
            except ProtocolError:  # the server has said GOAWAY
                break
            data = data[room:]
            await self._flush()
        self.play.unsent = self.play.unsent or bool(data)

    def _account(self, frames: bytes) -> None:
        """Take DATA that is sent past h2 out of its windows, or the server gives back more than h2 has missed."""
        while len(frames) >= 9:
            length, kind, number = int.from_bytes(frames[:3]), frames[3], int.from_bytes(frames[5:9])
            if kind == 0:
                self._h2.outbound_flow_control_window -= length
                if number in self._h2.streams:
                    self._h2.streams[number].outbound_flow_control_window -= length
            frames = frames[9 + length :]

    def _room(self, stream: Stream) -> int:
        """Bytes that may be sent now; -1 where the server has closed the stream."""
        try:
            return min(self._h2.local_flow_control_window(stream.number), self._h2.max_outbound_frame_size)
        except (NoSuchStreamError, StreamClosedError):
            return -1

    async def _say_end(self, trailers: Fields) -> None:
        try:
            if trailers:
                lowered = [(name.lower(), value) for name, value in trailers]
                self._h2.send_headers(self._said.number, lowered, end_stream=True)
            else:
                self._h2.end_stream(self._said.number)
        except ProtocolError:  # the server has reset the stream, or said GOAWAY
            self.play.unsent = True
        await self._flush()

    async def _flush(self, more: bytes = b"") -> None:
        async with self._lock:
            data = self._h2.data_to_send() + more
            try:
                await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.play.unsent = True

    # ---- hearing

    async def _hear_head(self) -> None:
        stream = self._heard = self._unheard.pop(0)
        self.play.answers.append(stream.got)
        await self._until(lambda stream: bool(stream.got.status))

    async def _until(self, there: Condition, stream: Stream | None = None) -> None:
        heard = stream or self._heard
        assert heard is not None, "nothing is being heard"
        while not there(heard) and not heard.over:
            if self._gone:
                heard.got.fault = heard.got.fault or f"Ended: {self._gone}"
                return
            await self._news.park()

    async def _read(self) -> None:
        while not self._gone:
            try:
                data = await self.stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._gone = "reset"
            else:
                self._gone = "" if data else "closed"
                if data:
                    self._feed(bytes(data))
            await self._flush()
            self._news.unpark_all()

    def _feed(self, data: bytes) -> None:
        try:
            for event in self._h2.receive_data(data):
                self._take(event)
        except ProtocolError as error:
            self.play.faults.append(f"HTTP/2 towards the client: {type(error).__name__}: {error}")
            self._gone = f"broken: {error}"

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.InformationalResponseReceived(stream_id=number, headers=headers):
                status, fields = _split(headers)
                got = Got(fields, status=status, version=b"HTTP/2", complete=True)
                self._streams[number].got.informational.append(got)
            case h2.events.ResponseReceived(stream_id=number, headers=headers):
                got = self._streams[number].got
                got.status, got.fields = _split(headers)
            case h2.events.DataReceived(stream_id=number, data=data, flow_controlled_length=length):
                self._streams[number].got.body.add(data)
                self._h2.acknowledge_received_data(length or 0, number)
            case h2.events.TrailersReceived(stream_id=number, headers=headers):
                self._streams[number].got.trailers = [(bytes(name), bytes(value)) for name, value in headers]
            case h2.events.StreamEnded(stream_id=number):
                stream = self._streams[number]
                stream.over = stream.got.complete = True
            case h2.events.StreamReset(stream_id=number, error_code=code):
                stream = self._streams[number]
                # NO_ERROR behind a whole answer only tells a client to upload no further (RFC 9113 section 8.1).
                if not stream.over:
                    stream.got.fault = f"Ended: RST_STREAM {int(code or 0)}"
                stream.over = True
            case h2.events.ConnectionTerminated(error_code=code):
                self.play.goaway = int(code or 0)
                if code:
                    self._gone = f"GOAWAY {int(code or 0)}"


def _split(headers: list[tuple[bytes, bytes]]) -> tuple[int, list[tuple[bytes, bytes]]]:
    status = next(int(value) for name, value in headers if bytes(name) == b":status")
    return status, [(bytes(name), bytes(value)) for name, value in headers if not bytes(name).startswith(b":")]
