"""h2's state machine, with what is the fault of one stream kept to that stream.

What lives here: overrides of h2's ``H2Connection``, each with the reason. What never will: I/O, apps.

h2 answers many a fault of a single request by closing the connection, which costs every other request on it. A proxy
in front of us carries many users' requests on one connection, so one user could disturb the others.
"""

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionState, H2Connection, _decode_headers
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import FrameTooLargeError, InvalidBodyLengthError, ProtocolError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream, StreamClosedBy, StreamState
from hyperframe.frame import (
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
)

from gateway.http1 import RawHeaders
from gateway.server.h2_fields import FieldDecoder, FieldEncoder
from gateway.server.limits import Limits, Rate

if TYPE_CHECKING:
    from h2._typing import Buffer

FRAME_HEADER = Struct(">IBI")
"""Length and type, flags, stream (RFC 9113 section 4.1)."""
DATA, HEADERS, CONTINUATION = 0x0, 0x1, 0x9
END_STREAM, END_HEADERS = 0x1, 0x4
PLAIN = END_HEADERS, END_HEADERS | END_STREAM
DEFAULT_WINDOW = 65_535
"""Of a connection, until it is raised by WINDOW_UPDATE (RFC 9113 section 6.9.2)."""
CONNECTION_WINDOW = 1_048_576
CONTROL_WINDOW = 10.0
"""Seconds over which frames are counted that a client seldom has a reason to send. WINDOW_UPDATE is none of them: who
reads fast sends many."""
PRIORITIES = 10
"""PRIORITY frames may be so many times as many: browsers of the past sent them with every request."""
OPEN = ConnectionState.SERVER_OPEN
"""The state of a connection on which there has been a request, and no end."""
MOSTLY_CLOSED = 16
"""Streams. Where h2 has more, it is time to look which of them it may forget."""
RECEIVING = frozenset([StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL])
"""Where a stream of the client's still takes its data."""


class TooManyControlFrames(ProtocolError):
    """The client sends frames that ask for nothing but work."""

    error_code = ErrorCodes.ENHANCE_YOUR_CALM


class PlainHead(HeadersFrame):
    """HEADERS in one frame, without padding and priority, as nearly all of them are."""

    def __init__(self, stream_id: int, data: bytes, *, ends: bool) -> None:
        # hyperframe's own takes as long as all the rest.
        self.stream_id = stream_id
        self.data = data
        self.ends = ends

    def in_full(self) -> HeadersFrame:
        """The same for h2."""
        return HeadersFrame(self.stream_id, self.data, flags=["END_HEADERS", *(["END_STREAM"] if self.ends else [])])


class Frames(FrameBuffer):
    """h2's, with a short way for plain heads."""

    def __next__(self) -> Frame:
        """The next frame, if all of it is there."""
        data = self._data
        if len(data) >= FRAME_HEADER.size and not self._headers_buffer:
            length_and_type, flags, stream_id = FRAME_HEADER.unpack_from(data)
            end = FRAME_HEADER.size + (length_and_type >> 8)
            plain = length_and_type & 0xFF == HEADERS and flags in PLAIN and stream_id & 1
            if plain and end <= len(data) and end <= FRAME_HEADER.size + self.max_frame_size:
                # The first bit of the stream is to be ignored.
                block = bytes(data[FRAME_HEADER.size : end])
                del data[:end]
                return PlainHead(stream_id & 0x7FFFFFFF, block, ends=flags & END_STREAM != 0)
        return super().__next__()


def untie(connection: H2Connection) -> None:
    """Let go of a connection that is over, or was never wanted: it takes in no more frames.

    h2 keeps a table of the connection's own methods. That is a cycle, which holds some hundred objects, and all that
    has come on the connection last, until the garbage collector's next round; and that is seldom (``serving``).
    """
    connection._frame_dispatch_table.clear()  # noqa: SLF001 -- h2 has no other way


