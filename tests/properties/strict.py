"""A second reader of HTTP/1.1, written from RFC 9112 alone and shared with nothing: slow, plain and strict.

It looks at a whole stream of bytes at once, so that no packet can mean anything to it. It knows no repair: what it
cannot read by the grammar ends its reading.
"""

import re
from dataclasses import dataclass, field
from enum import Enum

Fields = list[tuple[bytes, bytes]]

TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
VALUE = re.compile(rb"[\t \x21-\x7e\x80-\xff]*")
TARGET = re.compile(rb"[\x21-\x7e]+")
VERSION = re.compile(rb"HTTP/1\.[0-9]")
STATUS = re.compile(rb"[1-9][0-9][0-9]")
SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t \x21-\x7e\x80-\xff]*)?")
DIGITS = re.compile(rb"[0-9]{1,18}")


class End(Enum):
    """What followed the last byte."""

    OPEN = "nothing yet"
    FIN = "the end of the stream"
    RST = "a reset"


class Nonsense(Exception):
    """The bytes are not what the grammar wants."""


class Missing(Exception):
    """The bytes end too soon."""


def demand(fact: bool, what: str) -> None:  # noqa: FBT001 - what is demanded
    if not fact:
        raise Nonsense(what)


@dataclass
class Message:
    """One message as far as it came."""

    start: tuple[bytes, bytes, bytes]
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    whole: bool = False
    ends_at: int = 0
    """How many bytes of the stream there are up to its end, where it is whole."""

    def all(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.fields if each.lower() == name]

    @property
    def status(self) -> int:
        return int(self.start[1])


class Reader:
    """Takes a stream apart from its front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> bytes:
        return self.data[self.at :]

    def line(self) -> bytes:
        """The next line. A CR or LF stands nowhere but at its end, together (RFC 9112 section 2.2)."""
        end = self.data.find(b"\n", self.at)
        text = self.data[self.at :] if end < 0 else self.data[self.at : end + 1]
        if b"\r" in text[:-2] or (end >= 0 and not text.endswith(b"\r\n")):
            raise Nonsense("a bare CR or LF")
        if end < 0:
            raise Missing
        self.at = end + 1
        return text[:-2]

    def bytes(self, count: int) -> bytes:
        """Up to so many; fewer where there are no more."""
        piece = self.data[self.at : self.at + count]
        self.at += len(piece)
        return piece

    def fields(self) -> Fields:
        """RFC 9112 section 5."""
        found = []
        while line := self.line():
            name, colon, value = line.partition(b":")
            if not (colon and TOKEN.fullmatch(name) and VALUE.fullmatch(value)):
                raise Nonsense("a field line")
            found.append((name, value.strip(b"\t ")))
        return found

    def chunked(self, message: Message) -> None:
        """RFC 9112 section 7.1."""
        while True:
            match = SIZE.fullmatch(self.line())
            if match is None:
                raise Nonsense("a chunk size")
            size = int(match[1], 16)
            if size == 0:
                break
            piece = self.bytes(size)
            message.body += piece
            if len(piece) < size:
                raise Missing
            if self.line() != b"":
                raise Nonsense("a chunk longer than its size")
        message.trailers = self.fields()

    def counted(self, message: Message, length: int) -> None:
        """RFC 9112 section 6.2."""
        message.body = self.bytes(length)
        if len(message.body) < length:
            raise Missing


def length_of(message: Message) -> int | None:
    """What frames the body: a length, or None for chunks; 0 where nothing is said. Raises Nonsense (section 6.3)."""
    lengths, codings = message.all(b"content-length"), message.all(b"transfer-encoding")
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked" or b"HTTP/1.0" in message.start:
            raise Nonsense("ambiguous framing")
        return None
    if len(set(lengths)) > 1 or not all(DIGITS.fullmatch(each) for each in lengths):
        raise Nonsense("lengths")
    return int(lengths[0]) if lengths else 0


def read_request(reader: Reader, message: Message) -> None:
    """The rest of a request whose head is read."""
    length = length_of(message)
    if length is None:
        reader.chunked(message)
    else:
        reader.counted(message, length)
    message.whole = True
    message.ends_at = reader.at


def requests(data: bytes) -> tuple[list[Message], str | None]:
    """Every request in the stream, in order, the last perhaps not whole; and what is wrong with what follows, if so.

    A head that did not come whole is no request.
    """
    reader = Reader(data)
    found: list[Message] = []
    try:
        while reader.left:
            while reader.left.startswith(b"\r\n"):  # section 2.2
                reader.at += 2
            if not reader.left:
                break
            start = reader.line().split(b" ")
            patterns = (TOKEN, TARGET, VERSION)
            demand(len(start) == 3, "the parts of the request line")
            demand(all(p.fullmatch(part) for p, part in zip(patterns, start, strict=True)), "the request line")
            message = Message((start[0], start[1], start[2]), reader.fields())
            hosts = message.all(b"host")
            demand(len(hosts) == 1 or (not hosts and start[2] == b"HTTP/1.0"), "Host")
            length_of(message)
            found.append(message)
            read_request(reader, message)
    except Nonsense as error:
        return found, str(error)
    except Missing:
        pass
    return found, None


@dataclass
class Answer:
    """What a client may make of a stream that answers one request."""

    informational: list[Message]
    final: Message | None
    """None where no whole head came. Its body is whole only where it says so."""
    rest: bytes
    """What follows the answer."""
    wrong: str | None
    """What is wrong with it, if anything but that it is not whole."""

    @property
    def whole(self) -> bool:
        return self.final is not None and self.final.whole


def answer(data: bytes, method: bytes, end: End) -> Answer:
    """The answer to one request, read as RFC 9112 section 6.3 wants it."""
    reader = Reader(data)
    informational: list[Message] = []
    message: Message | None = None
    wrong = None
    try:
        while True:
            parts = reader.line().split(b" ", 2)
            version, status, reason = [*parts, b"", b""][:3]
            demand(VERSION.fullmatch(version) is not None and STATUS.fullmatch(status) is not None, "the status line")
            demand(VALUE.fullmatch(reason) is not None, "the reason")
            head = Message((version, status, reason), reader.fields())
            if head.status >= 200:
                break
            head.whole = True
            informational.append(head)
        message = head
        read_answer(reader, message, method, end)
    except Nonsense as error:
        wrong = str(error)
    except Missing:
        pass
    return Answer(informational, message, reader.left, wrong)


def read_answer(reader: Reader, message: Message, method: bytes, end: End) -> None:
    """The body of an answer."""
    length = length_of(message)
    if method == b"HEAD" or message.status in (204, 304):
        pass
    elif length is None:
        reader.chunked(message)
    elif message.all(b"content-length"):
        reader.counted(message, length)
    else:
        message.body = reader.bytes(len(reader.left))
        if end is not End.FIN:
            raise Missing
    message.whole = True
