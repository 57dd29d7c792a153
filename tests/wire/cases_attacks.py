"""Requests that two readers could read in two ways: refused, or read as the RFC says, never passed on as they are."""

from .case import Case
from .checks import Arrives, Broken, Check, Comes, CutOff, Either, Refused, Requests
from .messages import chunk, last_chunk
from .steps import AwaitGone, Bytes, Hear, Leave, Pause

SMUGGLED = b"GET /w/smuggled HTTP/1.1\r\nHost: a\r\nX-Evil: 1\r\n\r\n"
HELLO = chunk(b"hello") + last_chunk()


def _head(*lines: bytes, method: bytes = b"POST") -> bytes:
    return b"\r\n".join([method + b" /w/case HTTP/1.1", b"Host: a", *lines, b"", b""])


def _row(
    name: str,
    source: str,
    data: bytes,
    *or_else: Check,
    ours: int | None = 400,
    statuses: tuple[int, ...] = (400, 411, 413, 414, 422, 431, 501, 505),
    leave: bool = False,
    in_body: bool = False,
) -> Case:
    """To be refused; or, where there is ``or_else``, that."""
    refused: Check = Refused(statuses=statuses)
    if in_body:
        # Its head may be with the backend already, where it then breaks off; whose fault that was, nobody asks.
        statuses = (*statuses, 502)
        refused = Either([Refused(statuses=statuses)], [Requests(1), CutOff(), Broken(statuses=statuses)])
    return Case(
        name=name,
        source=source,
        client=(Bytes(data), *((Pause(0.05), Leave()) if leave else (Hear(),))),
        checks=(Either([refused], or_else),) if or_else else (refused,),
        protocols=("1.1",),
        ours=ours,
    )


def _hello(fields: dict[bytes, list[bytes]] | None = None) -> tuple[Check, ...]:
    """One request with this body, and no other."""
    return Requests(1), Arrives(body=b"hello", fields=fields or {}), Comes()


def _got(**fields: bytes) -> tuple[Check, ...]:
    return (
        Requests(1),
        Arrives(fields={name.replace("_", "-").encode(): [value] for name, value in fields.items()}),
        Comes(),
    )


ONLY_CHUNKS = _hello({b"content-length": []})

TWO_LENGTHS = [
    _row(
        "length, then chunks",
        "RFC 9112 6.3",
        _head(b"Content-Length: 6", b"Transfer-Encoding: chunked") + last_chunk() + b"G",
        Requests(1),
        Arrives(fields={b"content-length": []}),
    ),
    _row(
        "chunks, then length",
        "RFC 9112 6.3",
        _head(b"Transfer-Encoding: chunked", b"Content-Length: 5") + HELLO,
        *ONLY_CHUNKS,
    ),
    _row(
        "length of a chunk-size line, the rest smuggled",
        "RFC 9112 11.2",
        _head(b"Content-Length: 4", b"Transfer-Encoding: chunked") + chunk(SMUGGLED) + last_chunk(),
        Requests(1),
        Arrives(body=SMUGGLED, fields={b"content-length": []}),
        Comes(),
        ours=400,
    ),
    *[
        _row(f"two lengths: {what}", "RFC 9112 6.3", _head(*lines) + b"hello" + SMUGGLED)
        for what, lines in [
            ("differing", (b"Content-Length: 5", b"Content-Length: %d" % (5 + len(SMUGGLED)))),
            ("differing, in one field", (b"Content-Length: 5, 6",)),
            ("differing by a leading zero only, then really", (b"Content-Length: 05", b"Content-Length: 6")),
        ]
    ],
    *[
        _row(
            f"two lengths: {what}",
            "RFC 9112 6.3",
            _head(*lines) + b"hello",
            *_hello({b"content-length": [b"5"]}),
            ours=None,
        )
        for what, lines in [
            ("the same", (b"Content-Length: 5", b"Content-Length: 5")),
            ("the same, in one field", (b"Content-Length: 5, 5",)),
        ]
    ],
]

LENGTHS = [
    _row(f"length {value!r}", "RFC 9110 8.6", _head(b"Content-Length: " + value) + b"hello" + SMUGGLED)
    for value in (
        b"+5",
        b"-5",
        b"0x5",
        b"5.0",
        b"5e0",
        b"5 5",
        b"5\x0b",
        b"abc",
        b"",
        b"5;",
        b"\xb5",
        b"18446744073709551621",
        b"99999999999999999999999999999999999999",
    )
]

