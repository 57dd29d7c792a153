"""What may cross the gateway in a header section, each way, and what the gateway adds.

Everything crosses, in order, duplicates and bytes kept, but for the fields in the tables below. The tempting way, a
dict of lower-cased names, loses the order, the duplicates and the spelling in one step.

| field | to the backend | to the client |
|---|---|---|
| ``Connection`` and what it names, the rest of HOP_BY_HOP | stops (RFC 9110 section 7.6.1) | stops |
| ``Content-Length`` | stays; checked | stays; checked |
| ``Transfer-Encoding`` | stops; checked. Framing is the transport's | stops; checked. Framing is the server's |
| ``TE`` | stops, but ``trailers`` | stops |
| ``Host`` | stays, or the service's own | crosses |
| ``X-Forwarded-For/-Host/-Proto/-Prefix`` | ours; appended to a trusted proxy's | crosses |
| ``Forwarded`` | only a trusted proxy's, appended to | crosses |
| ``X-Real-IP``, other ``X-Forwarded…`` | only a trusted proxy's, as sent | crosses |
| ``X-Request-ID`` | ours | ours |
| ``Via`` | one line more | one line more |
| ``Cookie`` | HTTP/2's crumbs are joined (RFC 9113 section 8.2.3) | crosses |
| ``Date`` | crosses | exactly one |

A name that some servers would take for one in the table (``X_Forwarded_For``: CGI, WSGI and their kin turn both
spellings into one variable) is dropped on its way to the backend, a trusted proxy's too.

Where ``te: trailers`` goes out, ``Connection: TE`` goes with it (RFC 9110 section 10.1.4): backends speak HTTP/1.1.

What never lives here: the status line, the framing of bodies, anything that waits.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from gateway.errors import BadRequest, BadResponse

RawHeaders = Sequence[tuple[bytes, bytes]]
"""Names in any case and values as received, in order."""

Fault = type[BadRequest] | type[BadResponse]

PSEUDONYM = b"api-gateway"
"""The gateway's name in Via. A pseudonym: the host's name is nobody's business (RFC 9110 section 7.6.3)."""

HOP_BY_HOP = frozenset(
    [
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    ]
)
"""Fields for one connection only: those of RFC 9110 section 7.6.1, and what belongs to this proxy or to an upgrade."""

