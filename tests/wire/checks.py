"""What a case requires of a proxy: a check reads the transcript and says what is wrong with it.

What lives here: requirements of the RFCs and of transparency, which hold for any reverse proxy. What is free to differ
(spelling and order of names, X-Forwarded-*, Server, its own errors' bodies) is not looked at. What never will: what
this gateway promises besides; ``contract`` has that.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .messages import Body, Digest, Fields, Got, Seen
from .play import Play

HOP_BY_HOP = frozenset(
    [
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    ]
)
"""Not compared: they are each connection's own (RFC 9110 section 7.6.1)."""
MADE_ANEW = frozenset(
    [b"host", b"content-length", b"date", b"via", b"server", b"forwarded", b"x-request-id", b"max-forwards"]
)
"""Not compared unless a case says so: a proxy has a say in them."""
IMF_FIXDATE = re.compile(rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")


class Check(Protocol):
    """One requirement."""

    def __call__(self, play: Play) -> Iterator[str]:
        """What is wrong, in words."""


def _compared(fields: Sequence[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """Values by name, of the fields that must cross as they are."""
    named = {
        token.strip().lower() for name, value in fields if name.lower() == b"connection" for token in value.split(b",")
    }
    told: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        key = name.lower()
        if not (key in HOP_BY_HOP | MADE_ANEW | named or key.startswith((b"x-forwarded", b"x-real"))):
            told.setdefault(key, []).append(value.strip(b" \t"))
    return told


def _fields(who: str, arrived: Mapping[bytes, list[bytes]], wanted: Mapping[bytes, list[bytes]]) -> Iterator[str]:
    for name, values in wanted.items():
        if arrived.get(name, []) != values:
            yield f"{who}: {name.decode()} is {arrived.get(name, [])}, not {values}"


def _by_name(fields: Sequence[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    told: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        told.setdefault(name.lower(), []).append(value)
    return told


def _trailers(wanted: Fields, unwanted: tuple[bytes, ...]) -> dict[bytes, list[bytes]]:
    return _by_name(wanted) | {name: [] for name in unwanted}


@dataclass(frozen=True)
class Arrives:
    """The request came to the backend as the client said it; where it was said in bytes, as told here.

    ``fields`` must have just these values; an empty list means that none may come.
    """

    n: int = 0
    method: bytes | None = None
    target: bytes | None = None
    fields: Mapping[bytes, list[bytes]] = field(default_factory=dict)
    body: Body | Digest = None
    trailers: Fields | None = None
    without_trailers: tuple[bytes, ...] = ()
    said: bool = True
    """Compare with what was said; else with what stands here alone."""

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        who = f"request {self.n + 1} at the backend"
        if len(play.seen) <= self.n:
            yield f"{who}: did not come"
            return
        seen = play.seen[self.n]
        request = play.sent[self.n] if self.said and len(play.sent) > self.n else None
        wanted = _compared(request.fields) if request is not None else {}
        method = self.method or (request.method if request else None)
        target = self.target or (request.target if request else None)
        body = self.body if self.body is not None else request.body if request else None
        trailers = self.trailers if self.trailers is not None else request.trailers if request else ()
        if method is not None and seen.method != method:
            yield f"{who}: method {seen.method!r}, not {method!r}"
        if target is not None and seen.target != target:
            yield f"{who}: target {seen.target!r}, not {target!r}"
        yield from _fields(who, _by_name(seen.fields), {**wanted, **self.fields})
        yield from _whole(who, seen)
        digest = body if isinstance(body, Digest) else Digest.of(body)
        if seen.body != digest:
            yield f"{who}: body {seen.body}, not {digest}"
        yield from _fields(f"{who}, trailers", _by_name(seen.trailers), _trailers(trailers, self.without_trailers))
        yield from sane_request(who, seen)


@dataclass(frozen=True)
class Comes:
    """The answer came to the client as the backend gave it; where it was given in bytes, as told here."""

    n: int = 0
    status: int | None = None
    reason: bytes | None = None
    fields: Mapping[bytes, list[bytes]] = field(default_factory=dict)
    body: Body | Digest = None
    trailers: Fields | None = None
    without_trailers: tuple[bytes, ...] = ()
    given: bool = True
    """Compare with what was given; else with what stands here alone."""

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        who = f"answer {self.n + 1} at the client"
        if len(play.answers) <= self.n:
            yield f"{who}: did not come"
            return
        got = play.answers[self.n]
        if got.fault:
            yield f"{who}: {got.fault}"
            return
        answer = play.given[self.n] if self.given and len(play.given) > self.n else None
        wanted = _compared(answer.fields) if answer is not None else {}
        status = self.status or (answer.status if answer else None)
        if status is not None and got.status != status:
            yield f"{who}: status {got.status}, not {status}"
        if self.reason is not None and got.version != b"HTTP/2" and got.reason != self.reason:
            yield f"{who}: reason {got.reason!r}, not {self.reason!r}"
        yield from _fields(who, _by_name(got.fields), {**wanted, **self.fields})
        yield from _whole(who, got)
        head = len(play.sent) > self.n and play.sent[self.n].method == b"HEAD"
        body = self.body if self.body is not None else answer.body if answer and not head else None
        digest = body if isinstance(body, Digest) else Digest.of(body)
        if got.body != digest:
            yield f"{who}: body {got.body}, not {digest}"
        trailers = self.trailers if self.trailers is not None else answer.trailers if answer else ()
        yield from _fields(f"{who}, trailers", _by_name(got.trailers), _trailers(trailers, self.without_trailers))
        yield from sane_answer(who, got)


def _whole(who: str, message: Seen | Got) -> Iterator[str]:
    if message.fault or not message.complete:
        yield f"{who}: not whole: {message.fault or 'its end did not come'}"


def sane_request(who: str, seen: Seen) -> Iterator[str]:
    """What every request on its way to a backend must be."""
    if seen.version != b"HTTP/1.1":
        yield f"{who}: {seen.version!r}"
    if len(seen.all(b"host")) != 1:
        yield f"{who}: Host {seen.all(b'host')} (RFC 9112 section 3.2)"
    yield from _no_hop_by_hop(who, seen)


def sane_answer(who: str, got: Got) -> Iterator[str]:
    """What every answer to a client must be. That it has a Date is asked where that is what a case is about."""
    dates = got.all(b"date")
    if len(dates) > 1 or (dates and not IMF_FIXDATE.fullmatch(dates[0])):
        yield f"{who}: Date {dates} (RFC 9110 section 6.6.1)"
    yield from _no_hop_by_hop(who, got)


def _no_hop_by_hop(who: str, message: Seen | Got) -> Iterator[str]:
    # Its own Connection, framing, and TE on its own connection a proxy may say; the others belong to somebody else.
    for name in (b"proxy-connection", b"http2-settings"):
        if message.all(name):
            yield f"{who}: {name.decode()} crossed (RFC 9110 section 7.6.1)"


@dataclass(frozen=True)
class Refused:
    """The client is told no, or its connection is closed, and the backend sees nothing of it."""

    n: int = 0
    statuses: Sequence[int] = (400,)
    silently: bool = True
    """Whether closing (over HTTP/2: resetting) without an answer will do too."""
    seen: int = 0
    """Requests that the backend may see, of those before."""

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        if len(play.seen) > self.seen:
            yield f"the backend saw {play.seen[-1].method!r} {play.seen[-1].target!r} of what was to be refused"
        got = play.answers[self.n] if len(play.answers) > self.n else Got([])
        if not got.status:
            if not self.silently:
                yield f"no answer, but {got.fault or 'nothing'}"
        elif got.status not in self.statuses:
            yield f"answered with {got.status}, not one of {list(self.statuses)}"


@dataclass(frozen=True)
class Broken:
    """The client can see that the answer failed: a 5xx of the proxy's, or an answer that does not end."""

    n: int = 0
    statuses: Sequence[int] = (502, 503, 504)
    begun: bool | None = None
    """True: the answer had to begin; False: it must not have begun, since there was nothing right in it."""
    told: bool = False
    """Whether it takes an answer, and closing will not do."""

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        got = play.answers[self.n] if len(play.answers) > self.n else Got([])
        if self.told and not got.status:
            yield f"no answer, but {got.fault or 'nothing'}"
        elif got.status in self.statuses:
            if self.begun:
                yield f"{got.status}, where the answer had begun"
        elif got.status and (got.complete or self.begun is False):
            yield f"a {got.status} {'ended cleanly' if got.complete else 'began'} with {got.body}"


@dataclass(frozen=True)
class Either:
    """One of these will do: where an RFC leaves a choice."""

    first: Sequence[Check]
    second: Sequence[Check]

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        first = [fault for check in self.first for fault in check(play)]
        second = [fault for check in self.second for fault in check(play)]
        if first and second:
            yield f"either ({'; '.join(first)}) or ({'; '.join(second)})"


@dataclass(frozen=True)
class Requests:
    """So many requests came to the backend, no more: nothing was sent twice, nothing was smuggled."""

    count: int = 1

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        if len(play.seen) != self.count:
            told = [f"{seen.method!r} {seen.target!r}" for seen in play.seen]
            yield f"the backend saw {len(play.seen)} requests, not {self.count}: {', '.join(told)}"


@dataclass(frozen=True)
class Dated:
    """The answer has one Date; this one, where it is told."""

    date: bytes | None = None

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        told = [value for got in play.answers[:1] for value in got.all(b"date")]
        if len(told) != 1 or (self.date is not None and told != [self.date]):
            yield f"Date is {told}"


@dataclass(frozen=True)
class Informed:
    """These 1xx came before the answer, and no others; the first had these fields."""

    statuses: tuple[int, ...]
    fields: Mapping[bytes, list[bytes]] = field(default_factory=dict)

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        told = [each for got in play.answers[:1] for each in got.informational]
        if tuple(each.status for each in told) != self.statuses:
            yield f"1xx: {[each.status for each in told]}, not {list(self.statuses)}"
        elif told:
            yield from _fields(f"the {told[0].status}", _by_name(told[0].fields), self.fields)


@dataclass(frozen=True)
class Cut:
    """The client's connection was ended behind that answer, with nothing more on it; or the backend's was."""

    after: int = 0
    backend: bool = False

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        if self.backend:
            if not play.backend_cut:
                yield "the backend's connection stays open"
            return
        if not play.client_cut or play.beyond or len(play.answers) != self.after + 1:
            yield f"the connection is {play.client_cut or 'open'} after {len(play.answers)} answers and {play.beyond!r}"


@dataclass(frozen=True)
class CutOff:
    """The request that the backend saw last ended before its end. To be told nonsense instead will not do."""

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        for seen in play.seen[-1:]:
            if seen.complete or not seen.fault:
                yield f"the backend took what was cut off for whole, with {seen.body}"
            elif not seen.fault.startswith("Ended"):
                yield f"the backend was told nonsense: {seen.fault}"


@dataclass(frozen=True)
class Ordered:
    """One signal before the other."""

    first: str
    second: str

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        told = [name for name in play.signalled if name in (self.first, self.second)]
        if told != [self.first, self.second]:
            yield f"{' before '.join(told) or 'nothing'}, where {self.first} was due before {self.second}"


@dataclass(frozen=True)
class ViaAppended:
    """Via has what was in it, and an element of the proxy's behind; in an answer that is left to the proxy."""

    before: tuple[bytes, ...] = ()
    in_answer: bool = False

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        messages: Sequence[Seen | Got] = play.answers if self.in_answer else play.seen
        told = [
            element.strip()
            for message in messages[:1]
            for value in message.all(b"via")
            for element in value.split(b",")
        ]
        count = len(self.before)
        if tuple(told[:count]) != self.before or (
            len(told) != count + 1 and not (self.in_answer and len(told) == count)
        ):
            yield f"Via is {told}, behind {list(self.before)}"


@dataclass(frozen=True)
class ForwardedFor:
    """The last element of X-Forwarded-For is the client's address."""

    address: bytes = b"127.0.0.1"

    def __call__(self, play: Play) -> Iterator[str]:
        """See Check."""
        told = [value for seen in play.seen[:1] for value in seen.all(b"x-forwarded-for")]
        if not told or told[-1].rpartition(b",")[2].strip() != self.address:
            yield f"X-Forwarded-For is {told}, for a client at {self.address.decode()}"