CODINGS = [
    _row(f"coding: {what}", source, _head(*lines) + HELLO, ours=None)
    for what, source, lines in [
        ("unknown", "RFC 9112 6.1", (b"Transfer-Encoding: xchunked",)),
        ("identity", "RFC 9112 7", (b"Transfer-Encoding: identity", b"Content-Length: 15")),
        ("chunked that is not the last", "RFC 9112 6.1", (b"Transfer-Encoding: chunked, identity",)),
        ("gzip alone", "RFC 9112 6.1", (b"Transfer-Encoding: gzip",)),
        ("chunked twice", "RFC 9112 6.1", (b"Transfer-Encoding: chunked, chunked",)),
        ("chunked in quotes", "RFC 9112 7", (b'Transfer-Encoding: "chunked"',)),
        ("chunked with a parameter", "RFC 9112 7", (b"Transfer-Encoding: chunked;q=1",)),
        ("behind a vertical tab", "RFC 9112 5", (b"Transfer-Encoding: \x0bchunked",)),
        ("with a control character behind", "RFC 9110 5.5", (b"Transfer-Encoding: chunked\x00",)),
        ("two fields, the second unknown", "RFC 9112 6.1", (b"Transfer-Encoding: chunked", b"Transfer-Encoding: x")),
        ("two fields, the first unknown", "RFC 9112 6.1", (b"Transfer-Encoding: x", b"Transfer-Encoding: chunked")),
    ]
]

SPELLINGS = [
    # A name with white space before its colon, or a line folded, hides the coding from one reader and not from another.
    _row("space before the colon of a framing field", "RFC 9112 5.1", _head(b"Transfer-Encoding : chunked") + HELLO),
    _row("tab before the colon", "RFC 9112 5.1", _head(b"Content-Length\t: 5") + b"hello"),
    _row("space before the colon of any field", "RFC 9112 5.1", _head(b"X-A : 1", method=b"GET")),
    _row(
        "space before the first field", "RFC 9112 2.2", b"GET /w/case HTTP/1.1\r\n X-A: 1\r\nHost: a\r\n\r\n", *_got()
    ),
    _row("folded line", "RFC 9112 5.2", _head(b"X-A: 1", b" 2", method=b"GET"), *_got(x_a=b"1 2")),
    _row("folded line with a tab", "RFC 9112 5.2", _head(b"X-A: 1", b"\t2", method=b"GET"), *_got(x_a=b"1 2")),
    _row("coding on a folded line", "RFC 9112 5.2", _head(b"Transfer-Encoding:", b" chunked") + HELLO, *_hello()),
    _row("name of nothing", "RFC 9110 5.1", _head(b": 1", method=b"GET")),
    _row("line without a colon", "RFC 9112 5", _head(b"X-A", method=b"GET")),
    _row("name with a space", "RFC 9110 5.1", _head(b"X A: 1", method=b"GET")),
    _row("name with a character that is none of a token", "RFC 9110 5.1", _head(b"X(A): 1", method=b"GET")),
    _row("name over 0x7F", "RFC 9110 5.1", _head(b"X-\xe9: 1", method=b"GET")),
    _row("name with NUL", "RFC 9110 5.1", _head(b"X-\x00A: 1", method=b"GET")),
    _row("NUL in a value", "RFC 9110 5.5", _head(b"X-A: a\x00b", method=b"GET"), *_got(x_a=b"a b")),
    _row("bare CR in a value", "RFC 9110 5.5", _head(b"X-A: a\rb", method=b"GET"), *_got(x_a=b"a b")),
    _row(
        "bare CR and a field behind",
        "RFC 9110 5.5",
        _head(b"X-A: a\rX-Evil: 1", method=b"GET"),
        *_got(x_a=b"a X-Evil: 1"),
    ),
    _row("escape in a value", "RFC 9110 5.5", _head(b"X-A: a\x1b[0m", method=b"GET"), *_got(x_a=b"a\x1b[0m")),
    _row("DEL in a value", "RFC 9110 5.5", _head(b"X-A: a\x7f", method=b"GET"), *_got(x_a=b"a\x7f")),
    _row("lines that end in bare LF", "RFC 9112 2.2", b"GET /w/case HTTP/1.1\nHost: a\nX-A: 1\n\n", *_got(x_a=b"1")),
    _row(
        "one line that ends in bare LF",
        "RFC 9112 2.2",
        _head(b"X-A: 1\nX-B: 2", method=b"GET"),
        *_got(x_a=b"1", x_b=b"2"),
    ),
    _row(
        "coding behind a bare LF",
        "RFC 9112 2.2",
        _head(b"Content-Length: 5", b"X-A: 1\nTransfer-Encoding: chunked") + HELLO,
    ),
    _row("lines that end in bare CR", "RFC 9112 2.2", b"GET /w/case HTTP/1.1\rHost: a\r\r\r\n\r\n"),
    _row("CR CR LF", "RFC 9112 2.2", b"GET /w/case HTTP/1.1\r\r\nHost: a\r\n\r\n", *_got()),
]

