"""Bodies and trailers, both ways."""

from .case import BOTH, Case
from .checks import Arrives, Comes, CutOff, Either, Refused, Requests
from .messages import Answer, Blob, Fields, Request, chunk, last_chunk
from .steps import Bytes, Drip, Hear

MB = 1_000_000
EVERY_BYTE = bytes(range(256))
LIKE_A_REQUEST = b"0\r\n\r\nGET /w/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
LIKE_AN_ANSWER = b"\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
GZIPPED = bytes.fromhex("1f8b0800000000000203cb48cdc9c95728cf2fca49010085114a0d0b000000")

CROSS = (Requests(1), Arrives(), Comes())
TRAILERS: Fields = ((b"X-Checksum", b"abc"), (b"X-Twice", b"1"), (b"X-Twice", b"2"))
TE: Fields = ((b"Connection", b"TE"), (b"TE", b"trailers"))
FORBIDDEN: Fields = (
    (b"Content-Length", b"3"),
    (b"Transfer-Encoding", b"identity"),
    (b"Host", b"evil.example"),
    (b"Authorization", b"Basic ZXZpbA=="),
    (b"X-Fine", b"1"),
)

BODIES: dict[str, bytes | tuple[bytes, ...] | Blob] = {
    "of a length": b"x" * 1000,
    "of length 0": b"",
    "of one byte": b"x",
    "of every byte": EVERY_BYTE,
    "that looks like a request": LIKE_A_REQUEST,
    "that looks like an answer": LIKE_AN_ANSWER,
    "in chunks": (b"a", b"bc", b"def"),
    "in no chunk but the last": (),
    "in chunks of every byte": (EVERY_BYTE, EVERY_BYTE[::-1]),
    "in chunks that look like chunks": (b"5\r\nhello\r\n", LIKE_A_REQUEST, LIKE_AN_ANSWER),
    "in a thousand chunks of one byte": (b"x",) * 1000,
    "of 16,384 bytes": b"x" * 16_384,
    "of 65,536 bytes": b"x" * 65_536,
    "of 1 MB": Blob(MB),
    "of 1 MB in chunks of 1,000 bytes": Blob(MB, chunk=1000),
    "of 1 MB in one chunk": Blob(MB, chunk=MB),
}

LARGE: list[tuple[str, Blob | None, Blob | bytes, tuple[str, ...]]] = [
    ("up", Blob(100 * MB), b"", BOTH),
    ("up in chunks", Blob(100 * MB, chunk=200_000), b"", ("1.1",)),
    ("down", None, Blob(100 * MB), BOTH),
    ("down in chunks", None, Blob(100 * MB, chunk=200_000), ("1.1",)),
]

CODED = ((b"Content-Encoding", b"gzip"), (b"Content-Type", b"text/plain"))


def _posted(framing: bytes, body: bytes) -> bytes:
    return b"POST /w/case HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n%s" % (framing, body)


