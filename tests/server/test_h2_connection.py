"""The state machine of HTTP/2, frame by frame: what is one stream's fault stays on that stream."""

import pytest
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import FrameTooLargeError, ProtocolError
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from gateway.server.h2_connection import (
    CONNECTION_WINDOW,
    CONTROL_WINDOW,
    DEFAULT_WINDOW,
    StreamwiseConnection,
    TooManyControlFrames,
)
from gateway.server.heads import PREFACE
from gateway.server.limits import Limits

Fields = list[tuple[bytes, bytes]]
GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]


class Played:
    """A server's side, and a client that is nothing but frames."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.now = 0.0
        self.h2 = StreamwiseConnection(limits or Limits(), lambda: self.now)
        self.h2.initiate_connection()
        self.first_words = self.said()
        self.encoder = Encoder()
        self.h2.receive_data(PREFACE + SettingsFrame(0).serialize())
        self.said()

    def gets(self, *frames: Frame | bytes) -> list[Event]:
        """The events that come of these frames."""
        return self.h2.receive_data(b"".join(f if isinstance(f, bytes) else f.serialize() for f in frames))

    def said(self) -> list[Frame]:
        """The frames that the server has made since."""
        data = memoryview(self.h2.data_to_send())
        frames = []
        while data:
            frame, length = Frame.parse_frame_header(data[:9])
            frame.parse_body(data[9 : 9 + length])
            data = data[9 + length :]
            frames.append(frame)
        return frames

    def head(self, stream: int, fields: Fields = GET, *flags: str) -> HeadersFrame:
        return HeadersFrame(stream, self.encoder.encode(fields), flags=["END_HEADERS", *flags])

    def opens(self, stream: int) -> None:
        assert isinstance(self.gets(self.head(stream, POST))[0], RequestReceived)

    def still_serves(self, stream: int) -> bool:
        """Whether the connection lives, and its table of fields is as the client's."""
        events = self.gets(self.head(stream, GET, "END_STREAM"))
        return isinstance(events[0], RequestReceived) and list(events[0].headers) == GET


def windows(frames: list[Frame]) -> dict[int, int]:
    """What was given back, by stream; 0 is the connection."""
    given: dict[int, int] = {}
    for frame in frames:
        if isinstance(frame, WindowUpdateFrame):
            given[frame.stream_id] = given.get(frame.stream_id, 0) + frame.window_increment
    return given


# ---- how it begins


