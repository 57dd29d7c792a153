"""The door of HTTP/2: which decoded fields are requests, with h2 as a second opinion, and h11 on what they become."""

import pytest
from h2.utilities import HeaderValidationFlags, validate_headers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.http1 import MAX_FIELDS
from gateway.server.heads import Http2Head, Refused, check_http2_head, check_http2_trailers

from .second_opinion import as_h11_reads_it

PLAIN = {b":method": b"GET", b":scheme": b"https", b":path": b"/", b":authority": b"a"}
HEAD = PLAIN | {b":method": b"HEAD"}


def h2_head(*more: tuple[bytes, bytes], **pseudo: bytes | None) -> Http2Head:
    """A plain head with ``more`` fields, and pseudo-headers replaced, or left out where None."""
    given = PLAIN | {b":" + name.encode(): value for name, value in pseudo.items()}
    return check_http2_head([*((name, value) for name, value in given.items() if value is not None), *more])


H2_REFUSED: dict[str, tuple[int, list[tuple[bytes, bytes]], dict[str, bytes | None]]] = {
    "more fields than anybody needs": (431, [(b"x", b"y")] * 253, {}),
    # RFC 9113 section 8.2: fields
    "upper-case name": (400, [(b"X", b"y")], {}),
    "empty name": (400, [(b"", b"y")], {}),
    "space in a name": (400, [(b"x y", b"z")], {}),
    "colon in a name": (400, [(b"x:y", b"z")], {}),
    "CRLF in a name": (400, [(b"x: y\r\nz", b"z")], {}),
    "non-ASCII name": (400, [(b"\xe9", b"z")], {}),
    "NUL in a value": (400, [(b"x", b"a\0b")], {}),
    "CR in a value": (400, [(b"x", b"a\rb")], {}),
    "LF in a value": (400, [(b"x", b"a\nb")], {}),
    "request smuggled in a value": (400, [(b"x", b"a\r\n\r\nGET / HTTP/1.1")], {}),
    "space before a value": (400, [(b"x", b" y")], {}),
    "tab behind a value": (400, [(b"x", b"y\t")], {}),
    # section 8.2.2: what HTTP/1's connections have
    "connection": (400, [(b"connection", b"x")], {}),
    "proxy-connection": (400, [(b"proxy-connection", b"close")], {}),
    "keep-alive": (400, [(b"keep-alive", b"x")], {}),
    "transfer-encoding": (400, [(b"transfer-encoding", b"chunked")], {}),
    "upgrade": (400, [(b"upgrade", b"websocket")], {}),
    "TE beyond trailers": (400, [(b"te", b"trailers, deflate")], {}),
    # section 8.3: pseudo-headers
    "pseudo-header of an answer": (400, [], {"status": b"200"}),
    "unknown pseudo-header": (400, [], {"x": b"y"}),
    "pseudo-header twice": (400, [(b":path", b"/")], {}),
    "late pseudo-header": (400, [(b"x", b"y"), (b":x", b"y")], {}),
    "pseudo-header behind host": (400, [(b"host", b"a"), (b":path", b"/")], {"path": None}),
    "pseudo-header behind a length": (400, [(b"content-length", b"1"), (b":path", b"/")], {"path": None}),
    "no method": (400, [], {"method": None}),
    "empty method": (400, [], {"method": b""}),
    "space in the method": (400, [], {"method": b"GET /x"}),
    "non-ASCII method": (400, [], {"method": b"G\xc9T"}),
    "no scheme": (400, [], {"scheme": None}),
    "empty scheme": (400, [], {"scheme": b""}),
    "scheme that is a URL": (400, [], {"scheme": b"http://b/?"}),
    "no path": (400, [], {"path": None}),
    "empty path": (400, [], {"path": b""}),
    "path without its slash": (400, [], {"path": b"a"}),
    "absolute URL for a path": (400, [], {"path": b"http://b/"}),
    "space in the path": (400, [], {"path": b"/ HTTP/1.1"}),
    "fragment": (400, [], {"path": b"/#x"}),
    "non-ASCII path": (400, [], {"path": b"/\xe9"}),
    "DEL in the path": (400, [], {"path": b"/\x7f"}),
    "star for another method than OPTIONS": (400, [], {"path": b"*"}),
    "no authority": (400, [], {"authority": None}),
    "empty authority": (400, [], {"authority": b""}),
    "empty authority beside host": (400, [(b"host", b"a")], {"authority": b""}),
    "userinfo in the authority": (400, [], {"authority": b"u@a"}),
    "path in the authority": (400, [], {"authority": b"a/b"}),
    "host beside another authority": (400, [(b"host", b"b")], {}),
    "two hosts": (400, [(b"host", b"a"), (b"host", b"a")], {}),
    "odd host": (400, [(b"host", b"a b")], {"authority": None}),
    # section 8.1.1, RFC 9110 section 8.6: lengths
    "two lengths": (400, [(b"content-length", b"1"), (b"content-length", b"2")], {}),
    "two lengths of a HEAD": (400, [(b"content-length", b"1"), (b"content-length", b"2")], {"method": b"HEAD"}),
    "list of lengths": (400, [(b"content-length", b"1,1")], {}),
    "signed length": (400, [(b"content-length", b"+1")], {}),
    "empty length": (400, [(b"content-length", b"")], {}),
    "huge length": (400, [(b"content-length", b"9" * 19)], {}),
    # section 8.5, RFC 8441
    "CONNECT": (501, [], {"method": b"CONNECT", "scheme": None, "path": None}),
    "CONNECT for another protocol": (501, [], {"method": b"CONNECT", "protocol": b"connect-udp"}),
    "protocol without CONNECT": (400, [], {"protocol": b"websocket"}),
    "WebSocket without a path": (400, [], {"method": b"CONNECT", "protocol": b"websocket", "path": None}),
    "WebSocket without a scheme": (400, [], {"method": b"CONNECT", "protocol": b"websocket", "scheme": None}),
}


