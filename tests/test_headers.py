"""Header policy: what crosses, what stops, what is added, what is refused."""

from collections.abc import Sequence
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest, BadResponse
from gateway.headers import (
    HOP_BY_HOP,
    Inbound,
    RawHeaders,
    TrustedProxies,
    check_response,
    client_address,
    hops_left,
    request_headers,
    request_id,
    response_headers,
    trailer_fields,
)

Headers = list[tuple[bytes, bytes]]

HOST = (b"Host", b"gateway.example")
STRANGER = Inbound("203.0.113.9", "http", "1.1")
PROXY = Inbound("10.0.0.1", "https", "1.1")
TRUSTED = TrustedProxies([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
ADDED = (b"x-forwarded-", b"forwarded", b"via", b"x-request-id", b"te", b"connection")


def to_backend(
    received: RawHeaders, inbound: Inbound = STRANGER, *, prefix: bytes = b"/api/service1", preserve_host: bool = True
) -> Headers:
    return request_headers(
        received,
        inbound,
        trusted=TRUSTED,
        prefix=prefix,
        request_id=b"id-1",
        authority=b"service1:8001",
        preserve_host=preserve_host,
    )


def to_client(received: RawHeaders, http_version: str = "1.1") -> Headers:
    return response_headers(received, http_version=http_version, request_id=b"id-1", date=DATE)


def values(headers: RawHeaders, name: bytes) -> list[bytes]:
    return [value for field, value in headers if field.lower() == name]


def crossed(headers: Headers) -> Headers:
    """Without what the gateway adds behind."""
    return [field for field in headers if not field[0].startswith(ADDED)]


# What crosses


@pytest.mark.requirement("FR-003")
def test_end_to_end_fields_cross_in_order_with_their_spelling_and_duplicates() -> None:
    received = [
        HOST,
        (b"ACCEPT", b"a"),
        (b"x-b", b""),
        (b"Accept", b"\xff\x80\t x"),
        (b"Authorization", b"Basic x"),
        (b"Cookie", b"a=b"),
        (b"Cookie", b"c=d"),
        (b"traceparent", b"00-1-2-03"),
        (b"my_header", b"1"),
        (b"Expect", b"100-continue"),
        (b"Trailer", b"x-sum"),
        (b"Content-Length", b"007"),
    ]
    assert to_backend(received)[: len(received)] == received


def test_nothing_is_invented_but_the_gateways_own() -> None:
    assert to_backend([HOST]) == [
        HOST,
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"x-forwarded-host", b"gateway.example"),
        (b"x-forwarded-proto", b"http"),
        (b"x-forwarded-prefix", b"/api/service1"),
        (b"via", b"1.1 api-gateway"),
        (b"x-request-id", b"id-1"),
    ]


@pytest.mark.requirement("FR-004")
def test_response_fields_cross_in_order_with_their_spelling_and_duplicates() -> None:
    received = [
        (b"Set-Cookie", b"a=b"),
        (b"SERVER", b"x"),
        (b"set-cookie", b"c=d"),
        (b"Date", b"yesterday"),
        (b"Content-Length", b"3"),
        (b"Content-Encoding", b"br"),
        (b"X-Forwarded-For", b"strange, but its own"),
        (b"Proxy-Status", b"inner"),
    ]
    assert to_client(received) == [*received, (b"via", b"1.1 api-gateway"), (b"x-request-id", b"id-1")]


NAMES = st.sampled_from(
    [b"accept", b"X-A", b"x-b", b"Cookie", b"my_header", b"Via", *sorted(HOP_BY_HOP - {b"transfer-encoding"})]
)


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, st.sampled_from([b"", b"a", b"x-a, cookie", b"trailers"]))))
def test_only_what_connection_names_and_hop_by_hop_fields_are_missing_behind_the_gateway(received: Headers) -> None:
    named = {token.strip().lower() for v in values(received, b"connection") for token in v.split(b",")}
    expected = [f for f in received if f[0].lower() not in HOP_BY_HOP and (f[0].lower() not in named or f[0] == b"Via")]
    sent = to_backend([HOST, *received])
    assert sent[: len(expected) + 1] == [HOST, *expected]
    assert all(name.startswith(ADDED) for name, _ in sent[len(expected) + 1 :])


# Hop-by-hop


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP - {b"te", b"transfer-encoding", b"connection"}))
def test_hop_by_hop_field_stops_both_ways(name: bytes) -> None:
    for spelled in (name, name.title(), name.upper()):
        assert crossed(to_backend([HOST, (spelled, b"x"), (b"A", b"b")])) == [HOST, (b"A", b"b")]
        assert values(to_client([(spelled, b"x")]), name) == []


