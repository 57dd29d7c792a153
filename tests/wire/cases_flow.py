"""When things come: early answers, both ways at once, event streams, Expect, pipelining, HTTP/1.0, leaving."""

from .case import Case
from .checks import Arrives, Comes, Cut, CutOff, Either, Informed, Ordered, Refused, Requests
from .messages import Answer, Blob, Request, chunk, last_chunk
from .steps import (
    AwaitGone,
    Bytes,
    Echo,
    Give,
    GiveHead,
    Hear,
    HearBody,
    HearEnd,
    HearHead,
    HearInformational,
    Leave,
    Pause,
    ReadBody,
    Reset,
    Say,
    SayBody,
    SayEnd,
    SayHead,
    Signal,
    Together,
    Wait,
)

MB = 1_000_000
FINE = Answer(body=b"fine")
GET = Request()
EXPECTING = Request(method=b"PUT", fields=((b"Expect", b"100-continue"),), body=b"hello")
CONTINUE = Bytes(b"HTTP/1.1 100 Continue\r\n\r\n")
STREAM = Answer(fields=((b"Content-Type", b"text/event-stream"),), body=(b"",))


def _upload(size: int) -> Request:
    return Request(method=b"PUT", body=Blob(size))


def _get(target: bytes, *more: bytes, version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"GET %s HTTP/%s" % (target, version), b"Host: a", *more, b"", b""])


def _numbered(count: int) -> tuple[tuple[ReadBody | Give, ...], ...]:
    return tuple((ReadBody(), Give(Answer(body=b"answer %d" % n))) for n in range(count))