@pytest.mark.parametrize(("status", "more", "pseudo"), H2_REFUSED.values(), ids=H2_REFUSED)
def test_malformed_http2_head_is_refused(
    status: int, more: list[tuple[bytes, bytes]], pseudo: dict[str, bytes | None]
) -> None:
    with pytest.raises(Refused) as refused:
        h2_head(*more, **pseudo)
    assert refused.value.status == status
    assert str(refused.value).isprintable()


def test_http2_head_passes_with_host_made_of_its_authority() -> None:
    head = h2_head((b"x", b"1"), (b"te", b"trailers"), (b"x", b"a\tb \xff"), method=b"get", path=b"/a%2F?b?")
    assert head == Http2Head(
        b"get",
        b"/a%2F?b?",
        [(b"host", b"a"), (b"x", b"1"), (b"te", b"trailers"), (b"x", b"a\tb \xff")],
        websocket=False,
    )


@pytest.mark.parametrize("authority", [None, b"a:80"])
def test_host_stands_in_for_the_authority_and_may_repeat_it(authority: bytes | None) -> None:
    head = h2_head((b"x", b"1"), (b"host", b"a:80"), authority=authority)
    assert head.headers == [(b"host", b"a:80"), (b"x", b"1")]


def test_same_http2_length_twice_is_one() -> None:
    head = h2_head((b"content-length", b"3"), (b"x", b"1"), (b"content-length", b"3"))
    assert head.headers == [(b"host", b"a"), (b"content-length", b"3"), (b"x", b"1")]


def test_options_may_ask_for_the_server_as_a_whole() -> None:
    assert h2_head(method=b"OPTIONS", path=b"*").target == b"*"