def test_settings_say_the_limits_and_the_connections_window_is_raised() -> None:
    limits = Limits(max_streams=7, max_head_size=9_000, request_buffer=50_000)
    settings, window = Played(limits).first_words
    assert isinstance(settings, SettingsFrame)
    told = {SettingCodes(code): value for code, value in settings.settings.items()}
    assert told[SettingCodes.MAX_CONCURRENT_STREAMS] == 7
    assert told[SettingCodes.MAX_HEADER_LIST_SIZE] == 9_000
    assert told[SettingCodes.INITIAL_WINDOW_SIZE] == 50_000
    assert told[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1
    assert windows([window]) == {0: CONNECTION_WINDOW - DEFAULT_WINDOW}


# ---- faults of one stream


@pytest.mark.parametrize("length", [b"x", b"+5", b"-1", b"1_0", b""])
def test_malformed_length_costs_its_stream(length: bytes) -> None:
    client = Played()
    client.opens(1)
    events = client.gets(client.head(3, [*POST, (b"content-length", length)]))
    assert [(type(e), e.stream_id) for e in events if isinstance(e, StreamReset)] == [(StreamReset, 3)]
    assert not any(isinstance(e, RequestReceived) for e in events)
    said = client.said()
    assert [(type(f), f.stream_id) for f in said] == [(RstStreamFrame, 3)]
    assert client.h2.is_open(1)
    assert not client.h2.is_open(3)
    assert client.still_serves(5)


@pytest.mark.parametrize(("size", "end"), [(6, False), (4, True), (6, True)], ids=["longer", "shorter", "both"])
def test_body_of_another_length_than_announced_costs_its_stream(size: int, *, end: bool) -> None:
    client = Played()
    client.opens(1)
    client.gets(client.head(3, [*POST, (b"content-length", b"5")]))
    events = client.gets(DataFrame(3, bytes(size), flags=["END_STREAM"] if end else []))
    assert [(type(e), e.stream_id) for e in events if isinstance(e, StreamReset)] == [(StreamReset, 3)]
    assert not any(isinstance(e, DataReceived) for e in events)
    resets = [frame for frame in client.said() if isinstance(frame, RstStreamFrame)]
    assert [(frame.stream_id, frame.error_code) for frame in resets] == [(3, ErrorCodes.PROTOCOL_ERROR)]
    assert client.still_serves(5)


@pytest.mark.parametrize("length", [b"1", b"5"])
@pytest.mark.parametrize("plain", [True, False])
def test_head_that_announces_a_body_and_ends_costs_its_stream(length: bytes, *, plain: bool) -> None:
    client = Played()
    client.opens(1)
    head = client.head(3, [*POST, (b"content-length", length)], "END_STREAM", *([] if plain else ["PADDED"]))
    events = client.gets(head)
    assert [(type(e), e.stream_id) for e in events] == [(StreamReset, 3)]  # type: ignore[attr-defined]  # not every event has one
    assert [(type(f), f.stream_id) for f in client.said()] == [(RstStreamFrame, 3)]
    assert client.still_serves(5)
    assert isinstance(client.gets(client.head(7, [*GET, (b"content-length", b"0")], "END_STREAM"))[0], RequestReceived)


@pytest.mark.parametrize(
    ("length", "flags", "faulty"),
    [
        (None, [], True),
        (None, ["END_STREAM"], False),
        (b"3", ["END_STREAM"], False),
        (b"3", [], True),
        (b"4", ["END_STREAM"], True),
        (b"4", [], True),
    ],
)
def test_trailers_that_end_nothing_or_too_soon_cost_their_stream(
    length: bytes | None, flags: list[str], *, faulty: bool
) -> None:
    """RFC 9113 section 8.1: a second HEADERS without END_STREAM is malformed, which is an error of its stream."""
    client = Played()
    client.opens(1)
    client.gets(client.head(3, [*POST, *([(b"content-length", length)] if length else [])]), DataFrame(3, b"abc"))
    events = client.gets(client.head(3, [(b"x-sum", b"1")], *flags))
    resets = [(e.stream_id, e.error_code) for e in events if isinstance(e, StreamReset)]
    assert resets == ([(3, ErrorCodes.PROTOCOL_ERROR)] if faulty else [])
    assert any(isinstance(e, StreamEnded) for e in events) is not faulty
    assert [type(frame) for frame in client.said()] == ([RstStreamFrame] if faulty else [])
    assert client.h2.is_open(1)
    # What was on its way when the stream was reset is nobody's fault, and the table has taken in the trailers.
    if faulty:
        client.gets(DataFrame(3, b"d"), client.head(3, [(b"x-sum", b"1")], "END_STREAM"))
    assert client.still_serves(5)


def test_malformed_bodies_leave_the_connections_window_as_it_was() -> None:
    client = Played()
    before = client.h2.inbound_flow_control_window
    for stream in range(1, 201, 2):
        client.gets(client.head(stream, [*POST, (b"content-length", b"5")]))
        client.gets(DataFrame(stream, bytes(16_000), pad_length=100, flags=["PADDED"]))
    assert client.h2.inbound_flow_control_window == before
    assert client.still_serves(201)


def test_data_for_a_stream_that_was_reset_is_no_fault() -> None:
    """It was under way already (RFC 9113 section 5.4.2)."""
    client = Played()
    client.opens(1)
    client.h2.reset_stream(1, ErrorCodes.CANCEL)
    events = client.gets(DataFrame(1, b"late"), DataFrame(1, b"", flags=["END_STREAM"]))
    assert not any(isinstance(e, DataReceived) for e in events)
    assert client.still_serves(3)


def test_fields_are_left_to_the_door() -> None:
    """h2 would end the connection over each of these."""
    odd = [*GET[:2], (b":path", b"/\xff"), GET[3], (b"X-Upper", b" a\n"), (b"connection", b"x"), (b":path", b"/late")]
    client = Played()
    events = client.gets(client.head(1, odd, "END_STREAM"))
    assert isinstance(events[0], RequestReceived)
    assert list(events[0].headers) == odd
    assert client.still_serves(3)


# ---- faults of the connection


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(DataFrame(1, b"x"), id="data on an idle stream"),
        pytest.param(HeadersFrame(2, b"\x82", flags=["END_HEADERS"]), id="a stream of the server's own"),
        pytest.param(HeadersFrame(1, b"\xff\xff\xff\xff", flags=["END_HEADERS"]), id="fields that cannot be decoded"),
        pytest.param(b"\x00\x00\x01\x01\x04\x00\x00\x00\x00\x82", id="a head on stream 0"),
        pytest.param(b"\x00\x00\x00\x04\x00\x00\x00\x00\x01", id="settings on a stream"),
        pytest.param(WindowUpdateFrame(0, window_increment=2**31 - 1), id="a window that overflows"),
        pytest.param(SettingsFrame(0, settings={SettingCodes.ENABLE_PUSH: 2}), id="a setting that is none"),
    ],
)
def test_fault_of_the_connection_ends_it(frame: Frame | bytes) -> None:
    client = Played()
    with pytest.raises(ProtocolError):
        client.gets(frame)
    assert [type(frame) for frame in client.said()] == [GoAwayFrame]