_ONLY_OPTIONS = frozenset([b"close", b"keep-alive", b"te", b"upgrade"])
_FORWARDING = frozenset([b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix"])
_TRUSTED_ONLY = frozenset([b"x-real-ip"])
# Taken out of the request; what of them goes on is written afresh.
_REWRITTEN = HOP_BY_HOP | _FORWARDING | {b"forwarded", b"x-request-id"}
_STAYS = frozenset([b"host", b"content-length", b"cookie", b"via"])
_REQUEST_JUDGED = _REWRITTEN | _TRUSTED_ONLY | _STAYS
_RESPONSE_JUDGED = HOP_BY_HOP | {b"content-length", b"date", b"x-request-id"}

# A Connection field that names one of these does not take it away: without them the next hop would be deceived about
# where the message ends, whom it is for or whom it is from.
_NOT_FOR_CONNECTION = _FORWARDING | _TRUSTED_ONLY | {b"host", b"content-length", b"forwarded", b"x-request-id", b"via"}

# RFC 9110 section 6.5.1: framing, routing, authentication, request modifiers, response control data, content format.
_NOT_IN_TRAILERS = (
    _REQUEST_JUDGED
    | _RESPONSE_JUDGED
    | {
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"expect",
        b"expires",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"location",
        b"max-forwards",
        b"pragma",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"trailer",
        b"vary",
        b"www-authenticate",
    }
)

_TOKENS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")
_CONTROLS = bytes(byte for byte in [*range(0x20), 0x7F] if byte != ord("\t"))
_LENGTH = re.compile(rb"[0-9]{1,18}")
# The grammar of RFC 3986 has sub-delims and percent-encodings too. No name in DNS has them, and a comma would forge an
# element of X-Forwarded-Host.
_AUTHORITY = re.compile(rb"(?:\[[0-9A-Za-z:.]+\]|[0-9A-Za-z._~-]+)(?::[0-9]*)?")
_REQUEST_ID = re.compile(rb"[0-9A-Za-z._~+/=:@-]{1,128}")
# An element of Forwarded ends at a comma outside quotes; RFC 7239 section 4.
_FORWARDED_ELEMENT = re.compile(rb'(?:[^,"]++|"(?:[^"\\]|\\.)*+")++')
_FORWARDED_FOR = re.compile(rb'(?:^|;)[ \t]*for=(?:"([^"]*)"|([^;"]*))', re.IGNORECASE)
# Lower case, and a hyphen for every sign that CGI's environment cannot spell.
_FOLD = re.sub(rb"[^0-9a-z]", b"-", bytes(range(256)).lower())


class Inbound(NamedTuple):
    """The connection that a request came in on."""

    client: str
    """The peer's IP address; empty where it has none."""
    scheme: str
    """``http`` or ``https``."""
    http_version: str
    """``1.0``, ``1.1`` or ``2``."""
    authority: bytes | None = None
    """That of a request target in absolute-form. It goes before Host (RFC 9112 section 3.2.2)."""


class TrustedProxies:
    """The networks whose word about the client is believed."""

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network] = ()) -> None:
        self._networks = tuple(networks)
        # Parsing an address costs more than all the rest of a request's headers. The cache is bounded: clients choose.
        self._cached = lru_cache(maxsize=4096)(self._look_up)

    def __contains__(self, address: str) -> bool:
        return bool(self._networks) and self._cached(address)

    def __repr__(self) -> str:
        return f"<TrustedProxies {', '.join(map(str, self._networks)) or 'none'}>"

    def _look_up(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        # A dual-stack listener shows IPv4 peers as ::ffff:192.0.2.1.
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def request_id(received: RawHeaders) -> bytes | None:
    """The client's own X-Request-ID, where there is exactly one and it can go into a log line and a header as it is."""
    found = [value for name, value in received if len(name) == 12 and name.lower() == b"x-request-id"]
    return found[0] if len(found) == 1 and _REQUEST_ID.fullmatch(found[0]) else None


def client_address(received: RawHeaders, inbound: Inbound, trusted: TrustedProxies) -> str:
    """The address for the log: the nearest one that no trusted proxy has; the peer's own where nobody is trusted.

    Read from X-Forwarded-For, or from Forwarded where there is none. What stands left of an untrusted address, or of
    something that is no address, was not seen by anybody we trust, and is not looked at.
    """
    address = inbound.client
    if address not in trusted:
        return address
    for node in reversed(_forwarded_for(received)):
        hop = _address(node)
        if hop is None:
            break
        address = hop
        if address not in trusted:
            break
    return address


def request_headers(  # noqa: PLR0913 -- one call per request, all by name
    received: RawHeaders,
    inbound: Inbound,
    *,
    trusted: TrustedProxies,
    prefix: bytes,
    request_id: bytes,
    authority: bytes,
    preserve_host: bool = True,
) -> list[tuple[bytes, bytes]]:
    """The header section for the backend.

    ``authority`` is the service's own. It becomes Host where ``preserve_host`` is off, and where an HTTP/1.0 client
    sent none. Raises BadRequest on ambiguous framing, on a Host that is missing, doubled or malformed (RFC 9112
    section 3.2), and on control characters.
    """
    _refuse_malformed(received, BadRequest)
    believed = inbound.client in trusted
    kept: list[tuple[bytes, bytes]] = []
    seen: dict[bytes, list[bytes]] = {}
    for field in received:
        name = field[0]
        key = name.translate(_FOLD)
        if key not in _REQUEST_JUDGED and not key.startswith(b"x-forwarded"):
            kept.append(field)
        elif name.lower() == key:  # else it only looks alike
            seen.setdefault(key, []).append(field[1])
            if key in _STAYS or (believed and key not in _REWRITTEN):
                kept.append(field)

    _refuse_ambiguous_framing(seen, inbound.http_version, BadRequest)
    host = _host(seen, inbound)
    sent_host = host if host is not None and preserve_host else authority
    if seen.get(b"host") != [sent_host]:
        kept = _with_host(kept, sent_host)
    if inbound.http_version == "2" and len(seen.get(b"cookie", ())) > 1:
        kept = _with_one_cookie(kept, seen[b"cookie"])
    if b"connection" in seen:
        kept = _without_named(kept, seen[b"connection"])
    kept += _told_to_backend(inbound, host, prefix, seen if believed else {})
    kept.append((b"via", _via(inbound.http_version)))
    kept.append((b"x-request-id", request_id))
    if b"te" in seen and b"trailers" in _tokens(seen[b"te"]):
        kept += [(b"te", b"trailers"), (b"connection", b"TE")]
    return kept


def hops_left(received: RawHeaders) -> int | None:
    """How often the request may still be forwarded (RFC 9110 section 7.6.2); None where it does not say so clearly."""
    told = [value for name, value in received if len(name) == 12 and name.lower() == b"max-forwards"]
    return int(told[0]) if len(told) == 1 and _LENGTH.fullmatch(told[0]) else None


def one_hop_less(received: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The same with one taken off Max-Forwards, of which there must be some ``hops_left``."""
    return [(name, b"%d" % (int(value) - 1) if name.lower() == b"max-forwards" else value) for name, value in received]


def check_response(received: RawHeaders) -> None:
    """Raise BadResponse on a malformed name or value: over HTTP/2, a CR or LF would reach the client as it is.

    For fields that come from somewhere else than ``http1``, whose parser lets none of these pass.
    """
    _refuse_malformed(received, BadResponse)


def response_headers(
    received: RawHeaders, *, http_version: str, request_id: bytes, date: bytes
) -> list[tuple[bytes, bytes]]:
    """The header section for the client, of fields that ``check_response`` lets pass.

    ``http_version`` is the backend's; ``date`` (an IMF-fixdate) goes out where the backend sent none. Raises
    BadResponse on ambiguous framing.
    """
    kept: list[tuple[bytes, bytes]] = []
    seen: dict[bytes, list[bytes]] = {}
    for field in received:
        key = field[0].lower()
        if key not in _RESPONSE_JUDGED:
            kept.append(field)
            continue
        if key == b"content-length" or (key == b"date" and key not in seen):
            kept.append(field)
        seen.setdefault(key, []).append(field[1])

    _refuse_ambiguous_framing(seen, http_version, BadResponse)
    if b"connection" in seen:
        kept = _without_named(kept, seen[b"connection"])
    if b"date" not in seen:
        kept.append((b"date", date))
    kept.append((b"via", _via(http_version)))
    kept.append((b"x-request-id", request_id))
    return kept


def informational_headers(received: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The fields of a 1xx response for the client. Raises BadResponse on control characters."""
    _refuse_malformed(received, BadResponse)
    options = [value for name, value in received if name.lower() == b"connection"]
    stops = HOP_BY_HOP | {b"content-length"}
    return _without_named([field for field in received if field[0].lower() not in stops], options)


def trailer_fields(received: RawHeaders, fault: Fault) -> list[tuple[bytes, bytes]]:
    """The trailer section for the other side, without what must not come behind a body (RFC 9110 section 6.5.1).

    Dropped and not refused, as the RFC has it: the body has long gone out. Raises ``fault`` on control characters.
    """
    _refuse_malformed(received, fault)
    kept = []
    for field in received:
        key = field[0].translate(_FOLD)
        if key not in _NOT_IN_TRAILERS and not key.startswith(b"x-forwarded"):
            kept.append(field)
    return kept


def _refuse_malformed(received: RawHeaders, fault: Fault) -> None:
    """All names and all values at once: a check per field would cost more than everything else here together."""
    names = [name for name, _ in received]
    if b"" in names or _TOKENS.fullmatch(b"".join(names)) is None:
        raise fault("a header name is empty or holds a character that a name cannot hold")
    values = b"".join([value for _, value in received])
    if len(values.translate(None, _CONTROLS)) != len(values):
        name = next(name for name, value in received if len(value.translate(None, _CONTROLS)) != len(value))
        raise fault(f"the value of {name.decode()} holds a control character")


def _refuse_ambiguous_framing(seen: dict[bytes, list[bytes]], http_version: str, fault: Fault) -> None:
    """RFC 9112 section 6.3, without its licence to repair."""
    lengths = seen.get(b"content-length")
    codings = seen.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise fault("Content-Length beside Transfer-Encoding")
        if http_version != "1.1":
            raise fault("Transfer-Encoding in a message that is not HTTP/1.1")
        # Any other coding would have to be undone here, for the field that names it stops here.
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise fault("a transfer coding other than chunked")
    elif lengths is not None:
        if len(lengths) > 1:
            raise fault("more than one Content-Length")
        if _LENGTH.fullmatch(lengths[0]) is None:
            raise fault("a malformed Content-Length")


def _host(seen: dict[bytes, list[bytes]], inbound: Inbound) -> bytes | None:
    hosts = seen.get(b"host", [])
    if len(hosts) > 1:
        raise BadRequest("more than one Host")
    if not hosts and inbound.http_version != "1.0":
        raise BadRequest("no Host")
    host = inbound.authority if inbound.authority is not None else hosts[0] if hosts else None
    if host is not None and _AUTHORITY.fullmatch(host) is None:
        raise BadRequest("a malformed Host")
    return host


def _with_host(kept: RawHeaders, host: bytes) -> list[tuple[bytes, bytes]]:
    """First, where RFC 9110 section 7.2 wants it."""
    return [(b"host", host), *(field for field in kept if field[0].lower() != b"host")]


def _with_one_cookie(kept: RawHeaders, crumbs: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    names = [field[0].lower() for field in kept]
    first = names.index(b"cookie")
    rest = [field for name, field in zip(names[first:], kept[first:], strict=True) if name != b"cookie"]
    return [*kept[:first], (b"cookie", b"; ".join(crumbs)), *rest]


def _without_named(kept: list[tuple[bytes, bytes]], options: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    tokens = _tokens(options)
    if tokens <= _ONLY_OPTIONS:  # the common case, and it names no field
        return kept
    named = {name for name in tokens - _NOT_FOR_CONNECTION if not name.startswith(b"x-forwarded")}
    return [field for field in kept if field[0].lower() not in named]


def _tokens(values: Iterable[bytes]) -> set[bytes]:
    return {token.strip(b" \t").lower() for value in values for token in value.split(b",")}


def _via(http_version: str) -> bytes:
    return http_version.encode() + b" " + PSEUDONYM


def _told_to_backend(
    inbound: Inbound, host: bytes | None, prefix: bytes, before: dict[bytes, list[bytes]]
) -> list[tuple[bytes, bytes]]:
    """The forwarding fields. ``before`` is what a trusted proxy told us; each of its lists grows by our element.

    All of them grow, not X-Forwarded-For alone: who reads them counts trusted hops from the right, in every list alike.
    """
    client, scheme = inbound.client.encode(), inbound.scheme.encode()
    own = [
        (b"x-forwarded-for", client),
        (b"x-forwarded-host", host),
        (b"x-forwarded-proto", scheme),
        (b"x-forwarded-prefix", prefix),
    ]
    if b"forwarded" in before:
        own.append((b"forwarded", _forwarded(client, host, scheme)))
    if not before:
        return [(name, value) for name, value in own if value]
    return [(name, b", ".join([*filter(None, before.get(name, ())), value])) for name, value in own if value]


def _forwarded(client: bytes, host: bytes | None, scheme: bytes) -> bytes:
    """One element of Forwarded (RFC 7239 section 4); an IPv6 address is bracketed and quoted there."""
    node = b'"[%s]"' % client if b":" in client else client
    return b"for=%s;%sproto=%s" % (node, b'host="%s";' % host if host is not None else b"", scheme)


def _forwarded_for(received: RawHeaders) -> list[bytes]:
    """The hops before the peer as they were told to us, the farthest first."""
    values = [value for name, value in received if name.lower() == b"x-forwarded-for"]
    if values:
        return [node for value in values for node in value.split(b",")]
    hops = []
    for name, value in received:
        if name.lower() == b"forwarded":
            for element in _FORWARDED_ELEMENT.findall(value):
                found = _FORWARDED_FOR.search(element)
                hops.append((found[1] or found[2] or b"") if found else b"")
    return hops


def _address(node: bytes) -> str | None:
    """The IP address in ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1``, ``[2001:db8::1]`` or ``[2001:db8::1]:80``."""
    text = node.strip(b" \t").decode("latin-1")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        # A zone is whatever somebody has written behind a percent sign; it means nothing but on their own machine.
        return None if "%" in text else str(ip_address(text))
    except ValueError:
        return None
