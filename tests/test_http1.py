"""HTTP/1.1 messages as bytes, held against h11 as a second opinion."""

import sys
from collections.abc import Callable
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http1 import (
    LAST_CHUNK,
    MAX_CHUNK_LINE,
    MAX_FIELDS,
    MAX_HEAD_SIZE,
    ChunkedDecoder,
    CloseDecoder,
    Decoder,
    LengthDecoder,
    ProtocolError,
    ResponseHead,
    Truncated,
    encode_chunk,
    encode_last_chunk,
    find_head_end,
    may_become_response,
    parse_response_head,
    serialize_request_head,
)

TCHAR = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
tokens = st.lists(st.sampled_from(TCHAR), min_size=1, max_size=20).map(bytes)
values = st.lists(st.one_of(st.integers(0x20, 0x7E), st.integers(0x80, 0xFF), st.just(0x09)), max_size=30).map(
    lambda octets: bytes(octets).strip(b"\t ")
)
FRAMING = {b"content-length", b"transfer-encoding", b"connection"}
headers = st.lists(st.tuples(tokens.filter(lambda name: name.lower() not in FRAMING), values), max_size=12)


def head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET") -> ResponseHead:
    return parse_response_head(b"\r\n".join([status, *lines, b"", b""]), method=method)


# Heads


def test_head_is_read_with_its_names_values_and_order_kept() -> None:
    got = head(
        b"Set-Cookie: a=1", b"X-LATIN:\t\xe9t\xe9 \t", b"set-cookie:b=2", b"Empty:", status=b"HTTP/1.1 404 Not  Found"
    )
    assert got.status == 404
    assert got.reason == b"Not  Found"
    assert got.headers == [
        (b"Set-Cookie", b"a=1"),
        (b"X-LATIN", b"\xe9t\xe9"),
        (b"set-cookie", b"b=2"),
        (b"Empty", b""),
    ]


@pytest.mark.parametrize("line", [b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.0 200 OK", b"HTTP/1.1 999 ?"])
def test_status_line_with_odd_but_legal_parts_is_read(line: bytes) -> None:
    assert head(status=line).status in (200, 999)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/2.0 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 OK\rX: y",
        b"ICY 200 OK",
        b"SSH-2.0-OpenSSH",
        b"",
        b" HTTP/1.1 200 OK",
    ],
)
def test_status_line_that_is_not_http1_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="status line"):
        head(status=line)


@pytest.mark.parametrize(
    "line",
    [
        b"Name : value",
        b" Name: value",
        b"Name: one\r\n two",
        b"Name: one\ntwo: three",
        b"Name: one\rtwo",
        b"Name: nul\x00",
        b"Name: del\x7f",
        b"N\xe4me: value",
        b": value",
        b"no colon",
        b"Na me: value",
    ],
)
def test_field_line_outside_the_grammar_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="field line"):
        head(line)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([b"Content-Length: 5", b"Content-Length: 6"], "two different"),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], "beside"),
        ([b"Content-Length: 5, 5"], "malformed Content-Length"),
        ([b"Content-Length: +5"], "malformed Content-Length"),
        ([b"Content-Length: -5"], "malformed Content-Length"),
        ([b"Content-Length: 0x5"], "malformed Content-Length"),
        ([b"Content-Length:"], "malformed Content-Length"),
        ([b"Content-Length: \xb2"], "malformed Content-Length"),
        ([b"Content-Length: " + b"9" * 19], "malformed Content-Length"),
        ([b"Transfer-Encoding: gzip, chunked"], "transfer coding"),
        ([b"Transfer-Encoding: identity"], "transfer coding"),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], "transfer coding"),
    ],
)
def test_ambiguous_framing_is_refused(lines: list[bytes], why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        head(*lines)


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"HTTP/1\.0"):
        head(b"Transfer-Encoding: chunked", status=b"HTTP/1.0 200 OK")


