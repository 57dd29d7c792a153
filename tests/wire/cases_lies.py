"""Answers that are nonsense, lie about their length, or are more than one: a failure that shows, never a clean lie."""

from .case import Case
from .checks import Broken, Check, Comes, Either, Requests
from .messages import Answer, Request, chunk, last_chunk
from .steps import (
    BackendStep,
    Bytes,
    Give,
    Hear,
    HearBody,
    HearEnd,
    HearHead,
    Leave,
    Pause,
    ReadBody,
    Reset,
    Say,
    Signal,
    Wait,
)

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Evil: 1\r\n\r\nevil"
GET = Request()
HEAD = Request(method=b"HEAD")
POST = Request(method=b"POST", body=b"hello")
BROKEN = Broken(begun=False)


def _row(
    name: str,
    source: str,
    data: bytes,
    *or_else: Check,
    request: Request = GET,
    leaves: bool = True,
    broken: Check = BROKEN,
) -> Case:
    """A failure for the client; or, where there is ``or_else``, that."""
    return Case(
        name=name,
        source=source,
        client=(Say(request), Hear()),
        backend=((ReadBody(), Bytes(data), *((Pause(0.05), Leave()) if leaves else ())),),
        checks=(Either([broken], or_else),) if or_else else (broken,),
    )


