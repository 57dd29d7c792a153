"""What must become of a header section on its way: said once more, from the contract, without the gateway's code.

Both functions give the fields that cross, in order, and leave out what the gateway adds; the tests look at that by
itself.
"""

import re

from .strict import Fields

STOPS = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"transfer-encoding",
    b"upgrade",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-authentication-info",
    b"http2-settings",
}
"""Of RFC 9110 section 7.6.1, and what belongs to a proxy or an upgrade."""
OURS = {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"x-request-id"}
NOT_TO_BE_NAMED = OURS | {b"host", b"content-length", b"via", b"forwarded", b"x-real-ip"}
"""A Connection field does not take these away."""
SPOOFABLE = STOPS | OURS | {b"forwarded", b"x-real-ip", b"host", b"content-length", b"cookie", b"via"}
"""Names whose look-alikes (``X_Real_IP``) do not reach a backend."""
SANE_ID = re.compile(rb"[0-9A-Za-z-]{1,128}")


def named_by_connection(fields: Fields) -> set[bytes]:
    return {
        token.strip(b"\t ").lower()
        for name, value in fields
        if name.lower() == b"connection"
        for token in value.split(b",")
    }


def to_backend(method: bytes, fields: Fields, *, http2: bool) -> Fields:
    """The fields of a client's request that reach the backend, Host and framing apart."""
    hops = values_of(fields, b"max-forwards")
    if method in (b"OPTIONS", b"TRACE") and len(hops) == 1 and hops[0].isdigit():  # RFC 9110 section 7.6.2
        fields = [(n, b"%d" % (int(hops[0]) - 1) if n.lower() == b"max-forwards" else v) for n, v in fields]
    named = {name for name in named_by_connection(fields) - NOT_TO_BE_NAMED if not name.startswith(b"x-forwarded")}
    kept = []
    for name, value in fields:
        lowered = name.lower()
        plain = re.sub(rb"[^a-z0-9]", b"-", lowered)
        if lowered in STOPS | OURS | named or lowered in (b"forwarded", b"x-real-ip"):
            continue
        if plain.startswith(b"x-forwarded") or (plain in SPOOFABLE and plain != lowered):
            continue
        kept.append((name, value))
    if http2:
        kept = [(name.lower(), value) for name, value in kept]
        crumbs = [value for name, value in kept if name == b"cookie"]
        if crumbs:
            at = next(index for index, (name, _) in enumerate(kept) if name == b"cookie")
            kept[at] = (b"cookie", b"; ".join(crumbs))
            kept = [each for index, each in enumerate(kept) if each[0] != b"cookie" or index == at]
    return kept


def to_client(fields: Fields, *, http2: bool) -> Fields:
    """The fields of a backend's answer that reach the client, framing, Date and X-Request-ID apart."""
    named = {name for name in named_by_connection(fields) - NOT_TO_BE_NAMED if not name.startswith(b"x-forwarded")}
    kept = [
        (name, value)
        for name, value in fields
        if name.lower() not in STOPS | named | {b"x-request-id", b"date", b"content-length"}
    ]
    return [(name.lower(), value) for name, value in kept] if http2 else kept


def without(fields: Fields, *names: bytes) -> Fields:
    return [(name, value) for name, value in fields if name.lower() not in names]


def values_of(fields: Fields, name: bytes) -> list[bytes]:
    return [value for each, value in fields if each.lower() == name]