def test_equal_content_lengths_are_folded_into_one() -> None:
    got = head(b"A: 1", b"Content-Length: 5", b"B: 2", b"content-length: 5", b"C: 3")
    assert got.headers == [(b"A", b"1"), (b"Content-Length", b"5"), (b"B", b"2"), (b"C", b"3")]


@pytest.mark.parametrize(
    ("lines", "status", "method", "decoder", "keep_alive"),
    [
        ([b"Content-Length: 5"], b"HTTP/1.1 200 OK", b"GET", LengthDecoder, True),
        ([b"Transfer-Encoding: Chunked"], b"HTTP/1.1 200 OK", b"GET", ChunkedDecoder, True),
        ([], b"HTTP/1.1 200 OK", b"GET", CloseDecoder, False),
        ([b"Content-Length: 5", b"Connection: close"], b"HTTP/1.1 200 OK", b"GET", LengthDecoder, False),
        ([b"Content-Length: 5", b"Connection: x, Close"], b"HTTP/1.1 200 OK", b"GET", LengthDecoder, False),
        ([b"Content-Length: 5"], b"HTTP/1.0 200 OK", b"GET", LengthDecoder, False),
        ([b"Content-Length: 5", b"Connection: Keep-Alive"], b"HTTP/1.0 200 OK", b"GET", LengthDecoder, True),
        # A body that cannot be, and that some send all the same: the next answer must not be looked for in it.
        ([b"Content-Length: 5"], b"HTTP/1.1 204 x", b"GET", LengthDecoder, False),
        ([b"Transfer-Encoding: chunked"], b"HTTP/1.1 204 x", b"GET", LengthDecoder, False),
        ([b"Content-Length: 0"], b"HTTP/1.1 204 x", b"GET", LengthDecoder, True),
        ([b"Content-Length: 5"], b"HTTP/1.1 304 x", b"GET", LengthDecoder, True),
    ],
)
def test_framing_and_persistence_follow_the_head(
    lines: list[bytes],
    status: bytes,
    method: bytes,
    decoder: type,
    keep_alive: bool,  # noqa: FBT001 -- a table's column
) -> None:
    got = head(*lines, status=status, method=method)
    assert type(got.body) is decoder
    assert got.keep_alive is keep_alive


@pytest.mark.parametrize(
    ("status", "method"), [(b"204 x", b"GET"), (b"304 x", b"GET"), (b"100 x", b"GET"), (b"200 x", b"HEAD")]
)
def test_response_that_never_has_a_body_is_complete_with_its_head(status: bytes, method: bytes) -> None:
    assert head(b"Content-Length: 5", status=b"HTTP/1.1 " + status, method=method).body.done


def test_head_end_is_found_wherever_the_packets_were_cut() -> None:
    whole = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"
    for cut in range(len(whole)):
        assert find_head_end(whole[:cut]) == (25 if cut >= 25 else -1)
        assert find_head_end(whole, searched=min(cut, 24)) == 25


@pytest.mark.parametrize("cut", range(1, 20))
def test_bare_line_feed_is_refused_before_more_has_come(cut: int) -> None:
    head = b"HTTP/1.1 200 OK\nA"
    if cut <= head.index(b"\n"):
        assert find_head_end(head[:cut]) == -1
        with pytest.raises(ProtocolError, match="bare LF"):
            find_head_end(head, cut)
    else:
        with pytest.raises(ProtocolError, match="bare LF"):
            find_head_end(head[:cut])


@pytest.mark.parametrize("start", [b"", b"H", b"HTTP/1", b"HTTP/1.", b"HTTP/1.1 2"])
def test_start_of_a_status_line_may_become_a_response(start: bytes) -> None:
    assert may_become_response(start)
    assert may_become_response(bytearray(start))