def _answer(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([status, *lines, b"", b""])


def _fine(**fields: bytes) -> Check:
    wanted = {name.replace("_", "-").encode(): [value] for name, value in fields.items()}
    return Comes(status=200, body=b"hello", fields=wanted)


HELLO = chunk(b"hello") + last_chunk()
LENGTH = b"Content-Length: 5"

FAILURES: list[tuple[str, Request, tuple[BackendStep, ...]]] = [
    ("closes without an answer", GET, (Leave(),)),
    ("closes without an answer to a POST", POST, (Leave(),)),
    ("resets without an answer", GET, (Reset(),)),
    ("resets without an answer to a POST", POST, (Reset(),)),
    ("closes within the status line", GET, (Bytes(b"HTTP/1.1 20"), Leave())),
    ("closes within the head", GET, (Bytes(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n"), Leave())),
    ("closes behind a 103", GET, (Bytes(b"HTTP/1.1 103 Soon\r\n\r\n"), Leave())),
    ("resets within the head", GET, (Bytes(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n"), Pause(), Reset())),
]

NO_ANSWER = [
    Case(
        name=f"backend {what}",
        source="RFC 9110 15.6.3",
        request=request,
        backend=((ReadBody(), *steps),),
        checks=(Broken(begun=False, told=True), *((Requests(1),) if request is POST else ())),
    )
    for what, request, steps in FAILURES
]

ENDS: list[tuple[str, Leave | Reset]] = [("the end", Leave()), ("a reset", Reset())]

CUT_SHORT = [
    Case(
        name=f"{what}: cut short by {how}",
        source="RFC 9112 8",
        client=(Say(GET), HearHead(), HearBody(2), Signal("begun"), HearEnd()),
        backend=((ReadBody(), Bytes(head + data), Wait("begun"), step),),
        checks=(Requests(1), Broken(begun=True)),
    )
    for what, head, data in [
        ("body of a length", _answer(LENGTH), b"he"),
        ("chunks, within one", _answer(b"Transfer-Encoding: chunked"), b"5\r\nhe"),
        ("chunks, between two", _answer(b"Transfer-Encoding: chunked"), chunk(b"he")),
        ("chunks, before the end of the last", _answer(b"Transfer-Encoding: chunked"), chunk(b"he") + b"0\r\n"),
    ]
    for how, step in ENDS
]

CHUNKED_BADLY = [
    Case(
        name=f"chunks of the backend: {what}",
        source="RFC 9112 7.1",
        client=(Say(GET), HearHead(), HearBody(2), Signal("begun"), HearEnd()),
        backend=(
            (
                ReadBody(),
                Bytes(_answer(b"Transfer-Encoding: chunked") + chunk(b"he")),
                Wait("begun"),
                Bytes(data),
                Pause(0.05),
                Leave(),
            ),
        ),
        checks=(Requests(1), Broken(begun=True)),
    )
    for what, data in [
        ("no size", b"\r\nllo\r\n0\r\n\r\n"),
        ("size that is no number", b"x\r\nllo\r\n0\r\n\r\n"),
        ("size with a sign", b"-3\r\nllo\r\n0\r\n\r\n"),
        ("size over 64 bits", b"10000000000000003\r\nllo\r\n0\r\n\r\n"),
        ("data longer than its size", b"2\r\nllo\r\n0\r\n\r\n"),
        ("trailer that is no field", b"0\r\nX-A\r\n\r\n"),
        ("another answer where a chunk is due", EVIL),
    ]
]

TWO_ANSWERS = [
    Case(
        name=f"bytes behind the answer: {what}",
        source="RFC 9112 6.3",
        client=(Say(request), Hear(), Say(GET), Hear()),
        backend=((ReadBody(), Bytes(data + EVIL)), (ReadBody(), Give(Answer(body=b"second")))),
        checks=(check, Either([Comes(1, status=200, body=b"second", given=False)], [Broken(1)])),
    )
    for what, request, data, check in [
        ("of a length", GET, _answer(LENGTH) + b"hello", Comes(status=200, body=b"hello", given=False)),
        (
            "in chunks",
            GET,
            _answer(b"Transfer-Encoding: chunked") + HELLO,
            Comes(status=200, body=b"hello", given=False),
        ),
        ("to HEAD", HEAD, _answer(b"Content-Length: 52"), Comes(status=200, given=False)),
        ("204", GET, _answer(status=b"HTTP/1.1 204 No"), Comes(status=204, given=False)),
        ("304", GET, _answer(b"Content-Length: 52", status=b"HTTP/1.1 304 Not"), Comes(status=304, given=False)),
        ("of length 0", GET, _answer(b"Content-Length: 0"), Comes(status=200, given=False)),
    ]
]

FRAMING = [
    _row(
        "both length and chunks",
        "RFC 9112 6.3",
        _answer(LENGTH, b"Transfer-Encoding: chunked") + HELLO,
        Comes(status=200, body=b"hello"),
    ),
    _row("two lengths that differ", "RFC 9112 6.3", _answer(LENGTH, b"Content-Length: 6") + b"hello!"),
    _row("two lengths that differ, in one field", "RFC 9112 6.3", _answer(b"Content-Length: 5, 6") + b"hello!"),
    _row("two lengths, the same", "RFC 9112 6.3", _answer(LENGTH, LENGTH) + b"hello", _fine(content_length=b"5")),
    _row("two lengths, the same, in one field", "RFC 9112 6.3", _answer(b"Content-Length: 5, 5") + b"hello", _fine()),
    *[
        _row(f"length {value!r} of the backend", "RFC 9112 6.3", _answer(b"Content-Length: " + value) + b"hello")
        for value in (b"+5", b"-5", b"0x5", b"5 5", b"abc", b"", b"99999999999999999999999")
    ],
    *[
        _row(f"coding of the backend: {what}", "RFC 9112 6.3", _answer(*lines) + HELLO)
        for what, lines in [
            ("chunked twice", (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
            ("unknown", (b"Transfer-Encoding: xchunked",)),
            ("gzip that nobody undoes", (b"Transfer-Encoding: gzip, chunked",)),
            ("chunked that is not the last", (b"Transfer-Encoding: chunked, identity",)),
        ]
    ],
    _row(
        "chunks in HTTP/1.0 of the backend",
        "RFC 9112 6.1",
        _answer(b"Transfer-Encoding: chunked", status=b"HTTP/1.0 200 OK") + HELLO,
        Comes(status=200, body=b"hello"),
    ),
]

HEADS = [
    *[
        _row(f"status line {line!r}", "RFC 9112 4", _answer(LENGTH, status=line) + b"hello")
        for line in (
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 abc OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1.1 -20 OK",
            b"HTTP/2.0 200 OK",
            b"HTTP/11 200 OK",
            b"HTTTP/1.1 200 OK",
            b"200 OK",
            b"\x15\x03\x01\x00\x02\x02P",
        )
    ],
    _row("no HTTP at all", "RFC 9112 4", b"<html>hello</html>\r\n\r\n"),
    _row("line without a colon, answer", "RFC 9112 5", _answer(LENGTH, b"X-A") + b"hello"),
    _row("name of nothing, answer", "RFC 9110 5.1", _answer(LENGTH, b": 1") + b"hello", _fine()),
    _row("name with a space, answer", "RFC 9110 5.1", _answer(LENGTH, b"X A: 1") + b"hello", _fine()),
    _row("space before the colon, answer", "RFC 9112 5.1", _answer(LENGTH, b"X-A : 1") + b"hello", _fine(x_a=b"1")),
    _row("folded line, answer", "RFC 9112 5.2", _answer(LENGTH, b"X-A: 1", b" 2") + b"hello", _fine(x_a=b"1 2")),
    _row("bare LF, answer", "RFC 9112 2.2", _answer(LENGTH, b"X-A: 1\nX-B: 2") + b"hello", _fine(x_a=b"1", x_b=b"2")),
    _row(
        "bare CR in a value, answer",
        "RFC 9110 5.5",
        _answer(LENGTH, b"X-A: a\rX-Evil: b") + b"hello",
        _fine(x_a=b"a X-Evil: b"),
    ),
    _row("NUL in a value, answer", "RFC 9110 5.5", _answer(LENGTH, b"X-A: a\x00b") + b"hello", _fine(x_a=b"a b")),
    _row("head of 1 MB", "RFC 9112 2.2", _answer(LENGTH, b"X-A: " + b"x" * 1_000_000) + b"hello"),
    _row("20,000 fields, answer", "RFC 9112 2.2", _answer(LENGTH, *[b"X-A: 1"] * 20_000) + b"hello"),
    _row(
        "1xx without end",
        "RFC 9110 15.2",
        b"HTTP/1.1 102 Soon\r\n\r\n" * 5_000 + _answer(LENGTH) + b"hello",
        _fine(),
    ),
    _row("no head, but empty lines", "RFC 9112 2.2", b"\r\n" * 1000),
]

CASES: list[Case] = [
    *NO_ANSWER,
    *CUT_SHORT,
    *CHUNKED_BADLY,
    *TWO_ANSWERS,
    *FRAMING,
    *HEADS,
    Case(
        name="answer on an idle connection that nobody asked for",
        source="RFC 9112 9.2",
        client=(Say(GET), Hear(), Signal("idle"), Wait("said"), Pause(0.05), Say(GET), Hear()),
        backend=(
            (ReadBody(), Give(Answer(body=b"first")), Wait("idle"), Bytes(EVIL), Signal("said")),
            (ReadBody(), Give(Answer(body=b"second"))),
        ),
        checks=(Comes(0), Comes(1, status=200, body=b"second")),
    ),
    Case(
        name="idle connection that the backend closed",
        source="RFC 9112 9.6",
        client=(Say(GET), Hear(), Wait("closed"), Pause(0.05), Say(POST), Hear()),
        backend=(
            (ReadBody(), Give(Answer(body=b"first")), Signal("closed"), Leave()),
            (ReadBody(), Give(Answer(body=b"second"))),
        ),
        checks=(Requests(2), Comes(0), Comes(1)),
    ),
    Case(
        name="length longer than the body, kept open",
        source="RFC 9112 8",
        client=(Say(GET), HearHead(), HearBody(2), Signal("begun"), HearEnd()),
        backend=((ReadBody(), Bytes(_answer(LENGTH) + b"hello"[:2]), Wait("begun"), Pause(0.1), Leave()),),
        checks=(Requests(1), Broken(begun=True)),
    ),
]