def test_fields_that_connection_names_stop_both_ways() -> None:
    named = [(b"X-Hop", b"1"), (b"x-other", b"2"), (b"X-Stays", b"3")]
    connections = [(b"Connection", b"close,  X-HOP\t,"), (b"connection", b"X-Other")]
    assert crossed(to_backend([HOST, *connections, *named])) == [HOST, (b"X-Stays", b"3")]
    assert to_client([*named, *connections])[0] == (b"X-Stays", b"3")


def test_connection_cannot_take_away_what_the_backend_must_be_able_to_trust() -> None:
    names = b"""
        Host Content-Length X-Forwarded-For X-Forwarded-Port Forwarded X-Real-IP Via X-Request-ID
    """.split()
    received = [
        (b"Connection", b", ".join(names)),
        (b"Host", b"gateway.example"),
        (b"Content-Length", b"0"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Forwarded-Port", b"443"),
        (b"Forwarded", b"for=192.0.2.1"),
        (b"X-Real-IP", b"192.0.2.1"),
        (b"Via", b"1.1 outer"),
        (b"X-Request-ID", b"x"),
    ]
    sent = to_backend(received, PROXY)
    assert {name.lower() for name in names} <= {name.lower() for name, _ in sent}
    assert values(sent, b"x-forwarded-for") == [b"192.0.2.1, 10.0.0.1"]
    assert values(sent, b"via") == [b"1.1 outer", b"1.1 api-gateway"]


def test_connection_cannot_take_away_the_length_of_a_response() -> None:
    sent = to_client([(b"Connection", b"content-length, via, x-request-id"), (b"Content-Length", b"3")])
    assert sent[0] == (b"Content-Length", b"3")
    assert values(sent, b"via") == [b"1.1 api-gateway"]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([b"trailers"], [b"trailers"]),
        ([b"gzip;q=0.5, Trailers"], [b"trailers"]),
        ([b"gzip", b"trailers", b"trailers"], [b"trailers"]),
        ([b"gzip"], []),
        ([b"trailersx"], []),
        ([b""], []),
    ],
)
def test_of_te_only_trailers_goes_on(sent: list[bytes], expected: list[bytes]) -> None:
    fields = [(b"TE", value) for value in sent]
    told = to_backend([HOST, (b"Connection", b"TE"), *fields])
    assert values(told, b"te") == expected
    assert values(told, b"connection") == ([b"TE"] if expected else [])  # RFC 9110 section 10.1.4
    assert values(to_client(fields), b"te") == []


# Framing


def test_chunked_crosses_as_no_header_at_all() -> None:
    assert crossed(to_backend([HOST, (b"Transfer-Encoding", b"Chunked")])) == [HOST]
    assert values(to_client([(b"transfer-encoding", b"chunked")]), b"transfer-encoding") == []