def test_crumbs_of_a_cookie_are_joined_where_the_first_one_stood() -> None:
    head = h2_head((b"x", b"1"), (b"cookie", b"a=1"), (b"y", b"2"), (b"cookie", b"b=2"), (b"cookie", b""))
    assert head.headers == [(b"host", b"a"), (b"x", b"1"), (b"cookie", b"a=1; b=2;"), (b"y", b"2")]


@pytest.mark.parametrize("scheme", [b"http", b"https", b"coap+tcp"])
def test_scheme_need_not_be_ours(scheme: bytes) -> None:
    assert h2_head(scheme=scheme).target == b"/"


def test_extended_connect_is_a_websocket() -> None:
    head = h2_head((b"sec-websocket-version", b"13"), method=b"CONNECT", protocol=b"websocket", path=b"/chat")
    assert (head.websocket, head.target) == (True, b"/chat")


h2_names = st.sampled_from(
    [*PLAIN, b":protocol", b":status", b"host", b"content-length", b"te", b"connection", b"cookie", b"x"]
) | st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=8).map(str.encode)
h2_values = st.binary(max_size=6) | st.sampled_from(
    [b"GET", b"HEAD", b"CONNECT", b"websocket", b"/", b"/a", b"*", b"https", b"a", b"a:80", b"3", b"5", b"trailers"]
)


@st.composite
def h2_fields(draw: st.DrawFn) -> list[tuple[bytes, bytes]]:
    """A plain head with a little more, and perhaps something changed or out of its place."""
    found = [*PLAIN.items(), *draw(st.lists(st.tuples(h2_names, h2_values), max_size=4))]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(found) - 1))
        found[at] = (draw(st.just(found[at][0]) | h2_names), draw(h2_values))
    return draw(st.permutations(found)) if draw(st.integers(0, 5)) == 0 else found


@settings(max_examples=600)
@given(given_fields=h2_fields() | st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=5))
@example(given_fields=[*HEAD.items(), (b"content-length", b"3"), (b"content-length", b"5")])
@example(given_fields=[*PLAIN.items(), (b"", b"")])
def test_http2_head_that_is_accepted_is_sound_for_h2_and_one_request_over_http1(
    given_fields: list[tuple[bytes, bytes]],
) -> None:
    """The harm in a lenient door: what passes over HTTP/2 is written as HTTP/1.1 to a backend, which may see two."""
    try:
        head = check_http2_head(given_fields)
    except Refused:
        return
    flags = HeaderValidationFlags(is_client=False, is_trailer=False, is_response_header=False, is_push_promise=False)
    assert list(validate_headers(given_fields, flags)) == given_fields
    lines = [b"%s: %s" % field for field in head.headers]
    if head.websocket:
        return  # over HTTP/1.1 that is another request altogether
    theirs = as_h11_reads_it(b"\r\n".join([b"%s %s HTTP/1.1" % (head.method, head.target), *lines, b"", b""]))
    assert theirs["line"] == (head.method, head.target)
    assert theirs["fields"] == head.headers
    assert theirs["body"][2] == b""


def test_as_many_fields_pass_as_over_http1() -> None:
    check_http2_head([*PLAIN.items(), *[(b"x", b"y")] * 252])


def test_trailers_pass_as_they_came() -> None:
    check_http2_trailers([(b"x-sum", b"1"), (b"x-sum", b""), (b"x-latin", b"\xe9")])


@pytest.mark.parametrize(
    "field",
    [
        (b":path", b"/"),
        (b"X-Sum", b"1"),
        (b"", b"1"),
        (b"x sum", b"1"),
        (b"connection", b"x"),
        (b"x-sum", b"1\r\n2"),
        (b"x-sum", b" 1"),
        (b"x-sum", b"1\t"),
    ],
)
def test_malformed_trailers_are_refused(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(Refused):
        check_http2_trailers([(b"x-fine", b"1"), field])


def test_trailers_without_end_are_refused() -> None:
    with pytest.raises(Refused):
        check_http2_trailers([(b"x-sum", b"1")] * (MAX_FIELDS + 1))