class StreamwiseConnection(H2Connection):
    """A server's side. Fields are not validated here: ``heads.check_http2_head`` does that, stream by stream."""

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,
                # It would put a cookie behind all other fields; `heads` joins its crumbs where they stand.
                normalize_inbound_headers=False,
                # Outbound ones are checked and lowered by `responses`, once, for both protocols.
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.encoder = FieldEncoder()  # type: ignore[assignment]  # which has all that h2 asks of hpack's
        self.decoder = FieldDecoder()
        self.incoming_buffer = Frames(server=True)
        self.max_streams = limits.max_streams
        self.decoder.max_header_list_size = limits.max_head_size
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_head_size,
                SettingCodes.INITIAL_WINDOW_SIZE: limits.request_buffer,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
            },
        )

        few, many = limits.max_control_frames, PRIORITIES * limits.max_control_frames
        self._limits_of_control = {PingFrame: few, SettingsFrame: few, ExtensionFrame: few, PriorityFrame: many}
        self._limit_of_empty_data = few
        self._counts = {few: Rate(CONTROL_WINDOW), many: Rate(CONTROL_WINDOW)}
        self._now = now
        self._taken_in = 0
        self._consumed: dict[int, int] = {}

    def initiate_connection(self) -> None:
        """The settings, and a connection window that one slow stream cannot use up."""
        super().initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - DEFAULT_WINDOW)

    def took_in(self, size: int) -> None:
        """So many bytes of flow-controlled data have come.

        The connection's window is given back at once, so that a stream that nobody reads holds up no other. What the
        client may have under way on one stream is bounded by that stream's own window.
        """
        self._taken_in += size
        if self._taken_in >= CONNECTION_WINDOW // 2:
            self.increment_flow_control_window(self._taken_in)
            self._taken_in = 0

    def give_back(self, stream_id: int, size: int) -> None:
        """So many bytes of a stream have been used up. The client is told in large steps, while it may still send."""
        stream = self.streams.get(stream_id)
        if stream is None or stream.state_machine.state not in RECEIVING:
            return
        consumed = self._consumed.get(stream_id, 0) + size
        if consumed >= self.local_settings.initial_window_size // 2:
            self.increment_flow_control_window(consumed, stream_id)
            consumed = 0
        self._consumed[stream_id] = consumed

    def forget(self, stream_id: int) -> None:
        """The stream is of no interest any more."""
        self._consumed.pop(stream_id, None)

    def is_open(self, stream_id: int) -> bool:
        """Whether one of the two sides may still send on it."""
        stream = self.streams.get(stream_id)
        return stream is not None and stream.open

    @property
    def open_inbound_streams(self) -> int:
        """How many there are, kept under the limit that h2 compares it with.

        Beyond the limit h2 would close the connection, though a client that has not seen our settings yet may open as
        many as it likes. The protocol refuses those instead (REFUSED_STREAM).
        """
        return min(super().open_inbound_streams, self.max_streams - 1)

    def receive_data(self, data: "Buffer") -> list[Event]:
        """As h2's, but an overlong frame is refused by its announcement, not after all of it has been taken in."""
        events = super().receive_data(data)
        waiting = self.incoming_buffer._data  # noqa: SLF001 -- h2 has no other way to see a frame coming
        if len(waiting) >= FRAME_HEADER.size and int.from_bytes(waiting[:3], "big") > self.max_inbound_frame_size:
            self._terminate_connection(ErrorCodes.FRAME_SIZE_ERROR)
            raise FrameTooLargeError("a frame is announced as larger than agreed")
        return events

    def _receive_frame(self, frame: Frame) -> list[Event]:
        # Not before h2 knows that the connection has begun, nor for a stream that is not a new one.
        short = self.state_machine.state is OPEN and frame.stream_id > self.highest_inbound_stream_id
        if isinstance(frame, PlainHead) and not short:
            frame = frame.in_full()
        # h2 answers or drops them one by one, at some 50 µs each: a read full of them would hold up everybody.
        limit = self._limits_of_control.get(type(frame))
        if isinstance(frame, DataFrame) and not frame.flow_controlled_length and "END_STREAM" not in frame.flags:
            limit = self._limit_of_empty_data  # no window bounds it (CVE-2019-9518)
        if limit is not None and self._counts[limit].one_more(self._now()) > limit:
            raise TooManyControlFrames
        begins = isinstance(frame, HeadersFrame) and frame.stream_id not in self.streams
        try:
            if isinstance(frame, PlainHead):
                return self._open(frame)
            if isinstance(frame, HeadersFrame):
                self._check_trailers(frame)
            events = super()._receive_frame(frame)
            if begins:
                self._check_head(self.streams.get(frame.stream_id))
        except InvalidBodyLengthError:
            # RFC 9113 section 8.1.1: a malformed message is an error of its stream.
            return self._malformed(frame)
        except ProtocolError as error:
            stream = self.streams.get(frame.stream_id)
            # A malformed content-length: the fields are decoded and the stream is open, so all else goes on.
            if begins and type(error) is ProtocolError and stream is not None and stream.open:
                return self._malformed(frame)
            raise
        return events

    def _open(self, head: PlainHead) -> list[Event]:
        """What h2 does about a new stream."""
        if len(self.streams) > MOSTLY_CLOSED:
            self._open_streams(1)  # forgets those that are closed
        fields = list(_decode_headers(self.decoder, head.data))
        stream = self._begin_new_stream(head.stream_id, AllowedStreamIDs.ODD)
        for name, _ in fields:
            if name == b"content-length":
                events = stream.receive_headers(fields, head.ends, header_encoding=None)[1]
                self._check_head(stream)
                return events
        machine = stream.state_machine
        machine.client = False
        machine.headers_received = True
        machine.state = StreamState.HALF_CLOSED_REMOTE if head.ends else StreamState.OPEN
        request = RequestReceived(stream_id=head.stream_id, headers=fields)
        return [request, StreamEnded(stream_id=head.stream_id)] if head.ends else [request]

    def send_headers(  # type: ignore[override]  # h2 would take fields of other types, too
        self,
        stream_id: int,
        headers: RawHeaders,
        end_stream: bool = False,  # noqa: FBT001, FBT002 -- h2's signature
        **priority: Any,
    ) -> None:
        """As h2's, with a short way for the answer to a request that has come whole."""
        stream = self._that_is_answered(stream_id)
        if stream is None or stream.state_machine.headers_sent or headers[0][1][:1] == b"1" or priority:
            super().send_headers(stream_id, headers, end_stream, **priority)
            return
        stream.state_machine.headers_sent = True
        block, most = self.encoder.encode(headers), self.max_outbound_frame_size
        kind, flags = HEADERS, END_STREAM if end_stream else 0
        while len(block) > most:
            self._say(kind, flags, stream_id, block[:most])
            block, kind, flags = block[most:], CONTINUATION, 0
        self._say(kind, flags | END_HEADERS, stream_id, block)
        if end_stream:
            self._answered(stream)

    def send_data(
        self,
        stream_id: int,
        data: bytes | memoryview,
        end_stream: bool = False,  # noqa: FBT001, FBT002 -- h2's signature
        pad_length: int | None = None,
    ) -> None:
        """As h2's, with a short way for the answer to a request that has come whole."""
        stream, size = self._that_is_answered(stream_id), len(data)
        if (
            stream is None
            or size > self.max_outbound_frame_size
            or size > self.outbound_flow_control_window
            or size > stream.outbound_flow_control_window
            or pad_length is not None
        ):
            super().send_data(stream_id, data, end_stream, pad_length)
            return
        self._say(DATA, END_STREAM if end_stream else 0, stream_id, data)
        self.outbound_flow_control_window -= size
        stream.outbound_flow_control_window -= size
        if end_stream:
            self._answered(stream)

    def _that_is_answered(self, stream_id: int) -> H2Stream | None:
        """The stream, where the client has said all and we have not."""
        stream = self.streams.get(stream_id)
        if stream is None or stream.state_machine.state is not StreamState.HALF_CLOSED_REMOTE:
            return None
        return stream if self.state_machine.state is OPEN else None

    def _answered(self, stream: H2Stream) -> None:
        stream.state_machine.state = StreamState.CLOSED
        stream.state_machine.stream_closed_by = StreamClosedBy.SEND_END_STREAM

    def _say(self, kind: int, flags: int, stream_id: int, payload: bytes | memoryview) -> None:
        self._data_to_send += FRAME_HEADER.pack(len(payload) << 8 | kind, flags, stream_id)
        self._data_to_send += payload

    def _check_head(self, stream: H2Stream | None) -> None:
        """That a request which ends with its head announces no body: h2 does not look."""
        if stream is None or stream.state_machine.state is not StreamState.HALF_CLOSED_REMOTE:
            return
        if announced := stream._expected_content_length:  # noqa: SLF001 -- h2 has read it, and keeps it to itself
            raise InvalidBodyLengthError(announced, 0)

    def _check_trailers(self, frame: HeadersFrame) -> None:
        """That a body ends with its trailers, and is as long as announced: h2 would end all, or does not look."""
        stream = self.streams.get(frame.stream_id)
        if stream is None or stream.state_machine.state not in RECEIVING:
            return
        announced, came = stream._expected_content_length, stream._actual_content_length  # noqa: SLF001 -- as above
        if "END_STREAM" not in frame.flags or announced not in (None, came):
            _decode_headers(self.decoder, frame.data)  # the table of fields must not miss them
            raise InvalidBodyLengthError(announced or 0, came)

    def _malformed(self, frame: Frame) -> list[Event]:
        if isinstance(frame, DataFrame) and frame.flow_controlled_length:
            self.increment_flow_control_window(frame.flow_controlled_length)
        self.reset_stream(frame.stream_id, ErrorCodes.PROTOCOL_ERROR)
        return [StreamReset(stream_id=frame.stream_id, error_code=ErrorCodes.PROTOCOL_ERROR, remote_reset=False)]

    def _receive_priority_frame(self, frame: HeadersFrame | PriorityFrame) -> tuple[list[Frame], list[Event]]:
        if isinstance(frame, HeadersFrame):
            return super()._receive_priority_frame(frame)  # h2 insists on its event there
        return [], []  # RFC 9113 section 5.3.2: priorities are history, and a tree of them is an attack

    def _receive_goaway_frame(
        self,
        frame: GoAwayFrame,  # noqa: ARG002 -- h2's signature; that it came is all
    ) -> tuple[list[Frame], list[Event]]:
        # h2 would close the state machine, and the answers to the client's own open requests could not be sent.
        return [], [ConnectionTerminated()]