CHUNKS = [
    _row(
        f"chunk size {size!r}",
        "RFC 9112 7.1",
        _head(b"Transfer-Encoding: chunked") + size + b"\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
        in_body=True,
    )
    for size in (b"0x5", b"+5", b"-5", b"5_", b"g", b"", b" ", b"5\x00", b"5 5", b"10000000000000005", b"\xef\xbc\x95")
]

CHUNKED = [
    _row(
        f"chunks: {what}",
        source,
        _head(b"Transfer-Encoding: chunked") + data,
        *_hello(),
        ours=ours,
        in_body=True,
    )
    for what, source, data, ours in [
        ("space in front of the size", "RFC 9112 7.1", b" 5\r\nhello\r\n0\r\n\r\n", 400),
        ("space behind the size", "RFC 9112 7.1.1", b"5 \r\nhello\r\n0\r\n\r\n", None),
        ("size that ends in bare LF", "RFC 9112 7.1", b"5\nhello\r\n0\r\n\r\n", 400),
        ("data that ends in bare LF", "RFC 9112 7.1", b"5\r\nhello\n0\r\n\r\n", 400),
        ("extension of 500 bytes", "RFC 9112 7.1.1", b"5;" + b"x" * 500 + b"\r\nhello\r\n0\r\n\r\n", None),
        ("extension of 100 kB", "RFC 9112 7.1.1", b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n", 400),
    ]
]

CHUNKED_BADLY = [
    _row(
        f"chunks: {what}",
        source,
        _head(b"Transfer-Encoding: chunked") + data,
        in_body=True,
    )
    for what, source, data in [
        ("data longer than its size", "RFC 9112 7.1", b"3\r\nhello\r\n0\r\n\r\n"),
        ("data that ends in nothing", "RFC 9112 7.1", b"5\r\nhello0\r\n\r\n"),
        ("bare CR in the size line", "RFC 9112 7.1", b"5\rX\r\nhello\r\n0\r\n\r\n"),
        (
            # One reader ends the line at LF and sees a chunk of 5; the other takes all for an extension.
            "extension with a bare LF",
            "RFC 9112 7.1.1",
            b"5;\nhello, this is smuggled\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        ("trailer without a colon", "RFC 9112 7.1.2", b"5\r\nhello\r\n0\r\nX-A\r\n\r\n"),
        ("trailer with a control character", "RFC 9110 5.5", b"5\r\nhello\r\n0\r\nX-A: \x00\r\n\r\n"),
    ]
]

LARGE = [
    _row(
        name,
        "RFC 9110 5.4",
        b"GET /w/case%s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (path, fields),
        statuses=(400, 413, 414, 431, 494),
        ours=ours,
    )
    for name, path, fields, ours in [
        ("path of 1 MB", b"/" + b"x" * 1_000_000, b"", 431),
        ("field of 1 MB", b"", b"X-A: %s\r\n" % (b"x" * 1_000_000), 431),
        ("20,000 fields", b"", b"X-A: 12345678901234567890\r\n" * 20_000, 431),
    ]
]

CASES: list[Case] = [
    *TWO_LENGTHS,
    *LENGTHS,
    *CODINGS,
    *SPELLINGS,
    *CHUNKS,
    *CHUNKED,
    *CHUNKED_BADLY,
    *LARGE,
    Case(
        name="chunks in HTTP/1.0",
        source="RFC 9112 6.1",
        client=(Bytes(b"POST /w/case HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO), Hear()),
        checks=(Either([Refused()], ONLY_CHUNKS),),
        protocols=("1.1",),
        ours=400,
    ),
    Case(
        name="GET with a length has a body, whatever one thinks of it",
        source="RFC 9110 9.3.1",
        client=(Bytes(_head(b"Content-Length: %d" % len(SMUGGLED), method=b"GET") + SMUGGLED), Hear()),
        checks=(Either([Requests(1), Arrives(body=SMUGGLED), Comes()], [Refused()]),),
        protocols=("1.1",),
    ),
    Case(
        name="GET in chunks has a body too",
        source="RFC 9110 9.3.1",
        client=(
            Bytes(_head(b"Transfer-Encoding: chunked", method=b"GET") + chunk(SMUGGLED) + last_chunk()),
            Hear(),
        ),
        checks=(Either([Requests(1), Arrives(body=SMUGGLED), Comes()], [Refused()]),),
        protocols=("1.1",),
    ),
    Case(
        name="refused head: nothing behind it is served",
        source="RFC 9112 11.2",
        client=(Bytes(_head(b"Content-Length: x") + SMUGGLED * 3), Hear(), AwaitGone()),
        checks=(Refused(),),
        protocols=("1.1",),
        ours=400,
    ),
]
