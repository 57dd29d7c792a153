"""Requests that only HTTP/2 can get wrong: each costs its stream at most, and the backend sees nothing of it."""

from hyperframe.frame import DataFrame, Frame, PriorityFrame, SettingsFrame

from .case import Case
from .checks import Arrives, Comes, CutOff, Either, Refused, Requests
from .messages import Fields, Request
from .steps import Bytes, Hear, Open, Pause, Say, SayBody, SayEnd, SayHead

PSEUDO: Fields = (
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"wire.example"),
    (b":path", b"/w/case"),
)
GET = Request()


def _with(**pseudo: bytes) -> Fields:
    return tuple((name, pseudo.get(name[1:].decode(), value)) for name, value in PSEUDO)


def _without(name: bytes) -> Fields:
    return tuple(each for each in PSEUDO if each[0] != name)


MALFORMED: dict[str, tuple[str, Fields]] = {
    "no :method": ("RFC 9113 8.3.1", _without(b":method")),
    "no :scheme": ("RFC 9113 8.3.1", _without(b":scheme")),
    "no :path": ("RFC 9113 8.3.1", _without(b":path")),
    "empty :path": ("RFC 9113 8.3.1", _with(path=b"")),
    ":path without a slash": ("RFC 9113 8.3.1", _with(path=b"w/case")),
    ":path with a space": ("RFC 9113 8.2.1", _with(path=b"/w/case HTTP/1.1\r\nHost: evil")),
    ":path with CRLF": ("RFC 9113 8.2.1", _with(path=b"/w/case\r\nX-Evil: 1")),
    ":method with a space": ("RFC 9113 8.3.1", _with(method=b"GET /w/evil HTTP/1.1")),
    ":method with CRLF": ("RFC 9113 8.2.1", _with(method=b"GET\r\n")),
    ":authority with CRLF": ("RFC 9113 8.2.1", _with(authority=b"a\r\nX-Evil: 1")),
    ":authority with a space": ("RFC 9113 8.3.1", _with(authority=b"a b")),
    ":authority with user information": ("RFC 9113 8.3.1", _with(authority=b"user@wire.example")),
    ":scheme that is none": ("RFC 9113 8.3.1", _with(scheme=b"http://evil/?")),
    ":path twice": ("RFC 9113 8.3", (*PSEUDO, (b":path", b"/w/other"))),
    ":method twice": ("RFC 9113 8.3", (*PSEUDO, (b":method", b"GET"))),
    "unknown pseudo-header": ("RFC 9113 8.3", (*PSEUDO, (b":evil", b"1"))),
    "pseudo-header of an answer": ("RFC 9113 8.3", (*PSEUDO, (b":status", b"200"))),
    "pseudo-header behind a field": ("RFC 9113 8.3", (*PSEUDO[:3], (b"x-a", b"1"), PSEUDO[3])),
    "name in capitals": ("RFC 9113 8.2", (*PSEUDO, (b"X-A", b"1"))),
    "name of nothing": ("RFC 9113 8.2.1", (*PSEUDO, (b"", b"1"))),
    "name with a space": ("RFC 9113 8.2.1", (*PSEUDO, (b"x a", b"1"))),
    "name with a colon": ("RFC 9113 8.2.1", (*PSEUDO, (b"x:a", b"1"))),
    "name with CRLF": ("RFC 9113 8.2.1", (*PSEUDO, (b"x-a: 1\r\nx-evil", b"1"))),
    "name over 0x7F": ("RFC 9113 8.2.1", (*PSEUDO, (b"x-\xe9", b"1"))),
    "value with CRLF": ("RFC 9113 8.2.1", (*PSEUDO, (b"x-a", b"1\r\nx-evil: 1"))),
    "value with LF": ("RFC 9113 8.2.1", (*PSEUDO, (b"x-a", b"1\nx-evil: 1"))),
    "value with CR": ("RFC 9113 8.2.1", (*PSEUDO, (b"x-a", b"1\r2"))),
    "value with NUL": ("RFC 9113 8.2.1", (*PSEUDO, (b"x-a", b"1\x002"))),
    "value with a space in front": ("RFC 9113 8.2.1", (*PSEUDO, (b"x-a", b" 1"))),
    "value with a tab behind": ("RFC 9113 8.2.1", (*PSEUDO, (b"x-a", b"1\t"))),
    "connection": ("RFC 9113 8.2.2", (*PSEUDO, (b"connection", b"x-a"), (b"x-a", b"1"))),
    "keep-alive": ("RFC 9113 8.2.2", (*PSEUDO, (b"keep-alive", b"timeout=5"))),
    "proxy-connection": ("RFC 9113 8.2.2", (*PSEUDO, (b"proxy-connection", b"close"))),
    "upgrade": ("RFC 9113 8.2.2", (*PSEUDO, (b"upgrade", b"foo"))),
    "transfer-encoding": ("RFC 9113 8.2.2", (*PSEUDO, (b"transfer-encoding", b"chunked"))),
    "te other than trailers": ("RFC 9113 8.2.2", (*PSEUDO, (b"te", b"gzip"))),
    "host other than :authority": ("RFC 9113 8.3.1", (*PSEUDO, (b"host", b"evil.example"))),
    "neither :authority nor host": ("RFC 9113 8.3.1", _without(b":authority")),
    "two hosts": ("RFC 9110 7.2", (*_without(b":authority"), (b"host", b"a.example"), (b"host", b"b.example"))),
    "two lengths that differ": ("RFC 9110 8.6", (*PSEUDO, (b"content-length", b"0"), (b"content-length", b"5"))),
    "length that is no number": ("RFC 9110 8.6", (*PSEUDO, (b"content-length", b"x"))),
    "length without a body": ("RFC 9113 8.1.1", (*PSEUDO, (b"content-length", b"5"))),
    "CONNECT": ("RFC 9113 8.5", ((b":method", b"CONNECT"), (b":authority", b"wire.example:80"))),
}
MAY_PASS = {
    "value with a space in front",
    "value with a tab behind",
    ":authority with user information",
    "neither :authority nor host",
}
"""What some read leniently, and lawfully make into what is meant."""

