"""What would become of a request, told in plain text: by the same routing and header policy that carries real ones.

What never lives here: rules of its own, I/O.
"""

import os
import re
import textwrap
from collections.abc import Iterator, Sequence

from gateway import headers, routing
from gateway.config import Service, Settings
from gateway.errors import BadRequest, GatewayError, NoRoute, NotImplementedMethod

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
_MADE_UP = b"(made for each request)"


def explain(
    settings: Settings, method: str, url: str, *, received: Sequence[tuple[str, str]] = (), client: str = "127.0.0.1"
) -> str:
    """Tell which way ``method url`` goes, what is sent to the backend, and which clocks run.

    ``url`` is a path or the whole URL as a client would be given it; ``received`` are more headers of the client's, and
    ``client`` its address.
    """
    raw = [(os.fsencode(name), os.fsencode(value)) for name, value in received]
    return "\n".join(_lines(settings, method, url, raw, client))


def _lines(
    settings: Settings, method: str, url: str, received: list[tuple[bytes, bytes]], client: str
) -> Iterator[str]:
    yield f"{method} {url}"
    authority, target = _as_sent(url, settings)
    services = {service.name: service for service in settings.services}
    if not any(name.lower() == b"host" for name, _ in received):
        received = [(b"Host", authority), *received]
    inbound = headers.Inbound(client, "https" if settings.tls_cert else "http", "1.1")
    try:
        if method == "CONNECT":
            raise NotImplementedMethod("CONNECT is not spoken here")
        table = routing.RouteTable(
            routing.Route(each.name, each.prefix.encode("ascii"), each.upstream_path.encode("ascii"))
            for each in settings.services
        )
        match = table.resolve(target)
        if target == b"*" and method != "OPTIONS":
            raise BadRequest("the target * is for OPTIONS alone")
        if match is None:
            yield "route     the gateway's own: it answers itself, and nothing is sent to a backend"
            return
        service = services[match.route.service]
        sent = headers.request_headers(
            received,
            inbound,
            trusted=headers.TrustedProxies(settings.trusted_proxies),
            prefix=match.route.prefix,
            request_id=headers.request_id(received) or _MADE_UP,
            authority=service.authority,
            preserve_host=service.preserve_host,
        )
    except GatewayError as error:
        yield f"refused   {error.status} {error.code}: {error.message}"
        if isinstance(error, NoRoute):
            yield "prefixes  " + ", ".join(service.prefix for service in services.values())
        return
    yield f"route     {service.name}, by its prefix {service.prefix}"
    yield f"backend   {service.origin}"
    yield f"request   {method} {match.target.decode('ascii')} HTTP/1.1"
    yield ""
    yield "headers   = as the client sent it, + added, - dropped"
    yield from _compared(received, sent)
    yield ""
    yield from _clocks(settings, service)


def _as_sent(url: str, settings: Settings) -> tuple[bytes, bytes]:
    """Host and request target as a client would send them: the fragment of a URL stays with the client."""
    raw = os.fsencode(url)
    whole = _ABSOLUTE.fullmatch(raw.partition(b"#")[0])
    if whole is None:
        return f"localhost:{settings.port}".encode("ascii"), raw
    return whole[1], whole[2] if whole[2].startswith(b"/") else b"/" + whole[2]


def _compared(received: headers.RawHeaders, sent: headers.RawHeaders) -> Iterator[str]:
    """Every field that is sent, in order, then those that are not. A changed field is one of each."""
    left = list(received)
    for field in sent:
        sign = "+"
        if field in left:
            left.remove(field)
            sign = "="
        yield _line(sign, field)
    for field in left:
        yield _line("-", field)
    always = b", ".join(sorted(headers.HOP_BY_HOP)).decode("ascii")
    told = f"  - whatever Connection names, and always: {always}"
    yield from textwrap.wrap(told, 100, subsequent_indent="    ", break_on_hyphens=False)


def _line(sign: str, field: tuple[bytes, bytes]) -> str:
    name, value = (part.decode("ascii", "backslashreplace") for part in field)
    return f"  {sign} {name}: {value}"


def _clocks(settings: Settings, service: Service) -> Iterator[str]:
    """The table of section "clocks", with this service's figures."""
    yield "clocks"
    for seconds, waits, outcome in (
        (service.connect_timeout, "to connect, as a part of the next", "503 where refused, 504 out of time"),
        (service.timeout, "for the head of the backend's answer", "504"),
        (service.timeout, "between two pieces of its body", "the answer is cut"),
        (settings.client_timeout, "for the client, each time", "408, or the answer is cut"),
        (service.deadline, "for the whole exchange", "504, or the answer is cut"),
    ):
        figure = "no limit" if seconds is None else f"{seconds:g} s"
        yield f"  {figure:>8}  {waits}: {outcome}"
