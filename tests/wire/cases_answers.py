"""Answers: every status, 1xx, those without a body, those that end with the connection; Date."""

from http import HTTPStatus

from .case import Case
from .checks import Arrives, Broken, Comes, Dated, Either, Informed, Requests
from .messages import Answer, Fields, Request
from .steps import Bytes, Give, Hear, HearEnd, HearHead, HearInformational, Leave, ReadBody, Reset, Say, Signal, Wait

KNOWN = [each.value for each in HTTPStatus if each.value >= 200 and each.value not in (204, 205, 304)]
UNKNOWN = [218, 299, 399, 430, 499, 520, 599]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
HINTS: Fields = ((b"Link", b"</a.css>; rel=preload"), (b"Link", b"</b.js>; rel=preload; as=script"))
HEAD = Request(method=b"HEAD")
GET = Request()
DATE = b"Tue, 15 Nov 1994 08:12:31 GMT"


def _hints(status: int = 103, fields: Fields = HINTS) -> Bytes:
    return Bytes(Answer(status=status, reason=b"Soon", fields=fields, body=None).head())


def _statuses(statuses: list[int]) -> dict[str, object]:
    answers = [
        Answer(status=status, fields=((b"X-Status", b"%d" % status),), body=b"%d" % status) for status in statuses
    ]
    return {
        "client": tuple(step for _ in answers for step in (Say(GET), Hear())),
        "backend": tuple((ReadBody(), Give(answer)) for answer in answers),
        "checks": (Requests(len(answers)), *(Comes(n) for n in range(len(answers)))),
    }


