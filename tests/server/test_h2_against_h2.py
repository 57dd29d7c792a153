"""The short ways of the state machine, beside h2's long ones: whatever is played, nobody can tell which was taken."""

from collections.abc import Callable
from typing import Any

import pytest
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event, RequestReceived
from h2.exceptions import ProtocolError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.server.h2_connection import PlainHead, StreamwiseConnection
from gateway.server.heads import PREFACE
from gateway.server.limits import Limits

Fields = list[tuple[bytes, bytes]]
Step = Callable[["Pair"], None]

STREAMS = 5
LIMITS = Limits(max_streams=3, max_head_size=2_000, request_buffer=1_000)


class LongWay(StreamwiseConnection):
    """With h2's own reader of frames and its own two ways to send."""

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        super().__init__(limits, now)
        self.incoming_buffer = FrameBuffer(server=True)

    send_headers = H2Connection.send_headers  # type: ignore[assignment]  # it takes fields of other types, too
    send_data = H2Connection.send_data


def told(events: list[Event]) -> list[Any]:
    """What the protocol takes from them."""
    parts = ("stream_id", "headers", "data", "flow_controlled_length", "delta", "error_code", "remote_reset")
    return [(type(event), [getattr(event, part, None) for part in parts]) for event in events]


class Pair:
    """Both of them, told the same and asked the same."""

    def __init__(self) -> None:
        self.both = StreamwiseConnection(LIMITS, lambda: 0.0), LongWay(LIMITS, lambda: 0.0)
        self.encoder = Encoder()
        self.newest = -1
        self.over = False
        self.gets(PREFACE)
        for h2 in self.both:
            h2.initiate_connection()

    def same(self, act: Callable[[StreamwiseConnection], Any]) -> None:
        """Both do the same, say the same, and are in the same state."""
        results = []
        for h2 in self.both:
            try:
                result = act(h2)
            except (ProtocolError, KeyError):  # the one or the other, as h2 has forgotten the stream or not yet
                result = "refused"
            results.append((result, h2.data_to_send(), [self.state(h2, stream) for stream in range(1, 2 * STREAMS, 2)]))
        assert results[0] == results[1]

    def state(self, h2: StreamwiseConnection, stream: int) -> Any:
        closed_by = h2._stream_closed_by(stream)  # noqa: SLF001 -- it decides what later frames are answered with
        try:
            window = h2.local_flow_control_window(stream) if h2.is_open(stream) else None
        except ProtocolError:
            window = None
        return h2.is_open(stream), closed_by, window, h2.outbound_flow_control_window, h2.inbound_flow_control_window

    def gets(self, data: bytes, pieces: int = 1) -> None:
        size = len(data) // pieces + 1
        for start in range(0, len(data), size):
            if not self.over:
                self.same(lambda h2: self.hear(h2, data[start : start + size]))  # noqa: B023 -- called at once

    def hear(self, h2: StreamwiseConnection, data: bytes) -> Any:
        try:
            return told(h2.receive_data(data))
        except ProtocolError as error:
            self.over = True
            return error.error_code


GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
HEADS = st.sampled_from(
    [
        *[GET] * 4,
        [*GET, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")],
        *[[*GET, (b"content-length", length)] for length in (b"0", b"5", b"x", b"x")],
        [*GET, (b"x", b"y" * 1_950)],  # more than the limit
        [],
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> Step:
    """HEADERS: mostly plain ones of new streams, in one piece."""
    fields, ahead = draw(HEADS), draw(st.sampled_from([2, 2, 2, 2, 4, 1, 0, -2]))
    flags = draw(st.sampled_from([["END_STREAM"], ["END_STREAM"], ["END_STREAM"], [], ["END_STREAM", "PADDED"]]))
    split, pieces, tail = draw(st.sampled_from([False] * 5 + [True])), draw(st.integers(1, 3)), draw(st.booleans())

    def step(pair: Pair) -> None:
        stream = max(1, pair.newest + ahead)
        if stream >= 2 * STREAMS:
            return
        pair.newest = max(pair.newest, stream)
        block = pair.encoder.encode(fields)
        frames = [HeadersFrame(stream, block, flags=[*flags, "END_HEADERS"])]
        if split:
            frames = [HeadersFrame(stream, block[:2], flags=flags), ContinuationFrame(stream, block[2:])]  # type: ignore[list-item]  # both are frames
            frames[1].flags.add("END_HEADERS")
        data = b"".join(frame.serialize() for frame in frames)
        pair.gets(data + (DataFrame(stream, b"xyz").serialize() if tail else b""), pieces)

    return step


def frame(build: Callable[[int], Any]) -> st.SearchStrategy[Step]:
    """A frame of the client's on one of the streams."""

    def step(stream: int) -> Step:
        return lambda pair: pair.gets(build(stream).serialize())

    return st.sampled_from(range(1, 2 * STREAMS, 2)).map(step)


def deed(act: Callable[[StreamwiseConnection, int], Any]) -> st.SearchStrategy[Step]:
    """Something that the server does about one of the streams, mostly the newest."""

    def step(stream: int | None) -> Step:
        def do(pair: Pair) -> None:
            if not pair.over:
                pair.same(lambda h2: act(h2, max(1, pair.newest) if stream is None else stream))

        return do

    return st.sampled_from([None, None, None, *range(1, 2 * STREAMS, 2)]).map(step)


STEPS = st.one_of(
    *[heads()] * 4,
    frame(lambda stream: DataFrame(stream, b"abc")),
    frame(lambda stream: DataFrame(stream, b"de", flags=["END_STREAM"])),
    frame(lambda stream: RstStreamFrame(stream, ErrorCodes.CANCEL)),
    frame(lambda stream: WindowUpdateFrame(stream, window_increment=10)),
    frame(lambda _: WindowUpdateFrame(0, window_increment=10)),
    frame(lambda stream: PriorityFrame(stream, depends_on=0)),
    frame(lambda _: PingFrame(0, b"12345678")),
    frame(lambda _: GoAwayFrame(0)),
    *[
        frame(lambda _, setting=setting, value=value: SettingsFrame(0, settings={setting: value}))  # type: ignore[misc]  # mypy would know the defaults
        for setting, value in [
            (SettingCodes.INITIAL_WINDOW_SIZE, 5),
            (SettingCodes.INITIAL_WINDOW_SIZE, 0),
            (SettingCodes.INITIAL_WINDOW_SIZE, 2**31 - 1),
            (SettingCodes.MAX_FRAME_SIZE, 20_000),
            (SettingCodes.HEADER_TABLE_SIZE, 0),
        ]
    ],
    *[
        deed(lambda h2, stream, fields=fields, end=end: h2.send_headers(stream, fields, end_stream=end))  # type: ignore[misc]  # as above
        for fields, end in [
            ([(b":status", b"200"), (b"x", b"y")], False),
            ([(b":status", b"200"), (b"x", b"y")], True),
            ([(b":status", b"204"), (b"x", b"y" * 40_000)], True),
            ([(b":status", b"103"), (b"link", b"y")], False),
            ([(b"x-sum", b"1")], True),
        ]
    ],
    *[
        deed(lambda h2, stream, size=size, end=end: h2.send_data(stream, bytes(size), end_stream=end))  # type: ignore[misc]  # as above
        for size, end in [(0, False), (0, True), (3, False), (3, True), (17_000, True), (20_001, False)]
    ],
    deed(lambda h2, stream: h2.reset_stream(stream, ErrorCodes.CANCEL)),
    deed(lambda h2, stream: h2.end_stream(stream)),
    deed(lambda h2, stream: h2.give_back(stream, 600)),
)


@given(st.lists(STEPS, max_size=40))
@settings(deadline=None, max_examples=500)
def test_short_way_comes_to_the_same_as_the_long_one(steps: list[Step]) -> None:
    pair = Pair()
    for step in steps:
        step(pair)


# ---- and it is taken


def test_plain_head_takes_the_short_way_from_the_second_request_on(monkeypatch: pytest.MonkeyPatch) -> None:
    h2 = StreamwiseConnection(Limits(), lambda: 0.0)
    h2.initiate_connection()
    encoder = Encoder()
    h2.receive_data(PREFACE + SettingsFrame(0).serialize())

    def gets(stream: int) -> None:
        block = encoder.encode(GET)
        events = h2.receive_data(HeadersFrame(stream, block, flags=["END_STREAM", "END_HEADERS"]).serialize())
        assert isinstance(events[0], RequestReceived)

    gets(1)
    monkeypatch.delattr(PlainHead, "in_full")
    gets(3)
    monkeypatch.delattr(H2Connection, "send_headers")
    monkeypatch.delattr(H2Connection, "send_data")
    h2.send_headers(3, [(b":status", b"200")])
    h2.send_data(3, b"ok", end_stream=True)
    assert not h2.is_open(3)
    assert h2.is_open(1)


def test_streams_that_are_over_are_forgotten() -> None:
    h2 = StreamwiseConnection(Limits(), lambda: 0.0)
    h2.initiate_connection()
    encoder = Encoder()
    h2.receive_data(PREFACE + SettingsFrame(0).serialize())
    for stream in range(1, 1_000, 2):
        head = HeadersFrame(stream, encoder.encode(GET), flags=["END_STREAM", "END_HEADERS"]).serialize()
        h2.receive_data(head)
        if stream % 4 == 1:
            h2.send_headers(stream, [(b":status", b"204")], end_stream=True)
        else:
            h2.receive_data(RstStreamFrame(stream).serialize())
    assert len(h2.streams) < 20
