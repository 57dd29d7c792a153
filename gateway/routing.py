r"""Raw request target in; the route and the raw target for its backend out, or a refusal.

**Bytes are kept.** The target is matched and passed on as it came: ``%2F``, ``%20``, ``//``, ``;a=b`` and a ``?`` with
nothing behind it mean whatever the backend takes them to mean. The tempting way, to decode, match and encode again,
changes targets (which ``%`` was whose?) and lets two spellings of one path go two ways.

**A backend never sees a path outside its upstream prefix.** Keeping bytes means that somebody else resolves the dot
segments later, in a way we cannot know: before or after percent-decoding, once or twice, with ``\`` for ``/``, with
``//`` merged, with ``;…`` cut off. So a target with dot segments passes only if it stays inside its route under every
one of these readings. Two things follow from that rule:

- ``/api/service1/a/../b`` passes, as sent; ``/api/service1/../service2/x`` is 400.
- Dot segments beside an encoded or a backward slash (``a%2Fb/../c``) are 400 always: what ``..`` takes away depends on
  whether the slash is one.

| target | comes out as |
|---|---|
| origin-form, ``/path?query`` | matched |
| absolute-form, ``http://host/path?query`` | matched by its path; ``Match.authority`` then goes before Host |
| asterisk-form, ``*`` | the gateway's own |
| authority-form, a fragment, a control character, a space, a byte over 0x7E | BadRequest |

Bytes over 0x7E are no part of a URI (RFC 3986 section 2): some parsers refuse them, others take them for Latin-1 or
UTF-8. Refusing is the only answer that does not depend on the backend. Percent-encoded, they pass.

What never lives here: services' addresses, methods, header fields, decoded paths.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.errors import BadRequest, NoRoute

_OWNED_PATHS = frozenset([b"/health", b"/livez", b"/readyz", b"/api/gateway"])
_OWNED_PREFIX = b"/api/gateway"

# Printable ASCII but "#": the fragment is the client's own affair and never sent (RFC 9110 section 7.1).
_TARGET_BYTES = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)

# Without one of these a path has no dot segment under any reading. Nearly every path ends its check here.
_MAY_HOLD_DOT_SEGMENT = re.compile(rb"/\.|[%\\]")
# What ends a segment early for some reader: path parameters, and what C strings, Windows and URL parsers cut at.
_TAIL = rb"[;?#\x00-\x20]"
_DOT_SEGMENT = re.compile(rb"[/\\]\.\.?(?=[/\\]|%s|\Z)" % _TAIL)
_SEGMENT_TAIL = re.compile(_TAIL + rb"[^/]*")
# Decoding again must end somewhere: each round costs the length of the path.
_MAX_DECODINGS = 4


@dataclass(frozen=True, slots=True)
class Route:
    """Paths under ``prefix`` go to ``service``, with ``upstream_prefix`` in its place.

    Both begin with ``/`` and do not end with it; ``b""`` stands for the root.
    """

    service: str
    prefix: bytes
    upstream_prefix: bytes


class Match(NamedTuple):
    """Where a request goes."""

    route: Route
    target: bytes
    """The origin-form target for the backend, query included."""
    authority: bytes | None = None
    """The authority of a target in absolute-form, which goes before Host (RFC 9112 section 3.2.2); else None."""


_OWN = Route("", _OWNED_PREFIX, _OWNED_PREFIX)


def is_owned(path: bytes) -> bool:
    """Whether the gateway itself answers to this path (no query)."""
    return path in _OWNED_PATHS or path.startswith(b"/api/gateway/")


def split_target(target: bytes) -> tuple[bytes, bytes | None, bytes | None]:
    """Path, query and authority of a raw request target.

    The query is None where there is no ``?``, and the authority is None unless the target is in absolute-form. The
    path of asterisk-form is ``*``. Raises BadRequest.
    """
    origin, authority = _origin_form(target)
    path, mark, query = origin.partition(b"?")
    return path, query if mark else None, authority


def _origin_form(target: bytes) -> tuple[bytes, bytes | None]:
    if target.translate(None, _TARGET_BYTES):
        raise BadRequest("the request target holds a byte that a URI cannot hold, or a fragment")
    if target.startswith(b"/") or target == b"*":
        return target, None
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        raise BadRequest("the request target is neither a path nor an http URL")
    authority, rest = match.groups()
    # RFC 9110 sections 4.2.1 and 4.2.4: a host must be there, and user information is to be treated as an error.
    if not authority or b"@" in authority:
        raise BadRequest("the URL in the request target has no host, or holds user information")
    return rest if rest.startswith(b"/") else b"/" + rest, authority


class RouteTable:
    """The routes of one gateway. A prefix that is malformed, given twice, or the gateway's own is a ValueError."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._by_prefix: dict[bytes, Route] = {}
        for route in self.routes:
            for prefix in (route.prefix, route.upstream_prefix):
                if prefix and (not prefix.startswith(b"/") or prefix.endswith(b"/")):
                    raise ValueError(f"a prefix begins with a slash and does not end with one: {prefix!r}")
            if route.prefix in self._by_prefix:
                raise ValueError(f"two services on one prefix: {route.prefix!r}")
            if is_owned(route.prefix):
                raise ValueError(f"a prefix of the gateway's own: {route.prefix!r}")
            self._by_prefix[route.prefix] = route
        # One look-up per length, not per route: a hundred services on /api/<name> cost a handful of them.
        self._lengths = sorted({len(prefix) for prefix in self._by_prefix}, reverse=True)
        prefixes = [*self._by_prefix, *_OWNED_PATHS]
        self._has_others_beneath = {
            prefix for prefix in self._by_prefix if any(other.startswith(prefix + b"/") for other in prefixes)
        }

    def __repr__(self) -> str:
        rows = ", ".join(f"{r.prefix.decode('ascii', 'replace') or '/'} -> {r.service}" for r in self.routes)
        return f"<RouteTable {rows}>"

    def resolve(self, target: bytes) -> Match | None:
        """Where this request goes; None means to the gateway itself.

        Raises NoRoute where no prefix matches, and BadRequest for a target that is malformed or unsafe.
        """
        origin, authority = _origin_form(target)
        path = origin.partition(b"?")[0]
        route = self._owner(path)
        if route is None:
            if path == b"*":
                return None
            raise NoRoute("no service answers to this path")
        if _MAY_HOLD_DOT_SEGMENT.search(path) is not None:
            self._refuse_unsafe(route, path[len(route.prefix) :])
        if route is _OWN:
            return None
        upstream = route.upstream_prefix + origin[len(route.prefix) :]
        # Nothing is left where both prefix and path end: the root is "/", never "" (RFC 9112 section 3.2.1).
        return Match(route, upstream if upstream.startswith(b"/") else b"/" + upstream, authority)

    def _owner(self, path: bytes) -> Route | None:
        """The route with the longest prefix that ends at a segment boundary of ``path``."""
        if is_owned(path):
            return _OWN
        for length in self._lengths:
            route = self._by_prefix.get(path[:length])
            # The slice at the boundary is empty where the path ends there.
            if route is not None and path[length : length + 1] in (b"/", b""):
                return route
        return None

    def _refuse_unsafe(self, route: Route, rest: bytes) -> None:
        """Raise BadRequest where ``rest``, the path below the prefix, can be read as another route's or as nobody's."""
        spellings = [rest]
        while (decoded := unquote_to_bytes(spellings[-1])) != spellings[-1]:
            if len(spellings) > _MAX_DECODINGS:
                raise BadRequest("the path is percent-encoded over and over")
            spellings.append(decoded)
        # Decoding only ever adds separators and dots, so what has no dot segment when decoded to the end never had one.
        if _DOT_SEGMENT.search(decoded) is None:
            return
        if b"\\" in decoded or decoded.count(b"/") != rest.count(b"/"):
            raise BadRequest("the path has dot segments beside an encoded or backward slash")
        for segments in _readings(spellings):
            below = _remove_dot_segments(segments)
            if below is None:
                raise BadRequest("the path's dot segments lead out of the service's prefix")
            if route.prefix in self._has_others_beneath and self._owner(route.prefix + below) is not route:
                raise BadRequest("the path's dot segments lead to another service's prefix")


def _readings(spellings: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The segments of a path as servers may see them: decoded or not, ``;…`` cut off or not, ``//`` merged or not."""
    for spelling in spellings:
        for path in {spelling, _SEGMENT_TAIL.sub(b"", spelling)}:
            segments = path.split(b"/")[1:]
            yield segments
            if b"" in segments:
                yield [segment for segment in segments if segment]


def _remove_dot_segments(segments: Iterable[bytes]) -> bytes | None:
    """The path without its dot segments (RFC 3986 section 5.2.4), or None where it climbs above its own start.

    The RFC lets a path that climbs too far end at the root. Here the root is a service's prefix, so that is an escape.
    """
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            if not kept:
                return None
            kept.pop()
        elif segment != b".":
            kept.append(segment)
    return b"".join(b"/" + segment for segment in kept)