CASES: list[Case] = [
    # ---- early answers
    *[
        Case(
            name=f"early {status} to an upload that goes on{', and the backend closes' if leaves else ''}",
            source="RFC 9112 9.3",
            client=(SayHead(_upload(MB)), SayBody(b"x" * 1000), Hear()),
            backend=(
                (
                    ReadBody(1),
                    Give(Answer(status=status, fields=((b"Connection", b"close"),) * leaves, body=b"enough")),
                    *((Leave(),) * leaves),
                ),
            ),
            checks=(Requests(1), Comes(status=status, body=b"enough")),
        )
        for status in (413, 200)
        for leaves in (False, True)
    ],
    Case(
        name="early answer without a look at the body, which goes on to its end",
        source="RFC 9112 9.3",
        client=(
            SayHead(_upload(300_000)),
            SayBody(b"x" * 100_000),
            HearHead(),
            SayBody(b"x" * 200_000),
            SayEnd(),
            HearEnd(),
        ),
        backend=((GiveHead(Answer(body=b"fine")), ReadBody(), Bytes(b"fine")),),
        checks=(Requests(1), Arrives(body=b"x" * 300_000), Comes()),
    ),
    Case(
        name="head of the answer before any of its body",
        source="transparency",
        client=(Say(GET), HearHead(), Signal("head"), HearEnd()),
        backend=((ReadBody(), GiveHead(Answer(body=b"fine")), Wait("head"), Bytes(b"fine")),),
    ),
    Case(
        name="head of the request before any of its body",
        source="transparency",
        client=(SayHead(Request(method=b"POST", body=b"hello")), Wait("head"), SayBody(b"hello"), SayEnd(), Hear()),
        backend=((Signal("head"), ReadBody(), Give(FINE)),),
    ),
    Case(
        name="each piece of a request before the next is said",
        source="transparency",
        client=(
            SayHead(Request(method=b"POST", body=(b"a", b"b"))),
            SayBody(b"a"),
            Wait("a"),
            SayBody(b"b"),
            Wait("ab"),
            SayEnd(),
            Hear(),
        ),
        backend=((ReadBody(1), Signal("a"), ReadBody(2), Signal("ab"), ReadBody(), Give(FINE)),),
    ),
    *[
        Case(
            name=f"{what}, each piece before the next is given",
            source="transparency",
            client=(Say(GET), HearHead(), HearBody(2), Signal("a"), HearBody(4), Signal("b"), HearEnd()),
            backend=(
                (
                    Bytes(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s" % (head, first)),
                    Wait("a"),
                    Bytes(second),
                    Wait("b"),
                    Bytes(end),
                    *((Leave(),) if leaves else ()),
                ),
            ),
            checks=(Requests(1), Comes(status=200, body=b"1\n2\n3\n")),
        )
        for what, head, first, second, end, leaves in [
            (
                "event stream in chunks",
                b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked",
                chunk(b"1\n"),
                chunk(b"2\n"),
                chunk(b"3\n") + last_chunk(),
                False,
            ),
            ("event stream until the end", b"Content-Type: text/event-stream", b"1\n", b"2\n", b"3\n", True),
            ("answer of a length", b"Content-Length: 6", b"1\n", b"2\n", b"3\n", False),
            (
                "gzip in chunks",
                b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked",
                chunk(b"1\n"),
                chunk(b"2\n"),
                chunk(b"3\n") + last_chunk(),
                False,
            ),
        ]
    ],
    Case(
        name="both ways at once, word by word",
        source="transparency",
        client=(
            SayHead(Request(method=b"POST", body=(b"a", b"bc"))),
            SayBody(b"a"),
            HearHead(),
            HearBody(1),
            SayBody(b"bc"),
            HearBody(3),
            SayEnd(),
            HearEnd(),
        ),
        backend=((GiveHead(Answer(body=(b"a", b"bc"))), Echo()),),
    ),
    Case(
        name="both ways at once, 3 MB",
        source="transparency",
        client=(
            SayHead(Request(method=b"POST", body=Blob(3 * MB, chunk=50_000))),
            Together((SayBody(Blob(3 * MB, chunk=50_000)), SayEnd()), (HearHead(), HearEnd())),
        ),
        backend=((GiveHead(Answer(body=Blob(3 * MB, chunk=50_000))), Echo()),),
    ),
    Case(
        name="both ways at once, 100 MB",
        source="transparency",
        client=(
            SayHead(Request(method=b"POST", body=Blob(100 * MB, chunk=100_000))),
            Together((SayBody(Blob(100 * MB, chunk=100_000)), SayEnd()), (HearHead(), HearEnd())),
        ),
        backend=((GiveHead(Answer(body=Blob(100 * MB, chunk=100_000))), Echo()),),
        slow=True,
        protocols=("1.1",),
    ),
    # ---- Expect
    Case(
        name="Expect: the client waits for the backend's 100",
        source="RFC 9110 10.1.1",
        client=(SayHead(EXPECTING), HearInformational(), SayBody(b"hello"), SayEnd(), Hear()),
        backend=((CONTINUE, ReadBody(), Give(FINE)),),
        checks=(Requests(1), Arrives(), Informed((100,)), Comes()),
    ),
    Case(
        name="Expect: the backend is told of it",
        source="RFC 9110 10.1.1",
        client=(SayHead(EXPECTING), HearInformational(), SayBody(b"hello"), SayEnd(), Hear()),
        backend=((CONTINUE, ReadBody(), Give(FINE)),),
        checks=(Requests(1), Arrives(fields={b"expect": [b"100-continue"]}), Comes()),
    ),
    Case(
        name="Expect: no 100 to the client before the backend has said it",
        source="RFC 9110 10.1.1",
        client=(SayHead(EXPECTING), HearInformational(), Signal("invited"), SayBody(b"hello"), SayEnd(), Hear()),
        backend=((Pause(0.1), Signal("now"), CONTINUE, Wait("invited"), ReadBody(), Give(FINE)),),
        checks=(Requests(1), Arrives(), Ordered("now", "invited"), Comes()),
    ),
    *[
        Case(
            name=f"Expect: the backend says {status} instead, and the body stays where it is",
            source="RFC 9110 10.1.1",
            client=(SayHead(EXPECTING), Hear()),
            backend=((Give(Answer(status=status, fields=((b"Connection", b"close"),), body=b"no")), Leave()),),
            checks=(Requests(1), Informed(()), Comes(status=status, body=b"no")),
        )
        for status in (401, 413, 417)
    ],
    Case(
        name="Expect: a backend that knows nothing of it",
        source="RFC 9110 10.1.1",
        client=(Say(EXPECTING), Hear()),
    ),
    Case(
        name="Expect: a client that does not wait",
        source="RFC 9110 10.1.1",
        client=(Say(EXPECTING), Hear()),
        backend=((CONTINUE, ReadBody(), Give(FINE)),),
    ),
    Case(
        name="Expect: without a body",
        source="RFC 9110 10.1.1",
        request=Request(fields=((b"Expect", b"100-continue"),)),
        checks=(Requests(1), Comes()),
    ),
    Case(
        name="Expect: of a client of HTTP/1.0",
        source="RFC 9110 10.1.1",
        request=Request(version=b"1.0", method=b"PUT", fields=((b"Expect", b"100-continue"),), body=b"hello"),
        checks=(Requests(1), Informed(()), Comes()),
        protocols=("1.1",),
    ),
    # ---- one connection, several requests
    Case(
        name="three requests, one after the other",
        source="RFC 9112 9.3",
        client=tuple(step for _ in range(3) for step in (Say(GET), Hear())),
        backend=_numbered(3),
        checks=(Requests(3), Comes(0), Comes(1), Comes(2)),
    ),
    Case(
        name="a request behind each kind of body",
        source="RFC 9112 9.3",
        client=(
            Say(Request(method=b"POST", body=(b"a", b"b"))),
            Hear(),
            Say(Request(method=b"POST", body=b"ab")),
            Hear(),
            Say(Request(method=b"POST", body=b"")),
            Hear(),
            Say(GET),
            Hear(),
        ),
        backend=_numbered(4),
        checks=(Requests(4), *[check(n) for n in range(4) for check in (Arrives, Comes)]),
    ),
    Case(
        name="three requests at once",
        source="RFC 9112 9.3.2",
        client=(
            *[Say(Request(target=b"/w/%d" % n)) for n in range(3)],
            *[Hear() for _ in range(3)],
        ),
        backend=tuple((Give(Answer(body=b"fine")),) for n in range(3)),
        checks=(Requests(3), Comes(0), Comes(1), Comes(2)),
    ),
    Case(
        name="three requests in one packet, the first with a body",
        source="RFC 9112 9.3.2",
        client=(
            Bytes(
                b"POST /w/0 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
                + _get(b"/w/1")
                + b"POST /w/2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                + chunk(b"hello")
                + last_chunk()
            ),
            *[Hear() for _ in range(3)],
        ),
        backend=_numbered(3),
        checks=(
            Requests(3),
            Arrives(0, target=b"/w/0", body=b"hello"),
            Arrives(1, target=b"/w/1"),
            Arrives(2, target=b"/w/2", body=b"hello"),
            *[Comes(n) for n in range(3)],
        ),
        protocols=("1.1",),
    ),
    Case(
        name="request behind one that asked to close is not served",
        source="RFC 9112 9.6",
        client=(Bytes(_get(b"/w/0", b"Connection: close") + _get(b"/w/1")), Hear(), AwaitGone()),
        checks=(Requests(1), Comes(), Cut(after=0)),
        protocols=("1.1",),
    ),
    Case(
        name="answers of one connection are not mixed: the first is the slow one",
        source="RFC 9112 9.3.2",
        client=(Bytes(_get(b"/w/0") + _get(b"/w/1")), Hear(), Hear()),
        backend=((Pause(0.1), Give(Answer(body=b"first"))), (Give(Answer(body=b"second")),)),
        checks=(Requests(2), Comes(0, body=b"first"), Comes(1, body=b"second")),
        protocols=("1.1",),
    ),
    Case(
        name="Connection: close is obeyed",
        source="RFC 9112 9.6",
        client=(Say(Request(fields=((b"Connection", b"Close"),))), Hear(), AwaitGone()),
        checks=(Requests(1), Arrives(), Comes(), Cut(after=0)),
        protocols=("1.1",),
    ),
    # ---- clients of HTTP/1.0
    *[
        Case(
            name=f"client of HTTP/1.0: {what}",
            source=source,
            client=(Say(Request(version=b"1.0", fields=fields)), Hear(), *((AwaitGone(),) if cut else ())),
            answer=answer,
            checks=(
                Requests(1),
                Arrives(),
                Comes(fields={b"transfer-encoding": []}),
                *((Cut(after=0),) if cut else ()),
            ),
            protocols=("1.1",),
        )
        for what, source, fields, answer, cut in [
            ("answer of a length, then the end", "RFC 9112 9.3", (), FINE, True),
            ("answer in chunks, which it cannot read", "RFC 9112 6.1", (), Answer(body=(b"a", b"bc")), True),
            ("answer of 1 MB in chunks", "RFC 9112 6.1", (), Answer(body=Blob(MB, chunk=9_999)), True),
            (
                "keep-alive, and an answer in chunks",
                "RFC 9112 6.1",
                ((b"Connection", b"keep-alive"),),
                Answer(body=(b"a", b"bc")),
                False,
            ),
        ]
    ],
    Case(
        name="client of HTTP/1.0: keep-alive",
        source="RFC 9112 9.3",
        client=tuple(
            step
            for _ in range(2)
            for step in (Say(Request(version=b"1.0", fields=((b"Connection", b"keep-alive"),))), Hear())
        ),
        # To keep it alive is a courtesy, but a connection that is kept says so, or this client would wait for its end.
        checks=(Comes(0), Either([Requests(2), Comes(1)], [Requests(1)])),
        protocols=("1.1",),
    ),
    Case(
        name="client of HTTP/1.0: without Host",
        source="RFC 9112 3.2",
        client=(Bytes(b"GET /w/case HTTP/1.0\r\n\r\n"), Hear()),
        checks=(Either([Requests(1), Arrives(target=b"/w/case"), Comes()], [Refused()]),),
        protocols=("1.1",),
    ),
    Case(
        name="client of HTTP/1.0: with a body",
        source="RFC 9112 6.2",
        request=Request(version=b"1.0", method=b"POST", body=b"hello"),
        protocols=("1.1",),
    ),
    # ---- leaving
    *[
        Case(
            name=f"client leaves {what}: the backend is told",
            source="transparency",
            client=client,
            backend=(backend,),
            checks=(Requests(1), Cut(backend=True)),
        )
        for what, client, backend in [
            ("before the answer", (Say(GET), Wait("asked"), Leave()), (Signal("asked"), AwaitGone())),
            (
                "within its body",
                (SayHead(_upload(MB)), SayBody(b"x"), Wait("asked"), Leave()),
                (ReadBody(1), Signal("asked"), AwaitGone()),
            ),
            (
                "within the answer",
                (Say(GET), HearHead(), HearBody(1), Leave()),
                (Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na"), AwaitGone()),
            ),
        ]
    ],
    Case(
        name="client resets its stream: the backend is told",
        source="RFC 9113 5.4.2",
        client=(Say(GET), Wait("asked"), Reset(), Hear(), Say(GET), Hear()),
        backend=((Signal("asked"), AwaitGone()), (Give(FINE),)),
        checks=(Requests(2), Cut(backend=True), Comes(1, status=200, body=b"fine", given=False)),
        protocols=("2",),
    ),
    Case(
        name="body that is cut off reaches the backend as cut off",
        source="RFC 9112 8",
        client=(SayHead(_upload(1000)), SayBody(b"x" * 500), Leave()),
        backend=((ReadBody(), Signal("whole"), Give(FINE)),),
        checks=(Either([Requests(0)], [CutOff()]),),
    ),
    Case(
        name="body in chunks that is cut off reaches the backend as cut off",
        source="RFC 9112 8",
        client=(SayHead(Request(method=b"PUT", body=(b"a", b"b"))), SayBody(b"a"), Leave()),
        backend=((ReadBody(), Signal("whole"), Give(FINE)),),
        checks=(Either([Requests(0)], [CutOff()]),),
    ),
]