def test_trailers_that_cannot_be_decoded_end_the_connection() -> None:
    """The table of fields is lost with them, so every later head would be misread (RFC 9113 section 4.3)."""
    client = Played()
    client.opens(1)
    with pytest.raises(ProtocolError):
        client.gets(HeadersFrame(1, b"\xff\xff\xff\xff", flags=["END_HEADERS", "END_STREAM"]))
    assert isinstance(client.said()[-1], GoAwayFrame)


def test_head_that_unpacks_to_more_than_the_limit_ends_the_connection() -> None:
    client = Played(Limits(max_head_size=1_000))
    with pytest.raises(ProtocolError):
        client.gets(client.head(1, [*GET, (b"x", b"y" * 1_000)]))


@pytest.mark.parametrize("kind", [0, 1, 4, 9, 99], ids=["DATA", "HEADERS", "SETTINGS", "CONTINUATION", "unknown"])
def test_overlong_frame_is_refused_by_its_announcement(kind: int) -> None:
    client = Played()
    announced = (client.h2.max_inbound_frame_size + 1).to_bytes(3, "big") + bytes(
        [kind, 0, 0, 0, 0, 0 if kind == 4 else 1]
    )
    for byte in announced[:-1]:
        assert client.gets(bytes([byte])) == []
    with pytest.raises(FrameTooLargeError):
        client.gets(announced[-1:])
    goaway = client.said()[-1]
    assert isinstance(goaway, GoAwayFrame)
    assert goaway.error_code == ErrorCodes.FRAME_SIZE_ERROR


def test_frame_as_long_as_allowed_may_come_in_pieces() -> None:
    client = Played()
    client.opens(1)
    data = DataFrame(1, bytes(client.h2.max_inbound_frame_size)).serialize()
    assert client.gets(data[:9]) == []
    assert client.gets(data[9:-1]) == []
    events = client.gets(data[-1:])
    assert [len(e.data or b"") for e in events if isinstance(e, DataReceived)] == [client.h2.max_inbound_frame_size]


# ---- what is ignored


def test_priorities_are_ignored_whatever_they_say() -> None:
    client = Played()
    client.opens(1)
    for stream in range(1, 2_000, 2):
        events = client.gets(PriorityFrame(stream, depends_on=stream, stream_weight=1))  # on itself: h2 would end all
        assert events == []
    assert client.said() == []
    assert client.still_serves(3)


def test_goaway_of_the_client_leaves_its_streams_to_be_answered() -> None:
    client = Played()
    client.opens(1)
    events = client.gets(GoAwayFrame(0, last_stream_id=0, error_code=0))
    assert [type(event) for event in events] == [ConnectionTerminated]
    client.h2.send_headers(1, [(b":status", b"200")])
    client.h2.send_data(1, b"ok", end_stream=True)
    assert [type(frame).__name__ for frame in client.said()] == ["HeadersFrame", "DataFrame"]
    client.gets(PingFrame(0, b"12345678"))
    assert isinstance(client.said()[0], PingFrame)


def test_streams_beyond_the_limit_are_there_to_be_refused_one_by_one() -> None:
    """A client may open them before it has seen the settings."""
    client = Played(Limits(max_streams=2))
    for stream in (1, 3, 5, 7):
        client.opens(stream)
    client.h2.reset_stream(7, ErrorCodes.REFUSED_STREAM)
    assert [client.h2.is_open(stream) for stream in (1, 3, 5, 7)] == [True, True, True, False]
    assert client.h2.open_inbound_streams == 1  # as h2 is told, who would close the connection at the limit


