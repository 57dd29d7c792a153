"""Messages as a case means them, and as they arrived. No sockets, no opinions.

What lives here: requests and answers as values, their HTTP/1.1 bytes, and bodies that may be too large to hold. What
never will: what is right.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]

PREFIX = b"/w"
"""Every target of a case is below it, and a proxy under test passes it on as it is."""
HOST = b"wire.example"

PIECE = 65_536
KEPT = 65_536
"""Bytes of a body that are kept to be shown; of the rest only the digest is."""


@dataclass(frozen=True)
class Blob:
    """A large body: ``size`` bytes that tell their place, so that nothing can be lost, doubled or swapped unseen."""

    size: int
    chunk: int | None = None
    """Bytes of each chunk; None for a body with a Content-Length."""

    def pieces(self) -> Iterator[bytes]:
        """The body, in pieces of ``chunk`` bytes or of PIECE."""
        step = self.chunk or PIECE
        for start in range(0, self.size, step):
            length = min(step, self.size - start)
            yield (b"%015x\n" % start * (length // 16 + 1))[:length]


Body: TypeAlias = bytes | tuple[bytes, ...] | Blob | None
"""None: no body and no framing. bytes: by Content-Length. A tuple: these chunks. A Blob: by its ``chunk``."""


class Digest:
    """What is kept of a body on its way by: its length, its hash, and its beginning."""

    def __init__(self) -> None:
        self.size = 0
        self.start = b""
        self._hash = hashlib.sha256()

    @classmethod
    def of(cls, body: Body) -> "Digest":
        """The digest of a body that a case means."""
        digest = cls()
        for piece in pieces_of(body):
            digest.add(piece)
        return digest

    def add(self, data: bytes) -> None:
        """More of the body."""
        self.size += len(data)
        self._hash.update(data)
        if len(self.start) < KEPT:
            self.start += data[: KEPT - len(self.start)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and (self.size, self._hash.digest()) == (other.size, other._hash.digest())

    def __hash__(self) -> int:
        return hash(self._hash.digest())

    def __repr__(self) -> str:
        shown = repr(self.start[:60]) + ("…" if self.size > 60 else "")
        return f"<{self.size} bytes: {shown}>"


def pieces_of(body: Body) -> Iterator[bytes]:
    """The content of a body, in the pieces that it is sent in."""
    if isinstance(body, Blob):
        yield from body.pieces()
    elif isinstance(body, tuple):
        yield from body
    elif body:
        yield body


def length_of(body: Body) -> int | None:
    """What Content-Length says of it; None where it goes in chunks, or is none."""
    if isinstance(body, Blob):
        return body.size if body.chunk is None else None
    return len(body) if isinstance(body, bytes) else None


def is_chunked(body: Body) -> bool:
    """Whether it goes in chunks."""
    return isinstance(body, tuple) or (isinstance(body, Blob) and body.chunk is not None)


def framing_of(body: Body) -> Fields:
    """The field that frames it in HTTP/1.1."""
    if is_chunked(body):
        return ((b"Transfer-Encoding", b"chunked"),)
    length = length_of(body)
    return () if length is None else ((b"Content-Length", b"%d" % length),)


def lines(fields: Fields) -> bytes:
    """Field lines."""
    return b"".join(b"%s: %s\r\n" % each for each in fields)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def last_chunk(trailers: Fields = ()) -> bytes:
    """The end of a chunked body."""
    return b"0\r\n%s\r\n" % lines(trailers)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request that both protocols can say."""

    method: bytes = b"GET"
    target: bytes = PREFIX + b"/case"
    fields: Fields = ()
    """Besides Host and the framing. Over HTTP/2 names go in lower case, and those of connections do not go."""
    body: Body = None
    trailers: Fields = ()
    host: bytes = HOST
    version: bytes = b"1.1"
    """Over HTTP/1 only."""

    def head(self) -> bytes:
        """As HTTP/1.1 has it."""
        start = b"%s %s HTTP/%s\r\nHost: %s\r\n" % (self.method, self.target, self.version, self.host)
        return start + lines(self.fields + framing_of(self.body)) + b"\r\n"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer of the backend, over HTTP/1.1 as always there."""

    status: int = 200
    reason: bytes = b"Fine"
    fields: Fields = ()
    """Besides the framing."""
    body: Body = b""
    trailers: Fields = ()

    def head(self) -> bytes:
        """As HTTP/1.1 has it."""
        start = b"HTTP/1.1 %d %s\r\n" % (self.status, self.reason)
        return start + lines(self.fields + framing_of(self.body)) + b"\r\n"


@dataclass
class Arrived:
    """A message that arrived, at either end. Over HTTP/2 the pseudo-header fields are taken out."""

    fields: list[tuple[bytes, bytes]]
    body: Digest = field(default_factory=Digest)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    complete: bool = False
    """Whether its end came, the way that its framing says."""
    fault: str = ""
    """Why it did not, or why this is no message at all."""

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a field, in order; case does not matter."""
        return [value for each, value in self.fields if each.lower() == name.lower()]


@dataclass
class Seen(Arrived):
    """A request as the backend saw it."""

    method: bytes = b""
    target: bytes = b""
    version: bytes = b""
    connection: int = 0
    """Which of the backend's connections it came on."""


@dataclass
class Got(Arrived):
    """An answer as the client got it. A status of 0: none came."""

    status: int = 0
    reason: bytes = b""
    version: bytes = b""
    to_end: bool = False
    """Whether it was delimited by the end of the connection."""
    informational: list["Got"] = field(default_factory=list)
    """The 1xx answers before it."""