@pytest.mark.parametrize(
    "start", [b"2", b"220 mail.example\r\n", b"HTTP/2", b"http/1.1 200 OK", b"\r\n", b"HTTQ", b"\0"]
)
def test_start_of_anything_else_may_not(start: bytes) -> None:
    assert not may_become_response(start)


def test_line_end_cut_in_two_is_not_taken_for_a_bare_line_feed() -> None:
    head = b"HTTP/1.1 200 OK\r\nA: b\r\n"
    for cut in range(len(head)):
        assert find_head_end(head[:cut]) == -1
        assert find_head_end(head, cut) == -1


def test_head_over_the_limit_is_refused_before_its_end_has_come() -> None:
    with pytest.raises(ProtocolError, match="larger than"):
        find_head_end(b"x" * (MAX_HEAD_SIZE + 1))
    with pytest.raises(ProtocolError, match="larger than"):
        find_head_end(b"x" * MAX_HEAD_SIZE + b"\r\n\r\n")


def test_too_many_field_lines_are_refused() -> None:
    head(*[b"a: b"] * MAX_FIELDS)
    with pytest.raises(ProtocolError, match="field lines"):
        head(*[b"a: b"] * (MAX_FIELDS + 1))


@given(headers)
def test_any_legal_header_list_is_read_as_h11_reads_it(fields: list[tuple[bytes, bytes]]) -> None:
    block = b"HTTP/1.1 200 OK\r\n" + b"".join(b"%s: %s\r\n" % field for field in fields) + b"\r\n"
    ours = parse_response_head(block, method=b"GET")
    theirs = h11.Connection(h11.CLIENT)
    theirs.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    theirs.receive_data(block)
    event = theirs.next_event()
    assert isinstance(event, h11.Response)
    assert [(name, value) for name, value in event.headers.raw_items()] == ours.headers == fields


@given(st.binary(max_size=60))
def test_any_bytes_give_a_head_or_a_protocol_error(garbage: bytes) -> None:
    for block in (garbage, b"HTTP/1.1 200 OK\r\n" + garbage + b"\r\n\r\n"):
        try:
            parse_response_head(block, method=b"GET")
        except ProtocolError as error:
            assert str(error)  # noqa: PT017 -- either outcome is right, a third one would escape


# Request heads


def test_request_head_goes_out_as_given() -> None:
    got = serialize_request_head(b"get", b"/a%2Fb?", [(b"Host", b"x"), (b"X-Empty", b"")])
    assert got == b"get /a%2Fb? HTTP/1.1\r\nHost: x\r\nX-Empty: \r\n\r\n"


@pytest.mark.parametrize("bad", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
def test_request_head_that_would_be_read_as_another_is_refused(bad: bytes) -> None:
    for method, target, fields in [
        (b"GET", b"/", [(b"x", bad)]),
        (b"GET", b"/", [(bad, b"x")]),
        (b"GET", bad, []),
        (bad, b"/", []),
    ]:
        with pytest.raises(ValueError, match="control character"):
            serialize_request_head(method, target, fields)


@pytest.mark.parametrize(("method", "target"), [(b"GET", b"/a b"), (b"G T", b"/"), (b"GET", b""), (b"", b"/")])
def test_request_line_with_missing_or_split_parts_is_refused(method: bytes, target: bytes) -> None:
    with pytest.raises(ValueError, match="request line"):
        serialize_request_head(method, target, [])


# Bodies


def feed_in_pieces(decoder: Decoder, data: bytes, cuts: list[int]) -> bytes:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return b"".join(decoder.feed(data[a:b]) for a, b in pairwise(edges))


cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), cuts, headers)
def test_chunked_body_comes_out_whole_however_it_is_cut(
    pieces: list[bytes], at: list[int], trailers: list[tuple[bytes, bytes]]
) -> None:
    trailer_section = b"".join(b"%s: %s\r\n" % field for field in trailers)
    message = b"".join(encode_chunk(piece) for piece in pieces) + b"0\r\n" + trailer_section + b"\r\n"
    decoder = ChunkedDecoder()
    assert feed_in_pieces(decoder, message, at) == b"".join(pieces)
    assert decoder.done
    assert decoder.rest == b""
    assert decoder.trailers == trailers
    decoder.feed_eof()


