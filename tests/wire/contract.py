"""What this gateway promises beyond what the cases require of any proxy. Checked on every case, on this gateway alone.

What lives here: names, spelling and order of fields on both sides, what is added and what never is, the form of its own
answers. What never will: a rule that another proxy would have to follow.
"""

import json
import re
from collections.abc import Iterator

from .case import Case
from .checks import HOP_BY_HOP, MADE_ANEW
from .messages import PREFIX, Fields, Got, Seen
from .play import Play

REQUEST_ID = re.compile(rb"[0-9A-Za-z._~+/=:@-]{1,128}")
ADDED = frozenset(
    [
        b"host",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-forwarded-prefix",
        b"x-request-id",
        b"te",
        b"connection",
        b"content-length",
        b"transfer-encoding",
    ]
)
"""What a request may have at the backend that the client did not say."""
OF_AN_ERROR = {"error", "message", "path", "timestamp", "status_code", "request_id"}


def contract(case: Case, play: Play) -> Iterator[str]:
    """What is wrong, in words."""
    for place, seen in enumerate(play.seen):
        yield from _request(f"request {place + 1} at the backend", seen)
        if place < len(play.sent) and len(play.seen) == len(play.sent) and seen.target == play.sent[place].target:
            told = play.sent[place].fields
            yield from _kept(f"request {place + 1} at the backend", told, seen.fields, play.protocol == "2")
            invented = {name.lower() for name, _ in seen.fields} - {name.lower() for name, _ in told} - ADDED
            if invented:
                yield f"request {place + 1} at the backend: {sorted(invented)} came from nowhere"
    for place, got in enumerate(play.answers):
        if got.status >= 200:
            yield from _answer(f"answer {place + 1} at the client", got)
        if place < len(play.given) and len(play.answers) == len(play.given) == len(play.seen) and got.complete:
            told = play.given[place].fields
            if got.status == play.given[place].status:
                if b"api-gateway" not in (got.all(b"via") or [b""])[-1]:
                    yield f"answer {place + 1} at the client: Via ends in {got.all(b'via')}"
                yield from _kept(f"answer {place + 1} at the client", told, got.fields, play.protocol == "2")
    if case.ours is not None and (not play.answers or play.answers[0].status != case.ours):
        yield f"answered with {[got.status for got in play.answers]}, not with the {case.ours} that is promised"


def _request(who: str, seen: Seen) -> Iterator[str]:
    wanted = {
        b"x-forwarded-for": b"127.0.0.1",
        b"x-forwarded-proto": b"http",
        b"x-forwarded-prefix": PREFIX,
        b"x-forwarded-host": (seen.all(b"host") or [b""])[0],
    }
    if not seen.all(b"x-forwarded-host"):
        wanted.pop(b"x-forwarded-host")  # a client of HTTP/1.0 may name no host
    for name, value in wanted.items():
        if seen.all(name) != [value]:
            yield f"{who}: {name.decode()} is {seen.all(name)}, not {value!r}"
    if (seen.all(b"via") or [b""])[-1] not in (b"1.0 api-gateway", b"1.1 api-gateway", b"2 api-gateway"):
        yield f"{who}: Via ends in {seen.all(b'via')}"
    yield from _identified(who, seen)


def _answer(who: str, got: Got) -> Iterator[str]:
    yield from _identified(who, got)
    if len(got.all(b"date")) != 1:
        yield f"{who}: Date {got.all(b'date')}"
    if not got.all(b"proxy-status"):
        return
    if got.all(b"content-type") != [b"application/json"]:
        yield f"{who}: an error of type {got.all(b'content-type')}"
    if not got.body.size:
        return  # to HEAD
    error = json.loads(got.body.start)
    if not set(error) >= OF_AN_ERROR or error["status_code"] != got.status:
        yield f"{who}: an error that tells {error}"
    elif [error["request_id"].encode()] != got.all(b"x-request-id"):
        yield f"{who}: two request ids"


def _identified(who: str, message: Seen | Got) -> Iterator[str]:
    told = message.all(b"x-request-id")
    if len(told) != 1 or not REQUEST_ID.fullmatch(told[0]):
        yield f"{who}: X-Request-ID is {told}"


def _kept(who: str, said: Fields, arrived: list[tuple[bytes, bytes]], lowered: bool) -> Iterator[str]:  # noqa: FBT001 - one caller, above
    """Names as they were spelt, over HTTP/2 in lower case, and in their order, across names too."""
    named = {
        token.strip().lower() for name, value in said if name.lower() == b"connection" for token in value.split(b",")
    }
    kept = [
        (name, value)
        for name, value in said
        if name.lower() not in HOP_BY_HOP | MADE_ANEW | named | {b"cookie"}
        and not name.lower().startswith(b"x-forwarded")
    ]
    names = {name.lower() for name, _ in kept}
    if lowered:
        kept = [(name.lower(), value) for name, value in kept]
    told = [(name, value) for name, value in arrived if name.lower() in names]
    if told != kept:
        yield f"{who}: fields {told}, not {kept}"
