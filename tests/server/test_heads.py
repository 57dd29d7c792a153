"""The door of HTTP/1.1: which heads are requests and which are refused, with h11 as a second opinion."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.http1 import ChunkedDecoder, ProtocolError
from gateway.server.heads import Refused, RequestHead, find_head, parse_request_head

from .second_opinion import as_h11_reads_it

LIMIT = 65_536
GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


def read(data: bytes, cuts: list[int] | None = None) -> tuple[RequestHead, bytes] | None:
    """The first request of ``data``, which comes in pieces, and what follows; None where its head is not whole."""
    buffer = bytearray()
    searched = 0
    for start, end in zip([0, *(cuts or [])], [*(cuts or []), len(data)], strict=True):
        buffer += data[start:end]
        if not buffer:
            continue
        found = find_head(buffer, searched, LIMIT)
        if found >= 0:
            return parse_request_head(bytes(buffer[:found])), data[found:]
        searched = len(buffer)
    return None


def head_of(data: bytes) -> RequestHead:
    got = read(data)
    assert got is not None, "its head is not whole"
    return got[0]


# ---- HTTP/1.1: what is refused

REFUSED = {
    # RFC 9112 section 2: the message
    "bare LF": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare LF in fields": (400, GET + b"Host: a\nX: y\r\n\r\n"),
    "bare LF before the empty line": (400, GET + b"Host: a\n\r\n\r\n"),
    "bare CR": (400, GET + b"Host: a\r\nX: a\rb\r\n\r\n"),
    "CR before CRLF": (400, GET + b"Host: a\r\r\n\r\n"),
    "white space before the first field": (400, GET + b" X: y\r\nHost: a\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00"),
    "large head": (431, GET + b"Host: a\r\nX: " + b"x" * 70_000),
    "large head, and whole": (431, GET + b"Host: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"),
    "many fields": (400, GET + b"Host: a\r\n" + b"X: x\r\n" * 300 + b"\r\n"),
    # section 3: the request line
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "HTTP/2 in HTTP/1 clothes": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/0.9 by its number": (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    "version without a minor": (400, b"GET / HTTP/1\r\nHost: a\r\n\r\n"),
    "version of two digits": (400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    "http in small letters": (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    "space behind the version": (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "space before the method": (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no target": (400, b"GET HTTP/1.1\r\nHost: a\r\n\r\n"),
    "empty target": (400, b"GET  HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two spaces": (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "tab for a space": (400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space in target": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "fragment": (400, b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "non-ASCII target": (400, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "DEL in target": (400, b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
    "NUL in target": (400, b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "separator in method": (400, b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "non-ASCII method": (400, b"G\xc9T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT": (501, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    # section 3.2, RFC 9110 section 7.2: Host
    "no host": (400, GET + b"\r\n"),
    "two hosts": (400, GET + b"Host: a\r\nHost: a\r\n\r\n"),
    "two hosts in 1.0": (400, b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"),
    "odd host": (400, GET + b"Host: a/b\r\n\r\n"),
    "odd host in 1.0": (400, b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n"),
    "list of hosts": (400, GET + b"Host: a, b\r\n\r\n"),
    "userinfo in host": (400, GET + b"Host: u@a\r\n\r\n"),
    "host with a word for its port": (400, GET + b"Host: a:http\r\n\r\n"),
    "host with two ports": (400, GET + b"Host: a:1:2\r\n\r\n"),
    "IPv6 without brackets": (400, GET + b"Host: ::1\r\n\r\n"),
    "bracket that does not close": (400, GET + b"Host: [::1\r\n\r\n"),
    "non-ASCII host": (400, GET + b"Host: \xe9\r\n\r\n"),
    # section 5: fields
    "NUL": (400, GET + b"Host: a\r\nX: a\0b\r\n\r\n"),
    "control character": (400, GET + b"Host: a\r\nX: a\x01b\r\n\r\n"),
    "DEL": (400, GET + b"Host: a\r\nX: \x7f\r\n\r\n"),
    "folded line": (400, GET + b"Host: a\r\nX: a\r\n b\r\n\r\n"),
    "space before colon": (400, GET + b"Host: a\r\nX : a\r\n\r\n"),
    "space before the colon of a length": (400, POST + b"Content-Length : 3\r\n\r\n"),
    "no colon": (400, GET + b"Host: a\r\nX\r\n\r\n"),
    "empty name": (400, GET + b"Host: a\r\n: x\r\n\r\n"),
    "non-ASCII name": (400, GET + b"Host: a\r\n\xe9: x\r\n\r\n"),
    # section 6: framing
    "both lengths": (400, POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "both lengths, the other way round": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"),
    "two lengths": (400, POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n"),
    "two ways to write a length": (400, POST + b"Content-Length: 3\r\nContent-Length: 03\r\n\r\n"),
    "list of lengths": (400, POST + b"Content-Length: 3, 3\r\n\r\n"),
    "signed length": (400, POST + b"Content-Length: +3\r\n\r\n"),
    "negative length": (400, POST + b"Content-Length: -3\r\n\r\n"),
    "hexadecimal length": (400, POST + b"Content-Length: 0x3\r\n\r\n"),
    "length as Python writes it": (400, POST + b"Content-Length: 1_0\r\n\r\n"),
    "empty length": (400, POST + b"Content-Length:\r\n\r\n"),
    "huge length": (400, POST + b"Content-Length: 99999999999999999999\r\n\r\n"),
    "unknown coding": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    "chunked not last": (501, POST + b"Transfer-Encoding: chunked, identity\r\n\r\n"),
    "coding with a parameter": (501, POST + b"Transfer-Encoding: chunked;x=y\r\n\r\n"),
    "coding in quotes": (501, POST + b'Transfer-Encoding: "chunked"\r\n\r\n'),
    "empty coding": (501, POST + b"Transfer-Encoding:\r\n\r\n"),
    "vertical tab before the coding": (400, POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n"),
    "coding twice": (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "coding in 1.0": (400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "WebSocket with a body": (
        400,
        GET + b"Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n",
    ),
}  # fmt: skip -- a row is a line


@pytest.mark.parametrize(("status", "data"), REFUSED.values(), ids=REFUSED)
def test_malformed_or_ambiguous_head_is_refused(status: int, data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read(data)
    assert refused.value.status == status


@pytest.mark.parametrize(("status", "data"), REFUSED.values(), ids=REFUSED)
def test_refusal_does_not_depend_on_how_the_bytes_came(status: int, data: bytes) -> None:
    with pytest.raises(Refused):
        read(data, cuts=list(range(1, min(len(data), 200))))


@pytest.mark.parametrize("data", [row[1] for row in REFUSED.values()], ids=REFUSED)
def test_reason_quotes_nothing_that_came(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read(data)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 80


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"GET / HTTP/1.1\n", id="a bare LF"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\n", id="a bare LF in fields"),
        pytest.param(b"\x16", id="TLS"),
        pytest.param(b"\xff", id="a byte that no method has"),
        pytest.param(b" ", id="a space"),
    ],
)
@pytest.mark.parametrize("first", [0, 1, 14])
def test_bare_lf_is_refused_before_more_has_come(start: bytes, first: int) -> None:
    with pytest.raises(Refused):
        read(start, cuts=[min(first, len(start))])


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT])
def test_head_as_large_as_allowed_is_read(size: int) -> None:
    data = GET + b"Host: a\r\nX: "
    data += b"x" * (size - len(data) - 4) + b"\r\n\r\n"
    assert read(data) is not None


@pytest.mark.parametrize("left_out", [1, 2, 4, 5])
def test_head_that_can_only_become_too_large_is_refused_at_once(left_out: int) -> None:
    data = GET + b"Host: a\r\nX: " + b"x" * LIMIT + b"\r\n\r\n"
    with pytest.raises(Refused) as refused:
        read(data[:-left_out])
    assert refused.value.status == 431


# ---- HTTP/1.1: what passes


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/a/../b//c;d=e?f=g?h&i",
        b"/?",
        b"/%00%2f%zz",
        b'/a"<>\\^`{|}',
        b"*",
        b"http://a/b",
        b"a:80",
    ],
)
def test_target_passes_byte_for_byte(target: bytes) -> None:
    assert head_of(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target).target == target


@pytest.mark.parametrize("method", [b"GET", b"get", b"M-SEARCH", b"!#$%&'*+-.^_`|~0", b"CONNECTED"])
def test_method_passes_byte_for_byte(method: bytes) -> None:
    assert head_of(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n").method == method


@pytest.mark.parametrize(
    "host",
    [b"a", b"a.example:8080", b"127.0.0.1", b"[::1]:80", b"[::ffff:1.2.3.4]", b"a%20b", b"a:", b"_a~b!$&'()*+;="],
)
def test_host_of_the_grammar_passes(host: bytes) -> None:
    assert head_of(GET + b"hOSt:\t%s \r\n\r\n" % host).headers == [(b"hOSt", host)]


def test_empty_host_is_one() -> None:
    """RFC 9110 section 7.2: what a client sends whose target has no authority."""
    assert head_of(GET + b"Host:\r\n\r\n").headers == [(b"Host", b"")]


def test_fields_pass_with_their_names_values_and_order() -> None:
    fields = head_of(GET + b"X-B:  1 2\t\r\nHost: a\r\nx-b:\xe9\xff\r\nX-A:\r\nX-B: :\r\n\r\n").headers
    assert fields == [(b"X-B", b"1 2"), (b"Host", b"a"), (b"x-b", b"\xe9\xff"), (b"X-A", b""), (b"X-B", b":")]


@pytest.mark.parametrize(("line", "version"), [(b"1.1", "1.1"), (b"1.0", "1.0"), (b"1.2", "1.1"), (b"1.9", "1.1")])
def test_later_minor_version_is_served_as_our_own(line: bytes, version: str) -> None:
    assert head_of(b"GET / HTTP/%s\r\nHost: a\r\n\r\n" % line).http_version == version


def test_old_client_may_leave_out_host() -> None:
    assert head_of(b"GET / HTTP/1.0\r\n\r\n").headers == []


def test_same_length_twice_is_one() -> None:
    head = head_of(POST + b"Content-Length: 2\r\nX: y\r\ncontent-length: 2\r\nCONTENT-LENGTH: 2\r\n\r\n")
    assert head.headers == [(b"Host", b"a"), (b"Content-Length", b"2"), (b"X", b"y")]
    assert head.body.feed(b"hi!") == b"hi"
    assert (head.body.done, head.body.rest) == (True, b"!")


@pytest.mark.parametrize(
    ("lines", "done"),
    [
        (b"", True),
        (b"Content-Length: 0\r\n", True),
        (b"Content-Length: 000\r\n", True),
        (b"Content-Length: 999999999999999999\r\n", False),
        (b"Transfer-Encoding: Chunked\r\n", False),
    ],
)
def test_body_is_framed_as_announced_and_none_is_there_by_default(lines: bytes, done: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    body = head_of(POST + lines + b"\r\n").body
    assert body.done is done
    assert isinstance(body, ChunkedDecoder) is (b"Chunked" in lines)


@pytest.mark.parametrize(
    ("version", "lines", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: x, CLOSE\r\n", False),
        (b"1.1", b"Connection: x\r\nConnection: close\r\n", False),
        (b"1.1", b"Connection: keep-alive, close\r\n", False),
        (b"1.1", b"Connection: closed\r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_connection_is_kept_as_its_options_say(version: bytes, lines: bytes, kept: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    assert head_of(b"GET / HTTP/%s\r\nHost: a\r\n%s\r\n" % (version, lines)).keep_alive is kept


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"Expect: 100-continue\r\nContent-Length: 1\r\n", True),
        (b"Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", True),
        (b"Expect: 100-continue\r\nContent-Length: 0\r\n", False),
        (b"Expect: 100-continue\r\n", False),
        (b"Expect: 200-ok\r\nContent-Length: 1\r\n", False),
    ],
)
def test_100_continue_is_expected_where_a_body_comes(lines: bytes, expected: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    assert head_of(POST + lines + b"\r\n").expects_continue is expected
    assert head_of(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").expects_continue is False


@pytest.mark.parametrize(
    ("version", "lines", "taken"),
    [
        (b"1.1", b"TE: trailers\r\n", True),
        (b"1.1", b"TE: deflate;q=0.5, Trailers\r\n", True),
        (b"1.1", b"TE: trailers\r\nTE: deflate\r\n", True),
        (b"1.1", b"TE: trailers-not\r\n", False),
        (b"1.1", b"TE:\r\n", False),
        (b"1.1", b"X: trailers\r\n", False),
        (b"1.0", b"TE: trailers\r\n", False),
    ],
)
def test_trailers_are_taken_by_who_says_so(version: bytes, lines: bytes, taken: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    assert head_of(b"GET / HTTP/%s\r\nHost: a\r\n%s\r\n" % (version, lines)).takes_trailers is taken


@pytest.mark.parametrize(
    ("line", "lines", "asked"),
    [
        (b"GET / HTTP/1.1", b"Connection: x, Upgrade\r\nUpgrade: WebSocket\r\n", True),
        (b"GET / HTTP/1.1", b"Upgrade: websocket\r\n", False),
        (b"GET / HTTP/1.1", b"Connection: upgrade\r\nUpgrade: h2c\r\n", False),
        (b"POST / HTTP/1.1", b"Connection: upgrade\r\nUpgrade: websocket\r\n", False),
        (b"GET / HTTP/1.0", b"Connection: upgrade\r\nUpgrade: websocket\r\n", False),
    ],
)
def test_websocket_is_asked_for_by_get_upgrade_and_connection(line: bytes, lines: bytes, asked: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    assert head_of(line + b"\r\nHost: a\r\n" + lines + b"\r\n").websocket is asked


# ---- HTTP/1.1: whatever comes

TCHAR = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
tokens = st.lists(st.sampled_from(TCHAR), min_size=1, max_size=10).map(bytes)
methods = st.sampled_from([b"GET", b"POST", b"HEAD", b"CONNECT", b"OPTIONS"]) | tokens
targets = st.sampled_from([b"/", b"*", b"http://a/", b"/a?b#c", b"//", b""]) | st.binary(max_size=8)
values = st.binary(max_size=8) | st.sampled_from(
    [b"chunked", b"gzip", b"0", b"3", b"10", b"a", b"close", b"keep-alive", b"upgrade", b"websocket", b"100-continue"]
)
names = tokens | st.sampled_from(
    [b"Content-Length", b"Transfer-Encoding", b"Connection", b"Host", b"Expect", b"Upgrade", b"TE", b"X"]
)
colons = st.sampled_from([b":", b": ", b":\t", b" :", b""])
fields = st.lists(st.tuples(names, colons, values).map(b"".join), max_size=6)
versions = st.sampled_from([b"1.1"] * 6 + [b"1.0", b"1.0", b"1.3", b"2.0", b"1"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Something like a request, with a little damage, or none."""
    line = b"%s %s HTTP/%s" % (draw(methods), draw(targets), draw(versions))
    host = draw(st.sampled_from([[b"Host: a"]] * 4 + [[]]))
    data = bytearray(b"\r\n".join([line, *host, *draw(fields), b"", b""]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"\x0b", b"\x85", b"\xa0"])
        )
    return bytes(data)


