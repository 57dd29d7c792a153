"""What the scripts of a case can do: one value per step, for the client, the backend, or both.

What lives here: names for steps. What never will: how they are done (``client1``, ``client2``, ``backend``).
"""

from dataclasses import dataclass
from typing import TypeAlias

from .messages import Answer, Body, Fields, Request


@dataclass(frozen=True)
class Signal:
    """Both: tell the other side that this place was reached."""

    name: str


@dataclass(frozen=True)
class Wait:
    """Both: go on once the other side has told so."""

    name: str


@dataclass(frozen=True)
class Pause:
    """Both: do nothing for a moment, so that what was sent leaves in a packet of its own."""

    seconds: float = 0.02


@dataclass(frozen=True)
class Bytes:
    """Both: send these bytes. Over HTTP/2 a client sends them after what it has sent so far."""

    data: bytes


@dataclass(frozen=True)
class Drip:
    """Both: send these bytes one by one, each by itself."""

    data: bytes


@dataclass(frozen=True)
class Leave:
    """Both: close the connection, with a FIN."""


@dataclass(frozen=True)
class Reset:
    """Both: close it with a RST; over HTTP/2 a client resets the newest stream."""


@dataclass(frozen=True)
class AwaitGone:
    """Both: read and drop what comes until the other end has closed."""


# ---- the client


@dataclass(frozen=True)
class Say:
    """Client: send a whole request."""

    request: Request


@dataclass(frozen=True)
class SayHead:
    """Client: send the head of a request; its body only announces how the rest is framed."""

    request: Request


@dataclass(frozen=True)
class SayBody:
    """Client: send more of the body of what was said last."""

    body: Body


@dataclass(frozen=True)
class SayEnd:
    """Client: end the body that was said in pieces."""

    trailers: Fields = ()


@dataclass(frozen=True)
class Open:
    """Client, HTTP/2: open a stream with these fields, pseudo-header fields included, whatever they are."""

    fields: Fields
    end: bool = True


@dataclass(frozen=True)
class Hear:
    """Client: read the next answer to its end; over HTTP/2 that of the oldest stream not yet heard."""

    method: bytes | None = None
    """What it answers, where that was said in bytes."""


@dataclass(frozen=True)
class HearInformational:
    """Client: read one 1xx answer."""


@dataclass(frozen=True)
class HearHead:
    """Client: read the head of the next answer."""

    method: bytes | None = None


@dataclass(frozen=True)
class HearBody:
    """Client: read on until this much of the body has come in all."""

    size: int


@dataclass(frozen=True)
class HearEnd:
    """Client: read the answer whose head was heard to its end."""


@dataclass(frozen=True)
class Together:
    """Client: do both at once."""

    first: tuple["ClientStep", ...]
    second: tuple["ClientStep", ...]


# ---- the backend. Its script begins when the head of a request has come.


@dataclass(frozen=True)
class ReadBody:
    """Backend: read the body to its end, or until this much of it has come."""

    size: int | None = None


@dataclass(frozen=True)
class Give:
    """Backend: send a whole answer."""

    answer: Answer


@dataclass(frozen=True)
class GiveHead:
    """Backend: send its head alone; the body is sent as Bytes or Echo."""

    answer: Answer


@dataclass(frozen=True)
class Echo:
    """Backend: send each piece of the request's body back as a chunk as soon as it comes, then the last chunk."""


Common: TypeAlias = Signal | Wait | Pause | Bytes | Drip | Leave | Reset | AwaitGone
ClientStep: TypeAlias = (
    Common
    | Say
    | SayHead
    | SayBody
    | SayEnd
    | Open
    | Hear
    | HearInformational
    | HearHead
    | HearBody
    | HearEnd
    | Together
)
BackendStep: TypeAlias = Common | ReadBody | Give | GiveHead | Echo
