"""What the app says about its answer, checked, and as HTTP/1.1 puts it on the wire. Pure.

What lives here: the rules of one response head. What never will: I/O, the state of a connection.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus
from time import time
from typing import NamedTuple
from wsgiref.handlers import format_date_time

from hypercorn.config import Config

from gateway.http1 import RawHeaders

STATUS_LINES = {
    status: b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode("ascii"))
    for status in [s.value for s in HTTPStatus]
}
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROLS = re.compile(rb"[\x00\r\n]")
# Names that passed, lowered: answers name the same few dozen fields all day. Bounded, since an app may not.
_known_names: dict[bytes, bytes] = {}
_KNOWN_NAMES_LIMIT = 1024
_OURS_TO_SAY = frozenset(
    [b"connection", b"content-length", b"date", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"]
)
"""Framing and the connection are ours; a length or a date of the app's is checked, or noted."""


class ResponsePlan(NamedTuple):
    """A response as the app means it."""

    status: int
    headers: RawHeaders
    """Names and values as the app gave them, but for what is ours to say: the framing and the connection."""
    length: int | None
    """Its Content-Length."""
    bodiless: bool
    """No body goes with it, whatever the app sends: HEAD, 204, 304 (RFC 9110 section 6.4.1)."""
    close: bool
    """The app asked for the connection to be closed."""
    dated: bool


def plan_response(  # noqa: C901 -- one pass; its branches are the rules of a response head
    method: str, status: int, headers: Iterable[tuple[bytes, bytes]]
) -> ResponsePlan:
    """Check what the app gave. Raises ValueError where it is no final response, or would be read as another one."""
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is not the status of a final response")
    kept: RawHeaders = []
    values: list[bytes] = []
    length: int | None = None
    close = dated = False
    for given in headers:
        field = given
        name, value = field
        if type(name) is not bytes or type(value) is not bytes:  # ASGI lets them be anything that bytes can be made of
            field = name, value = bytes(name), bytes(value)
        lowered = _known_names.get(name)
        if lowered is None or value.strip() is not value:
            field = name, value = name.strip(), value.strip()
            lowered = _known_names.get(name) or _check_name(name)
        values.append(value)
        if lowered in _OURS_TO_SAY:
            if lowered == b"content-length":
                if not value.isdigit() or (length is not None and length != int(value)):
                    raise ValueError(f"a malformed or second Content-Length: {value!r}")
                if length is not None or status == 204:
                    continue
                length = int(value)
            elif lowered == b"date":
                dated = True
            else:
                close = close or (lowered == b"connection" and b"close" in value.lower())
                continue
        kept.append(field)
    if _CONTROLS.search(b"".join(values)):  # all at once: a search per value would cost more than all the rest
        raise ValueError("a control character in the value of a field")
    return ResponsePlan(status, kept, length, method == "HEAD" or status in (204, 304), close, dated)


def _check_name(name: bytes) -> bytes:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a field")
    lowered = name.lower()
    if len(_known_names) < _KNOWN_NAMES_LIMIT:
        _known_names[name] = lowered
    return lowered


def lowered(headers: RawHeaders) -> RawHeaders:
    """The same with names in lower case, as HTTP/2 has them (RFC 9113 section 8.2)."""
    return [(_known_names.get(name) or name.lower(), value) for name, value in headers]


def serialize_response_head(status: int, headers: RawHeaders) -> bytes:
    """A status line and its fields, up to and with the empty line. The fields were checked by ``plan_response``."""
    line = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"".join([line, *[b"%s: %s\r\n" % field for field in headers], b"\r\n"])


class DateField:
    """The ``Date`` field (RFC 9110 section 6.6.1), formatted once per second. This is the world's time, not trio's."""

    def __init__(self) -> None:
        self._second = -1
        self._field = (b"date", b"")

    def now(self) -> tuple[bytes, bytes]:
        """The field as of now."""
        second = int(time())
        if second != self._second:
            self._second = second
            self._field = (b"date", format_date_time(second).encode("ascii"))
        return self._field


_DATE = DateField()


def own_fields(config: Config, *, dated: bool) -> RawHeaders:
    """What the server adds to an answer: ``Date`` where there is none, ``Alt-Svc`` where configured. No ``Server``."""
    fields: RawHeaders = []
    if config.include_date_header and not dated:
        fields.append(_DATE.now())
    if config.alt_svc_headers:
        fields.extend((b"alt-svc", value.encode("ascii")) for value in config.alt_svc_headers)
    return fields