AMBIGUOUS: list[tuple[Headers, str]] = [
    ([(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")], "beside"),
    ([(b"Transfer-Encoding", b"chunked"), (b"content-length", b"1")], "beside"),
    ([(b"Content-Length", b"1"), (b"Content-Length", b"2")], "more than one"),
    ([(b"Content-Length", b"1"), (b"content-length", b"1")], "more than one"),
    *(
        ([(b"Content-Length", value)], "malformed Content-Length")
        for value in (b"", b"1, 1", b"1,2", b"+1", b"-1", b"0x1", b"1_0", b" 1", b"1.0", b"\xb2", b"1" * 19)
    ),
    *(
        ([(b"Transfer-Encoding", value)], "transfer coding")
        for value in (
            b"",
            b"gzip",
            b"gzip, chunked",
            b"chunked, gzip",
            b"chunked, chunked",
            b"identity",
            b"xchunked",
            b"chunked\t",
        )
    ),
    ([(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")], "transfer coding"),
    ([(b"Transfer-Encoding", b"gzip"), (b"Transfer-Encoding", b"chunked")], "transfer coding"),
]


@pytest.mark.parametrize(("framing", "why"), AMBIGUOUS)
def test_ambiguous_framing_is_refused_both_ways(framing: Headers, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        to_backend([HOST, *framing])
    with pytest.raises(BadResponse, match=why):
        to_client(framing)


@pytest.mark.parametrize("http_version", ["1.0", "2"])
def test_transfer_encoding_outside_http_1_1_is_refused_both_ways(http_version: str) -> None:
    with pytest.raises(BadRequest, match=r"not HTTP/1\.1"):
        to_backend([HOST, (b"Transfer-Encoding", b"chunked")], Inbound("", "http", http_version))
    with pytest.raises(BadResponse, match=r"not HTTP/1\.1"):
        to_client([(b"Transfer-Encoding", b"chunked")], http_version)


@pytest.mark.parametrize("octet", [bytes([byte]) for byte in [*range(0x20), 0x7F] if byte != 0x09])
def test_control_character_in_a_value_is_refused_both_ways(octet: bytes) -> None:
    fields = [(b"A", b"b"), (b"X-Bad", b"a" + octet + b"b")]
    with pytest.raises(BadRequest, match="X-Bad"):
        to_backend([HOST, *fields])
    with pytest.raises(BadResponse, match="X-Bad"):
        check_response(fields)
    with pytest.raises(BadResponse, match="X-Bad"):
        trailer_fields(fields, BadResponse)


@pytest.mark.parametrize("name", [b"", b" ", b"a b", b"a:", b":path", b"a\r\nb", b"a\x00", b"\xe9", b"a(b)", b'"a"'])
def test_name_that_is_no_token_is_refused_both_ways(name: bytes) -> None:
    with pytest.raises(BadRequest, match="name"):
        to_backend([HOST, (name, b"x"), (b"a", b"b")])
    with pytest.raises(BadResponse, match="name"):
        check_response([(b"a", b"b"), (name, b"x")])


# Host


def test_host_goes_on_as_sent_where_it_is_preserved() -> None:
    assert to_backend([(b"A", b"b"), (b"hOST", b"Gateway.Example:80")])[:2] == [
        (b"A", b"b"),
        (b"hOST", b"Gateway.Example:80"),
    ]


def test_service_gets_its_own_authority_where_host_is_not_preserved() -> None:
    sent = to_backend([(b"A", b"b"), HOST], preserve_host=False)
    assert sent[:2] == [(b"host", b"service1:8001"), (b"A", b"b")]
    assert values(sent, b"host") == [b"service1:8001"]
    assert values(sent, b"x-forwarded-host") == [b"gateway.example"]


def test_authority_of_absolute_form_goes_before_host() -> None:
    sent = to_backend([HOST], Inbound("", "http", "1.1", b"other.example:81"))
    assert values(sent, b"host") == values(sent, b"x-forwarded-host") == [b"other.example:81"]


def test_http_1_0_without_host_gets_the_services_own() -> None:
    sent = to_backend([], Inbound("203.0.113.9", "http", "1.0"))
    assert values(sent, b"host") == [b"service1:8001"]
    assert values(sent, b"x-forwarded-host") == []
    assert values(sent, b"via") == [b"1.0 api-gateway"]


@pytest.mark.parametrize("http_version", ["1.1", "2"])
def test_missing_host_is_refused(http_version: str) -> None:
    with pytest.raises(BadRequest, match="no Host"):
        to_backend([(b"A", b"b")], Inbound("", "http", http_version, b"gateway.example"))


@pytest.mark.parametrize("http_version", ["1.0", "1.1", "2"])
def test_doubled_host_is_refused(http_version: str) -> None:
    with pytest.raises(BadRequest, match="more than one Host"):
        to_backend([HOST, (b"host", b"gateway.example")], Inbound("", "http", http_version))


@pytest.mark.parametrize(
    "host",
    [b"h", b"a-b.example", b"a_b:8000", b"127.0.0.1", b"[::1]", b"[2001:db8::1]:443", b"h:", b"xn--bcher-kva.example."],
)
def test_host_that_names_a_host_is_taken(host: bytes) -> None:
    assert to_backend([(b"Host", host)])[0] == (b"Host", host)


@pytest.mark.parametrize(
    "host",
    [b"", b"a b", b"b\xc3\xbccher", *b':80 a,b a/b a@b a:b a:1:2 ::1 [::1 ::1] a"b a;b'.split()],
)
def test_host_that_names_no_host_is_refused(host: bytes) -> None:
    with pytest.raises(BadRequest, match="malformed Host"):
        to_backend([(b"Host", host)])
    with pytest.raises(BadRequest, match="malformed Host"):
        to_backend([HOST], Inbound("", "http", "1.1", host))


# Forwarding fields

TOLD: Headers = [
    (b"X-Forwarded-For", b"192.0.2.1"),
    (b"x-forwarded-for", b"192.0.2.2"),
    (b"X-Forwarded-Host", b"outer.example"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Prefix", b"/outer"),
    (b"Forwarded", b"for=192.0.2.1"),
    (b"X-Real-IP", b"192.0.2.1"),
    (b"X-Forwarded-Port", b"443"),
]


def test_forwarding_fields_of_a_stranger_are_dropped() -> None:
    assert to_backend([HOST, *TOLD]) == to_backend([HOST])


def test_forwarding_fields_of_a_trusted_proxy_are_appended_to() -> None:
    assert to_backend([HOST, *TOLD], PROXY)[1:-2] == [
        (b"X-Real-IP", b"192.0.2.1"),
        (b"X-Forwarded-Port", b"443"),
        (b"x-forwarded-for", b"192.0.2.1, 192.0.2.2, 10.0.0.1"),
        (b"x-forwarded-host", b"outer.example, gateway.example"),
        (b"x-forwarded-proto", b"https, https"),
        (b"x-forwarded-prefix", b"/outer, /api/service1"),
        (b"forwarded", b'for=192.0.2.1, for=10.0.0.1;host="gateway.example";proto=https'),
    ]


def test_trusted_proxy_that_tells_nothing_is_the_client() -> None:
    sent = to_backend([HOST, (b"X-Forwarded-For", b"")], PROXY)
    assert values(sent, b"x-forwarded-for") == [b"10.0.0.1"]
    assert values(sent, b"x-forwarded-proto") == [b"https"]
    assert values(sent, b"forwarded") == []


def test_ipv6_proxy_is_quoted_in_forwarded_and_bare_in_x_forwarded_for() -> None:
    sent = to_backend([(b"Forwarded", b"for=_x")], Inbound("fd00::1", "http", "1.0"))
    assert values(sent, b"forwarded") == [b'for=_x, for="[fd00::1]";proto=http']
    assert values(sent, b"x-forwarded-for") == [b"fd00::1"]


def test_peer_without_an_address_and_route_without_a_prefix_are_not_told_of() -> None:
    sent = to_backend([HOST], Inbound("", "http", "1.1"), prefix=b"")
    assert [name for name, _ in sent if name.startswith(b"x-f")] == [b"x-forwarded-host", b"x-forwarded-proto"]


@pytest.mark.parametrize(
    "name",
    b"""
        X_Forwarded_For x-forwarded_for X.Forwarded.Host X_Real_IP X_Request_ID Content_Length
        TRANSFER_ENCODING x_forwarded_user
    """.split(),
)
def test_look_alike_is_dropped_a_trusted_proxys_too(name: bytes) -> None:
    for inbound in (STRANGER, PROXY):
        assert to_backend([HOST, (name, b"1")], inbound) == to_backend([HOST], inbound)


# Via, request id, date, cookies


def test_via_grows_by_a_line_with_the_version_that_the_message_came_in() -> None:
    sent = to_backend([HOST, (b"Via", b"1.0 a, 1.1 b")], Inbound("", "http", "2"))
    assert values(sent, b"via") == [b"1.0 a, 1.1 b", b"2 api-gateway"]
    assert values(to_client([(b"Via", b"1.1 inner")], "2"), b"via") == [b"1.1 inner", b"2 api-gateway"]


def test_request_id_is_the_gateways_both_ways() -> None:
    other = [(b"X-Request-ID", b"other"), (b"x-request-id", b"another")]
    assert values(to_backend([HOST, *other]), b"x-request-id") == [b"id-1"]
    assert values(to_client(other), b"x-request-id") == [b"id-1"]


@pytest.mark.parametrize("value", [b"a", b"0af7651916cd43dd8448eb211c80319c", b"Root=1-5759e988:x/y+z@w~.", b"a" * 128])
def test_sane_request_id_is_kept(value: bytes) -> None:
    assert request_id([HOST, (b"X-REQUEST-ID", value)]) == value


@pytest.mark.parametrize("value", [b"", b"a b", b"a,b", b'"a"', b"a\n", b"\xe9", b"{x}", b"a" * 129])
def test_request_id_that_cannot_go_into_a_log_is_not_kept(value: bytes) -> None:
    assert request_id([(b"X-Request-ID", value)]) is None


def test_no_or_two_request_ids_are_none() -> None:
    assert request_id([HOST, (b"x-request-xx", b"a")]) is None
    assert request_id([(b"X-Request-ID", b"a"), (b"x-request-id", b"a")]) is None


def test_response_has_exactly_one_date() -> None:
    assert values(to_client([]), b"date") == [DATE]
    assert values(to_client([(b"DATE", b"first"), (b"Date", b"second")]), b"date") == [b"first"]


def test_cookie_crumbs_of_http_2_become_one_cookie() -> None:
    received = [HOST, (b"a", b"1"), (b"cookie", b"a=b"), (b"b", b"2"), (b"cookie", b"c=d"), (b"cookie", b"e=f")]
    sent = to_backend(received, Inbound("", "http", "2"))
    assert crossed(sent) == [HOST, (b"a", b"1"), (b"cookie", b"a=b; c=d; e=f"), (b"b", b"2")]
    assert values(to_backend(received), b"cookie") == [b"a=b", b"c=d", b"e=f"]
    assert crossed(to_backend([HOST, received[2]], Inbound("", "http", "2"))) == [HOST, received[2]]


# The client's address


@pytest.mark.parametrize(
    ("peer", "told", "expected"),
    [
        ("203.0.113.9", [b"192.0.2.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b"192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", [b"198.51.100.7, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", [b"198.51.100.7", b"192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [b"192.0.2.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [b"192.0.2.1, "], "10.0.0.1"),
        ("10.0.0.1", [b"192.0.2.1:4711"], "192.0.2.1"),
        ("10.0.0.1", [b"2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", [b"[2001:db8::1]:4711"], "2001:db8::1"),
        ("fd00::1", [b"[2001:DB8:0::1]"], "2001:db8::1"),
        ("fd00::1", [b"fe80::1%x level=ERROR"], "fd00::1"),
        ("::ffff:10.0.0.1", [b"192.0.2.1"], "192.0.2.1"),
        ("", [b"192.0.2.1"], ""),
        ("/run/gateway.sock", [b"192.0.2.1"], "/run/gateway.sock"),
    ],
)
def test_client_is_the_nearest_address_that_no_trusted_proxy_has(peer: str, told: list[bytes], expected: str) -> None:
    received = [HOST, *((b"X-Forwarded-For", value) for value in told)]
    assert client_address(received, Inbound(peer, "http", "1.1"), TRUSTED) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([b"for=192.0.2.1"], "192.0.2.1"),
        ([b'proto=https;For="[2001:db8::1]:4711";by=x'], "2001:db8::1"),
        ([b'for=198.51.100.7, host="a,b" ; for=192.0.2.1 , for=10.0.0.2'], "192.0.2.1"),
        ([b"for=198.51.100.7", b"for=192.0.2.1;proto=http"], "192.0.2.1"),
        ([b'for=192.0.2.1;host="x,for=198.51.100.7"'], "192.0.2.1"),
        ([b"for=192.0.2.1, proto=http"], "10.0.0.1"),
        ([b"for=_hidden"], "10.0.0.1"),
        ([b'for="192.0.2.1'], "10.0.0.1"),
    ],
)
def test_client_is_read_from_forwarded_where_there_is_no_x_forwarded_for(told: list[bytes], expected: str) -> None:
    fields = [(b"Forwarded", value) for value in told]
    assert client_address(fields, PROXY, TRUSTED) == expected
    assert client_address([*fields, (b"X-Forwarded-For", b"192.0.2.77")], PROXY, TRUSTED) == "192.0.2.77"


def test_nobody_is_trusted_by_default() -> None:
    assert "10.0.0.1" not in TrustedProxies()
    assert repr(TrustedProxies()) == "<TrustedProxies none>"
    assert repr(TRUSTED) == "<TrustedProxies 10.0.0.0/8, fd00::/8>"


# Trailers


@pytest.mark.parametrize(
    "name",
    b"""
        Content-Length Transfer-Encoding Host X-Forwarded-For x_forwarded_for X-Forwarded-Port Authorization
        Set-Cookie Content-Type Via TE If-None-Match If_Range
    """.split(),
)
def test_trailer_that_must_come_before_the_body_is_dropped(name: bytes) -> None:
    kept: Sequence[tuple[bytes, bytes]] = [(b"X-Checksum", b"1"), (b"x-checksum", b"2"), (b"ETag", b'"x"')]
    assert trailer_fields([*kept, (name, b"1")], BadResponse) == kept


def test_malformed_trailer_is_the_fault_of_who_sent_it() -> None:
    with pytest.raises(BadRequest):
        trailer_fields([(b"a", b"b\r\n")], BadRequest)
    with pytest.raises(BadResponse):
        trailer_fields([(b"", b"b")], BadResponse)


@pytest.mark.parametrize(("told", "left"), [([b"0"], 0), ([b"10"], 10), ([], None), ([b"x"], None), ([b"1"] * 2, None)])
def test_hops_are_counted_where_they_are_told_clearly(told: list[bytes], left: int | None) -> None:
    assert hops_left([HOST, *((b"Max-Forwards", value) for value in told)]) == left