@settings(max_examples=400)
@given(data=st.binary(max_size=200) | requests(), cuts=st.lists(st.integers(0, 200), max_size=4))
def test_whatever_comes_is_a_head_or_refused_wherever_it_is_cut(data: bytes, cuts: list[int]) -> None:
    def outcome(cuts: list[int]) -> object:
        try:
            got = read(data, cuts)
        except Refused:
            return "refused"
        return got and (got[0][:5], got[1])

    assert outcome(sorted(min(cut, len(data)) for cut in cuts)) == outcome([])


TAIL = b"5\r\nhello\r\n0\r\n\r\n" + GET


@settings(max_examples=600)
@given(data=requests())
@example(data=POST + b"Content-Length: 3\r\n\r\n")
@example(data=POST + b"Content-Length: 3\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
@example(data=POST + b"Transfer-Encoding: CHUNKED\r\nX:\xff \r\n\r\n")
@example(data=POST + b"Transfer-Encoding: chunked\r\nConnection: a, close\r\n\r\n")
@example(data=b"POST / HTTP/1.0\r\nContent-Length: 40\r\n\r\n")
def test_what_is_accepted_h11_reads_as_the_same_request(data: bytes) -> None:
    try:
        got = read(data + TAIL)
    except Refused:
        return
    assert got is not None
    head, rest = got
    try:
        content = head.body.feed(rest) if not head.body.done else b""
    except ProtocolError:  # chunks broken by the damage
        return
    after = b"" if not head.body.done else head.body.rest if content else rest
    theirs = as_h11_reads_it(data + TAIL)
    assert theirs["line"] == (head.method, head.target)
    assert theirs["fields"] == [(n, v.lower() if n.lower() == b"transfer-encoding" else v) for n, v in head.headers]
    assert theirs["body"] == (content, head.body.done, after)
    if head.body.done and head.http_version == "1.1":  # h11 tells when the body is whole, and knows none of 1.0's
        assert theirs["keep_alive"] == head.keep_alive
    assert theirs["continues"] or not head.expects_continue