# ---- windows


def test_connections_window_is_given_back_by_the_half() -> None:
    client = Played()
    half = CONNECTION_WINDOW // 2
    client.h2.took_in(half - 1)
    assert client.said() == []
    client.h2.took_in(1)
    assert windows(client.said()) == {0: half}
    client.h2.took_in(half - 1)
    assert client.said() == []


def test_streams_window_is_given_back_by_the_half() -> None:
    client = Played(Limits(request_buffer=100_000))
    for stream in (1, 3):
        client.opens(stream)
        for _ in range(5):
            client.gets(DataFrame(stream, bytes(10_000)))
    client.h2.give_back(1, 49_999)
    client.h2.give_back(3, 10)
    assert client.said() == []
    client.h2.give_back(1, 1)
    assert windows(client.said()) == {1: 50_000}
    client.h2.give_back(1, 1)
    assert client.said() == []
    client.h2.give_back(3, 49_990)
    assert windows(client.said()) == {3: 50_000}


def test_window_is_not_given_to_who_has_no_more_to_send() -> None:
    """A stream that is over on that side, or altogether, or was never there."""
    client = Played()
    client.gets(client.head(1, POST), DataFrame(1, b"x", flags=["END_STREAM"]))
    client.opens(3)
    client.gets(RstStreamFrame(3))
    client.opens(5)
    client.h2.reset_stream(5)
    client.said()
    for stream in (1, 3, 5, 7):
        client.h2.give_back(stream, 1_000_000)
    assert client.said() == []


def test_window_is_given_to_who_uploads_on_after_the_answer() -> None:
    client = Played(Limits(request_buffer=1_000))
    client.opens(1)
    client.gets(DataFrame(1, bytes(1_000)))
    client.h2.send_headers(1, [(b":status", b"200")], end_stream=True)
    client.said()
    client.h2.give_back(1, 1_000)
    assert windows(client.said()) == {1: 1_000}


def test_stream_that_is_forgotten_begins_to_count_anew() -> None:
    client = Played(Limits(request_buffer=1_000))
    client.opens(1)
    client.gets(DataFrame(1, bytes(1_000)))
    client.h2.give_back(1, 499)
    client.h2.forget(1)
    client.h2.forget(1)  # nothing happens
    client.h2.give_back(1, 499)
    assert client.said() == []


def test_stream_is_open_until_both_sides_have_ended() -> None:
    client = Played()
    assert not client.h2.is_open(1)
    client.opens(1)
    assert client.h2.is_open(1)
    client.h2.send_headers(1, [(b":status", b"200")], end_stream=True)
    assert client.h2.is_open(1)
    client.gets(DataFrame(1, b"", flags=["END_STREAM"]))
    assert not client.h2.is_open(1)


@pytest.mark.parametrize(
    ("frame", "allowed"),
    [
        # One has come already: the SETTINGS of the preface.
        (PingFrame(0, b"12345678"), 49),
        (SettingsFrame(0), 49),
        (b"\x00\x00\x01\xbe\x00\x00\x00\x00\x00x", 49),
        (PriorityFrame(1, depends_on=0), 500),
    ],
    ids=["PING", "SETTINGS", "unknown", "PRIORITY"],
)
def test_frames_that_ask_for_nothing_but_work_are_bounded(frame: Frame | bytes, allowed: int) -> None:
    played = Played(Limits(max_control_frames=50))
    played.gets(*[frame] * allowed)
    played.said()
    with pytest.raises(TooManyControlFrames):
        played.gets(frame)
    (goaway,) = [said for said in played.said() if isinstance(said, GoAwayFrame)]
    assert goaway.error_code == ErrorCodes.ENHANCE_YOUR_CALM


def test_data_without_data_is_bounded_but_where_it_ends_the_stream() -> None:
    played = Played(Limits(max_control_frames=50))
    for stream in range(1, 201, 2):
        played.opens(stream)
        played.gets(DataFrame(stream, b"", flags=["END_STREAM"]))
    played.opens(201)
    played.gets(*[DataFrame(201)] * 49)
    with pytest.raises(TooManyControlFrames):
        played.gets(DataFrame(201))


def test_frames_are_counted_anew_after_the_window() -> None:
    played = Played(Limits(max_control_frames=50))
    for _ in range(5):
        played.gets(*[PingFrame(0, b"12345678")] * 49)
        played.now += CONTROL_WINDOW