CASES: list[Case] = [
    *[
        Case(name=f"request body {what}", source="RFC 9112 6", request=Request(method=b"POST", body=body))
        for what, body in BODIES.items()
    ],
    *[Case(name=f"answer body {what}", source="RFC 9112 6", answer=Answer(body=body)) for what, body in BODIES.items()],
    Case(
        name="request body of length 0 says so",
        source="RFC 9110 8.6",
        request=Request(method=b"POST", body=b""),
        checks=(
            Requests(1),
            Either(
                [Arrives(fields={b"content-length": [b"0"]})], [Arrives(fields={b"transfer-encoding": [b"chunked"]})]
            ),
            Comes(),
        ),
    ),
    Case(
        name="request body of a length keeps it",
        source="transparency",
        request=Request(method=b"PUT", body=b"x" * 100_000),
        checks=(Requests(1), Arrives(fields={b"content-length": [b"100000"]}), Comes()),
    ),
    Case(
        name="answer of a length keeps it",
        source="transparency",
        answer=Answer(body=b"x" * 100_000),
        checks=(Requests(1), Comes(fields={b"content-length": [b"100000"]})),
    ),
    Case(
        name="answer of length 0 says so",
        source="transparency",
        answer=Answer(body=b""),
        checks=(Requests(1), Comes(fields={b"content-length": [b"0"]})),
    ),
    Case(
        name="gzip stays gzip",
        source="RFC 9110 7.7",
        request=Request(method=b"POST", fields=CODED, body=GZIPPED),
        answer=Answer(fields=CODED, body=GZIPPED),
        checks=(Requests(1), Arrives(), Comes(fields={b"content-length": [b"%d" % len(GZIPPED)]})),
    ),
    Case(
        name="gzip to a client that did not ask for it stays gzip",
        source="RFC 9110 7.7",
        request=Request(fields=((b"Accept-Encoding", b"identity"),)),
        answer=Answer(fields=CODED, body=(GZIPPED[:5], GZIPPED[5:])),
    ),
    Case(
        name="plain stays plain though the client takes gzip",
        source="transparency",
        request=Request(fields=((b"Accept-Encoding", b"gzip, br"),)),
        answer=Answer(fields=((b"Content-Type", b"text/html"),), body=b"hello " * 1000),
        checks=(Requests(1), Arrives(), Comes(fields={b"content-encoding": []})),
    ),
    Case(
        name="a range of an answer",
        source="RFC 9110 14.4",
        request=Request(fields=((b"Range", b"bytes=2-4"),)),
        answer=Answer(status=206, fields=((b"Content-Range", b"bytes 2-4/10"),), body=b"234"),
    ),
    Case(
        name="chunk sizes in capitals, with zeros in front",
        source="RFC 9112 7.1",
        client=(Bytes(_posted(b"Transfer-Encoding: chunked", b"00A\r\n0123456789\r\n0000\r\n\r\n")), Hear()),
        checks=(Requests(1), Arrives(body=b"0123456789"), Comes()),
        protocols=("1.1",),
    ),
    Case(
        name="coding in capitals, no space",
        source="RFC 9112 7",
        client=(Bytes(_posted(b"TRANSFER-ENCODING:Chunked", chunk(b"hello") + last_chunk())), Hear()),
        checks=(Requests(1), Arrives(body=b"hello"), Comes()),
        protocols=("1.1",),
    ),
    Case(
        name="chunk extensions of the client",
        source="RFC 9112 7.1.1",
        client=(
            Bytes(_posted(b"Transfer-Encoding: chunked", b'5;a=b;c="d;e"\r\nhello\r\n0;f\r\n\r\n')),
            Hear(),
        ),
        checks=(Requests(1), Arrives(body=b"hello"), Comes()),
        protocols=("1.1",),
    ),
    Case(
        name="chunk extensions of the backend",
        source="RFC 9112 7.1.1",
        backend=(
            (Bytes(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b;c="d"\r\nhello\r\n0;f\r\n\r\n'),),
        ),
        checks=(Requests(1), Comes(status=200, body=b"hello")),
    ),
    Case(
        name="request of one byte a packet",
        source="RFC 9112 2.1",
        client=(Drip(_posted(b"Transfer-Encoding: chunked", chunk(b"hello") + chunk(b" you") + last_chunk())), Hear()),
        checks=(Requests(1), Arrives(body=b"hello you"), Comes()),
        protocols=("1.1",),
    ),
    Case(
        name="answer of one byte a packet",
        source="RFC 9112 2.1",
        backend=(
            (
                Drip(
                    b"HTTP/1.1 201 Made\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\nX-B: 2\r\n\r\n"
                    + chunk(b"hello")
                    + chunk(b" you")
                    + last_chunk()
                ),
            ),
        ),
        checks=(Requests(1), Comes(status=201, fields={b"x-a": [b"1"], b"x-b": [b"2"]}, body=b"hello you")),
    ),
    Case(
        name="10 MB up",
        source="transparency",
        request=Request(method=b"PUT", body=Blob(10 * MB)),
    ),
    Case(
        name="10 MB down",
        source="transparency",
        answer=Answer(body=Blob(10 * MB)),
    ),
    *[
        Case(
            name=f"100 MB {what}",
            source="transparency",
            request=Request(method=b"PUT", body=up),
            answer=Answer(body=down),
            slow=True,
            protocols=protocols,
        )
        for what, up, down, protocols in LARGE
    ],
    Case(
        name="trailers of a request",
        source="RFC 9110 6.5",
        request=Request(
            method=b"POST", fields=((b"Trailer", b"X-Checksum, X-Twice"),), body=(b"hel", b"lo"), trailers=TRAILERS
        ),
    ),
    Case(
        name="trailers of a request that nobody announced",
        source="RFC 9110 6.5",
        request=Request(method=b"POST", body=(b"hello",), trailers=TRAILERS),
    ),
    Case(
        name="trailers of an answer",
        source="RFC 9110 6.5",
        request=Request(fields=TE),
        answer=Answer(fields=((b"Trailer", b"X-Checksum, X-Twice"),), body=(b"hel", b"lo"), trailers=TRAILERS),
    ),
    Case(
        name="trailers of an answer that nobody announced",
        source="RFC 9110 6.5",
        request=Request(fields=TE),
        answer=Answer(body=(b"hel", b"lo"), trailers=TRAILERS),
    ),
    Case(
        name="trailers of an answer without content",
        source="RFC 9110 6.5",
        request=Request(fields=TE),
        answer=Answer(fields=((b"Trailer", b"X-Checksum"),), body=(), trailers=TRAILERS[:1]),
    ),
    Case(
        name="trailers of an answer to a client that does not say it takes them",
        source="RFC 9110 6.5.1",
        answer=Answer(fields=((b"Trailer", b"X-Checksum"),), body=(b"hello",), trailers=TRAILERS[:1]),
        checks=(Requests(1), Either([Comes()], [Comes(trailers=())])),
    ),
    Case(
        name="trailers of a request that must not be any",
        source="RFC 9110 6.5.1",
        request=Request(method=b"POST", body=(b"hello",), trailers=FORBIDDEN),
        checks=(
            Either(
                [
                    Requests(1),
                    Arrives(
                        fields={b"host": [b"wire.example"], b"authorization": []},
                        trailers=(),
                        without_trailers=(b"content-length", b"transfer-encoding", b"host", b"authorization"),
                    ),
                ],
                [Either([Refused()], [CutOff()])],
            ),
        ),
    ),
    Case(
        name="trailers of an answer that must not be any",
        source="RFC 9110 6.5.1",
        request=Request(fields=TE),
        answer=Answer(
            fields=((b"Trailer", b"X-Fine"),), body=(b"hello",), trailers=(*FORBIDDEN, (b"Set-Cookie", b"a=b"))
        ),
        checks=(
            Requests(1),
            Comes(
                fields={b"set-cookie": [], b"authorization": []},
                trailers=(),
                without_trailers=(b"content-length", b"transfer-encoding", b"host", b"set-cookie"),
            ),
        ),
    ),
    Case(
        name="TE: trailers reaches the backend with its Connection",
        source="RFC 9110 10.1.4",
        request=Request(fields=TE),
        checks=(
            Requests(1),
            Either(
                [Arrives(fields={b"te": [b"trailers"], b"connection": [b"TE"]})],
                [
                    Either(
                        [Arrives(fields={b"te": [b"trailers"], b"connection": [b"te"]})], [Arrives(fields={b"te": []})]
                    )
                ],
            ),
        ),
    ),
]