@given(st.binary(max_size=50), cuts, st.binary(max_size=10))
def test_body_by_length_comes_out_whole_and_the_rest_stays_apart(content: bytes, at: list[int], rest: bytes) -> None:
    decoder = LengthDecoder(len(content))
    assert feed_in_pieces(decoder, content + rest, at) == content
    assert decoder.done
    assert decoder.rest == rest


def test_what_follows_the_last_chunk_is_kept_apart() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b'1;ext="y"\r\na\r\n0\r\n\r\nHTTP/1.1') == b"a"
    assert decoder.rest == b"HTTP/1.1"


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"x",
        b"-1\r\n",
        b"0x1\r\n",
        b"\r\n",
        b"1\na\r\n",
        b"1 x\r\n",
        b"1\r\nab",
        b"1\r\na\n0",
        b"1\r\na\rb",
        b"f" * 16 + b"\r\n",
        b"1;\x01\r\n",
        b"1" + b" " * MAX_CHUNK_LINE,
        b"1;" + b"x" * MAX_CHUNK_LINE + b"\r\n",
        b"0\r\nbad line\r\n\r\n",
        b"0\r\nA: b\n\r\n\r\n",
        b"0\r\n" + b"a: b\r\n" * (MAX_HEAD_SIZE // 6 + 2),
    ],
)
def test_malformed_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        ChunkedDecoder().feed(data)


@pytest.mark.parametrize(
    "data", [b"", b"5", b"5\r\n", b"5\r\nabcde", b"5\r\nabcde\r\n", b"5\r\nabcde\r\n0\r\n", b"0\r\nA: b\r\n"]
)
def test_chunked_body_cut_anywhere_is_truncated(data: bytes) -> None:
    decoder = ChunkedDecoder()
    decoder.feed(data)
    with pytest.raises(Truncated):
        decoder.feed_eof()


def test_short_body_by_length_is_truncated() -> None:
    decoder = LengthDecoder(3)
    decoder.feed(b"ab")
    with pytest.raises(Truncated, match="1 bytes short"):
        decoder.feed_eof()


def test_body_until_close_ends_with_the_connection() -> None:
    decoder = CloseDecoder()
    assert decoder.feed(b"anything") == b"anything"
    assert not decoder.done
    decoder.feed_eof()
    assert decoder.done


def count_calls(function: Callable[[], object]) -> int:
    """How many Python calls ``function`` makes: a measure of work that no busy machine can disturb."""
    calls = 0

    def profile(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


def test_many_small_chunks_in_one_packet_cost_no_more_than_their_number() -> None:
    one = count_calls(lambda: ChunkedDecoder().feed(encode_chunk(b"x") * 100))
    ten = count_calls(lambda: ChunkedDecoder().feed(encode_chunk(b"x") * 1_000))
    assert ten <= 11 * one


def test_last_chunk_ends_a_body_without_trailers() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(LAST_CHUNK)
    assert decoder.done
    assert decoder.trailers == []


def test_last_chunk_carries_the_trailers() -> None:
    assert encode_last_chunk([]) == LAST_CHUNK
    assert encode_last_chunk([(b"X-Sum", b"1"), (b"X-Sum", b"")]) == b"0\r\nX-Sum: 1\r\nX-Sum: \r\n\r\n"


@pytest.mark.parametrize("value", [b"1\r\n\r\nGET / HTTP/1.1", b"1\n2", b"1\r2"])
def test_trailer_that_would_be_read_as_something_else_is_not_written(value: bytes) -> None:
    with pytest.raises(ValueError, match="control character"):
        encode_last_chunk([(b"X-Sum", value)])