PASSES: dict[str, tuple[str, Fields]] = {
    "host that is the same as :authority": ("RFC 9113 8.3.1", (*PSEUDO, (b"host", b"wire.example"))),
    "host without :authority": ("RFC 9113 8.3.1", (*_without(b":authority"), (b"host", b"wire.example"))),
}

POST = Request(method=b"POST", body=b"hello")
STATUSES = (400, 403, 404, 405, 411, 413, 421, 431, 501)
REFUSED = Refused(statuses=STATUSES)


def _frame(frame: Frame, *flags: str) -> Bytes:
    for flag in flags:
        frame.flags.add(flag)
    return Bytes(frame.serialize())


CASES: list[Case] = [
    *[
        Case(
            name=f"HTTP/2: {what}",
            source=source,
            client=(Open(fields), Hear()),
            checks=(Either([REFUSED], [Requests(1), Arrives(), Comes()]) if what in MAY_PASS else REFUSED,),
            protocols=("2",),
            ours=501 if what == "CONNECT" else None if "length" in what else 400,
        )
        for what, (source, fields) in MALFORMED.items()
    ],
    *[
        Case(
            name=f"HTTP/2: {what}",
            source=source,
            client=(Open(fields), Hear()),
            checks=(Requests(1), Arrives(target=b"/w/case", fields={b"host": [b"wire.example"]}), Comes()),
            protocols=("2",),
        )
        for what, (source, fields) in PASSES.items()
    ],
    Case(
        name="HTTP/2: body longer than its length",
        source="RFC 9113 8.1.1",
        client=(SayHead(POST), SayBody(b"hello, and more"), SayEnd(), Hear()),
        checks=(Either([REFUSED], [CutOff()]),),
        protocols=("2",),
    ),
    Case(
        name="HTTP/2: body shorter than its length",
        source="RFC 9113 8.1.1",
        client=(SayHead(POST), SayBody(b"hell"), SayEnd(), Hear()),
        checks=(Either([REFUSED], [CutOff()]),),
        protocols=("2",),
    ),
    Case(
        name="HTTP/2: trailers with a pseudo-header",
        source="RFC 9113 8.1",
        client=(
            SayHead(Request(method=b"POST", body=(b"hello",))),
            SayBody(b"hello"),
            SayEnd(((b":path", b"/w/evil"),)),
            Hear(),
        ),
        checks=(Either([REFUSED], [CutOff()]),),
        protocols=("2",),
    ),
    Case(
        name="HTTP/2: bad stream beside a good one",
        source="RFC 9113 5.4.2",
        client=(Open((*PSEUDO, (b"x a", b"1"))), Say(GET), Hear(), Hear()),
        checks=(Requests(1), Comes(1, status=200, body=b"fine", given=False)),
        protocols=("2",),
    ),
    Case(
        name="HTTP/2: padding is no part of a body",
        source="RFC 9113 6.1",
        client=(
            SayHead(Request(method=b"POST", body=(b"hello",))),
            _frame(DataFrame(1, data=b"hello", pad_length=100), "PADDED", "END_STREAM"),
            Hear(),
        ),
        checks=(Requests(1), Arrives(body=b"hello"), Comes()),
        protocols=("2",),
    ),
    Case(
        name="HTTP/2: a body in a hundred frames, empty ones between",
        source="RFC 9113 6.1",
        client=(
            SayHead(Request(method=b"POST", body=(b"hello",))),
            *[_frame(DataFrame(1, data=data)) for _ in range(50) for data in (b"x", b"")],
            _frame(DataFrame(1, data=b""), "END_STREAM"),
            Hear(),
        ),
        checks=(Requests(1), Arrives(body=b"x" * 50), Comes()),
        protocols=("2",),
    ),
    Case(
        name="HTTP/2: DATA behind the end of the stream",
        source="RFC 9113 5.1",
        client=(Say(POST), _frame(DataFrame(1, data=b"evil")), Hear()),
        checks=(Either([Requests(1), Arrives()], [Requests(0)]),),
        protocols=("2",),
    ),
    Case(
        name="HTTP/2: DATA on a stream that nobody opened",
        source="RFC 9113 5.1",
        client=(_frame(DataFrame(99, data=b"evil")), Pause(), Say(GET), Hear()),
        # An error of the connection.
        checks=(REFUSED,),
        protocols=("2",),
    ),
    Case(
        name="HTTP/2: unknown frame, PRIORITY, and SETTINGS between",
        source="RFC 9113 4.1",
        client=(
            Bytes(b"\x00\x00\x05\xef\x00\x00\x00\x00\x00hello"),
            _frame(PriorityFrame(1, depends_on=0, stream_weight=1)),
            _frame(SettingsFrame(0, settings={0xABCD: 7})),
            Say(GET),
            Hear(),
        ),
        protocols=("2",),
    ),
    Case(
        name="HTTP/2: twenty requests at once",
        source="RFC 9113 5",
        client=(*[Say(Request(target=b"/w/%d" % n)) for n in range(20)], *[Hear() for _ in range(20)]),
        checks=(Requests(20), *[Comes(n, status=200, body=b"fine", given=False) for n in range(20)]),
        protocols=("2",),
    ),
    Case(
        name="HTTP/2: head in CONTINUATION frames",
        source="RFC 9113 6.10",
        request=Request(fields=tuple((b"x-%d" % n, b"v" * 1000) for n in range(30))),
        protocols=("2",),
    ),
]