CASES: list[Case] = [
    Case(name="every status of the registry", source="RFC 9110 15", **_statuses(KNOWN)),  # type: ignore[arg-type] # the three fields above
    Case(name="statuses that nobody registered", source="RFC 9110 15", **_statuses(UNKNOWN)),  # type: ignore[arg-type] # as above
    Case(
        name="status over 599",
        source="RFC 9110 15",
        answer=Answer(status=799, body=b"odd"),
        checks=(Requests(1), Either([Comes()], [Broken()])),
    ),
    Case(
        name="redirects are the client's business",
        source="transparency",
        answer=Answer(status=302, fields=((b"Location", b"/w/other"),), body=b""),
    ),
    Case(
        name="no retry on 503",
        source="RFC 9110 9.2.2",
        answer=Answer(status=503, fields=((b"Retry-After", b"1"),), body=b"busy"),
    ),
    Case(name="421 is not the proxy's", source="RFC 9110 15.5.20", answer=Answer(status=421, body=b"no")),
    *[
        Case(
            name=f"{status} without a body",
            source=source,
            answer=Answer(status=status, fields=((b"ETag", b'"a"'), (b"X-A", b"1")), body=None),
        )
        for status, source in [(204, "RFC 9110 15.3.5"), (304, "RFC 9110 15.4.5")]
    ],
    Case(
        name="304 with the length that a 200 had had",
        source="RFC 9110 8.6",
        answer=Answer(status=304, fields=((b"Content-Length", b"1234"), (b"ETag", b'"a"')), body=None),
    ),
    Case(
        name="204 that says Content-Length: 0, which it must not",
        source="RFC 9110 8.6",
        answer=Answer(status=204, fields=((b"Content-Length", b"0"),), body=None),
        checks=(Requests(1), Comes(fields={b"content-length": []})),
    ),
    Case(
        name="204 that says it is chunked, which it must not",
        source="RFC 9112 6.1",
        backend=((Bytes(b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n"),),),
        checks=(Requests(1), Either([Comes(status=204, fields={b"x-a": [b"1"]})], [Broken()])),
    ),
    Case(name="205", source="RFC 9110 15.3.6", answer=Answer(status=205, body=b"")),
    *[
        Case(name=f"HEAD: {what}", source="RFC 9110 9.3.2", request=HEAD, answer=answer, checks=checks)
        for what, answer, checks in [
            (
                "with a length",
                Answer(body=b"x" * 99),
                (Requests(1), Arrives(), Comes(fields={b"content-length": [b"99"]})),
            ),
            ("with chunks", Answer(body=(b"x",)), (Requests(1), Arrives(), Comes())),
            ("with neither", Answer(body=None), (Requests(1), Arrives(), Comes(fields={b"content-length": []}))),
            ("with a length of 0", Answer(body=b""), (Requests(1), Arrives(), Comes())),
            ("of a 404", Answer(status=404, body=b"nothing"), (Requests(1), Arrives(), Comes())),
        ]
    ],
    Case(
        name="HEAD, then GET on the same connection",
        source="RFC 9112 6.3",
        client=(Say(HEAD), Hear(), Say(GET), Hear()),
        checks=(Requests(2), Comes(0), Comes(1)),
    ),
    Case(
        name="304, then GET on the same connection",
        source="RFC 9112 6.3",
        client=(Say(GET), Hear(), Say(GET), Hear()),
        backend=(
            (Give(Answer(status=304, fields=((b"Content-Length", b"99"),), body=None)),),
            (Give(Answer(body=b"fine")),),
        ),
        checks=(Requests(2), Comes(0), Comes(1)),
    ),
    Case(
        name="answer that ends with the connection",
        source="RFC 9112 6.3",
        backend=((Bytes(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nhello"), Bytes(b" you"), Leave()),),
        checks=(Requests(1), Comes(status=200, fields={b"x-a": [b"1"]}, body=b"hello you")),
    ),
    Case(
        name="answer that ends with the connection, and is empty",
        source="RFC 9112 6.3",
        backend=((Bytes(b"HTTP/1.1 200 OK\r\n\r\n"), Leave()),),
        checks=(Requests(1), Comes(status=200)),
    ),
    Case(
        name="answer that ends with a reset of the connection",
        source="RFC 9112 8",
        backend=((Bytes(b"HTTP/1.1 200 OK\r\n\r\nhello"), Wait("heard"), Reset()),),
        client=(Say(GET), HearHead(), Signal("heard"), HearEnd()),
        checks=(Requests(1), Broken()),
    ),
    *[
        Case(
            name=f"backend of HTTP/1.0, {what}",
            source="RFC 9110 2.5",
            backend=((Bytes(answer), *((Leave(),) if leaves else ())),),
            checks=(Requests(1), Comes(status=200, body=b"fine")),
        )
        for what, answer, leaves in [
            ("with a length", b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nfine", True),
            ("without one", b"HTTP/1.0 200 OK\r\n\r\nfine", True),
            ("kept alive", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nfine", False),
        ]
    ],
    *[
        Case(
            name=f"reason phrase: {what}",
            source="RFC 9112 4",
            backend=((Bytes(b"HTTP/1.1 200%s\r\nContent-Length: 4\r\n\r\nfine" % reason),),),
            checks=(Requests(1), Comes(status=200, body=b"fine")),
        )
        for what, reason in [
            ("empty", b" "),
            ("of several words", b" All is well: 200"),
            ("in Latin-1", b" Sch\xf6n"),
            ("missing with its space", b""),
        ]
    ],
    Case(
        name="Date of the backend is kept",
        source="RFC 9110 6.6.1",
        answer=Answer(fields=((b"Date", DATE),), body=b"x"),
        checks=(Requests(1), Comes(), Dated(DATE)),
    ),
    Case(name="Date is added where there is none", source="RFC 9110 6.6.1", checks=(Requests(1), Comes(), Dated())),
    Case(
        name="Date on 304 and HEAD too",
        source="RFC 9110 6.6.1",
        request=HEAD,
        answer=Answer(status=304, body=None),
        checks=(Requests(1), Comes(), Dated()),
    ),
    Case(
        name="Date twice becomes one",
        source="RFC 9110 5.3",
        answer=Answer(fields=((b"Date", DATE), (b"Date", DATE)), body=b"x"),
        checks=(Requests(1), Either([Comes(), Dated(DATE)], [Broken()])),
    ),
    Case(
        name="Connection: close of the backend does not reach the client's next request",
        source="RFC 9112 9.6",
        client=(Say(GET), Hear(), Say(GET), Hear()),
        backend=(
            (Bytes(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"), Leave()),
            (Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb"),),
        ),
        checks=(Requests(2), Comes(0, status=200, body=b"a"), Comes(1, status=200, body=b"b")),
    ),
    # ---- 1xx
    Case(
        name="103 before the answer, its Link fields with it",
        source="RFC 8297",
        backend=((_hints(), Wait("hinted"), Bytes(OK)),),
        client=(Say(GET), HearInformational(), Signal("hinted"), Hear()),
        checks=(
            Requests(1),
            Informed((103,), {b"link": [value for _, value in HINTS]}),
            Comes(status=200, body=b"fine"),
        ),
    ),
    Case(
        name="103 with other fields",
        source="RFC 9110 15.2",
        backend=((_hints(fields=((b"X-Soon", b"1"), (b"Link", b"<a>"))), Bytes(OK)),),
        checks=(Requests(1), Informed((103,), {b"link": [b"<a>"], b"x-soon": [b"1"]}), Comes(status=200, body=b"fine")),
    ),
    Case(
        name="103 three times",
        source="RFC 9110 15.2",
        backend=((_hints(), _hints(fields=HINTS[:1]), _hints(), Bytes(OK)),),
        checks=(Requests(1), Informed((103, 103, 103)), Comes(status=200, body=b"fine")),
    ),
    *[
        Case(
            name=f"{status} before the answer",
            source="RFC 9110 15.2",
            backend=((_hints(status, ((b"X-A", b"1"),)), Bytes(OK)),),
            checks=(Requests(1), Informed((status,)), Comes(status=200, body=b"fine")),
        )
        for status in (102, 104, 199)
    ],
    Case(
        name="100 that nobody asked for does no harm",
        source="RFC 9110 15.2.1",
        backend=((Bytes(b"HTTP/1.1 100 Continue\r\n\r\n"), Bytes(OK)),),
        checks=(Requests(1), Comes(status=200, body=b"fine")),
    ),
    Case(
        name="100 that nobody asked for is passed on",
        source="RFC 9110 15.2",
        backend=((Bytes(b"HTTP/1.1 100 Continue\r\n\r\n"), Bytes(OK)),),
        checks=(Requests(1), Informed((100,)), Comes(status=200, body=b"fine")),
    ),
    Case(
        name="1xx and answer in one packet, to HEAD",
        source="RFC 9110 15.2",
        request=HEAD,
        backend=((Bytes(_hints().data + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),),),
        checks=(Requests(1), Comes(status=200, fields={b"content-length": [b"4"]})),
    ),
    Case(
        name="101 that nobody asked for",
        source="RFC 9110 7.8",
        backend=((Bytes(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n"), Bytes(b"foofoo")),),
        checks=(Requests(1), Broken(begun=False)),
    ),
    Case(
        name="no 1xx to a client of HTTP/1.0",
        source="RFC 9110 15.2",
        request=Request(version=b"1.0"),
        backend=((_hints(), Bytes(OK)),),
        checks=(Requests(1), Informed(()), Comes(status=200, body=b"fine")),
        protocols=("1.1",),
    ),
]
