"""Header fields: what crosses as it is, what stops at each connection, what a gateway adds."""

from .case import Case
from .checks import Arrives, Comes, Either, ForwardedFor, Refused, Requests, ViaAppended
from .messages import Answer, Fields, Request
from .steps import Bytes, Hear, Say

END_TO_END: dict[str, tuple[str, Fields]] = {
    "one name twice": ("RFC 9110 5.3", ((b"X-A", b"1"), (b"X-A", b"2"))),
    "one name twice, another between": ("RFC 9110 5.3", ((b"X-A", b"1"), (b"X-B", b"2"), (b"X-A", b"3"))),
    "one name twice, spelt in two ways": ("RFC 9110 5.1", ((b"X-A", b"1"), (b"x-a", b"2"))),
    "the same field three times": ("RFC 9110 5.3", ((b"X-A", b"1"),) * 3),
    "empty value": ("RFC 9110 5.5", ((b"X-A", b""),)),
    "empty value among others of its name": ("RFC 9110 5.5", ((b"X-A", b""), (b"X-A", b"1"), (b"X-A", b""))),
    "Latin-1": ("RFC 9110 5.5", ((b"X-A", b"caf\xe9"),)),
    "UTF-8": ("RFC 9110 5.5", ((b"X-A", "café ☕".encode()),)),
    "every byte over 0x7F": ("RFC 9110 5.5", ((b"X-A", bytes(range(0x80, 0x100))),)),
    "every visible ASCII character": ("RFC 9110 5.5", ((b"X-A", bytes(range(0x21, 0x7F))),)),
    "spaces and tabs inside": ("RFC 9110 5.5", ((b"X-A", b"a  b\tc \t d"),)),
    "quotes, commas, semicolons": ("RFC 9110 5.6.4", ((b"X-A", b'"a, \\"b", c; d="e;f"'), (b"X-A", b",, ,"))),
    "4,000 bytes": ("transparency", ((b"X-A", b"0123456789" * 400),)),
    "50 names": ("transparency", tuple((b"X-%d" % n, b"%d" % n) for n in range(50))),
    "name of every kind of character": ("RFC 9110 5.6.2", ((b"!#$%&'*+-.^`|~09azAZ", b"1"),)),
    "underscore in the name": ("RFC 9110 5.6.2", ((b"X_Under_Score", b"1"),)),
    "name of digits": ("RFC 9110 5.6.2", ((b"404", b"1"),)),
    "name of one letter, name of 100": ("RFC 9110 5.1", ((b"A", b"1"), (b"X" * 100, b"2"))),
    "tracing": (
        "transparency",
        (
            (b"Traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            (b"Tracestate", b"a=1,b=2"),
            (b"Baggage", b"k=v;p"),
        ),
    ),
    "content that is coded": (
        "RFC 9110 7.7",
        ((b"Content-Encoding", b"gzip"), (b"Content-Type", b"Text/HTML;Charset=UTF-8"), (b"Content-Language", b"de")),
    ),
    "caching": (
        "RFC 9111 5.2",
        ((b"Cache-Control", b'no-cache, private="x"'), (b"Pragma", b"no-cache"), (b"Warning", b'110 - "stale"')),
    ),
}

ASKED: dict[str, Fields] = {
    "conditions and ranges": (
        (b"If-None-Match", b'W/"a", "b"'),
        (b"If-Match", b"*"),
        (b"If-Modified-Since", b"Sat, 29 Oct 1994 19:43:31 GMT"),
        (b"Range", b"bytes=0-1,5-"),
        (b"If-Range", b'"a"'),
    ),
    "negotiation": (
        (b"Accept", b"text/html;q=0.5, */*"),
        (b"Accept-Encoding", b"br, gzip;q=0, identity"),
        (b"Accept-Language", b"de"),
        (b"Accept-Charset", b"utf-8"),
    ),
    "who asks": (
        (b"User-Agent", b"wire/1 (a; b)"),
        (b"Referer", b"http://a.example/b?c"),
        (b"Origin", b"null"),
        (b"From", b"a@b.example"),
    ),
    "credentials": ((b"Authorization", b"Basic dTpw"), (b"Cookie", b'a=b; c="d"; e')),
    "what only looks like hop-by-hop": (
        (b"Upgrade-Insecure-Requests", b"1"),
        (b"Trailers", b"x"),
        (b"X-Connection", b"close"),
        (b"Keep-Alive-X", b"1"),
        (b"Content-Length-X", b"5"),
    ),
    "Expect of another kind": ((b"X-Expect", b"100-continue"),),
}

GIVEN: dict[str, Fields] = {
    "cookies, each by itself": (
        (b"Set-Cookie", b"a=1; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
        (b"Set-Cookie", b"b=2"),
        (b"Set-Cookie", b"a=3; HttpOnly"),
    ),
    "challenges, each by itself": ((b"WWW-Authenticate", b'Basic realm="a"'), (b"WWW-Authenticate", b"Negotiate")),
    "where else it is": (
        (b"Location", b"http://backend:8001/x%2Fy?#f"),
        (b"Content-Location", b"../y"),
        (b"Link", b"<a>"),
    ),
    "validators": ((b"ETag", b'W/"x"'), (b"Last-Modified", b"Sat, 29 Oct 1994 19:43:31 GMT"), (b"Vary", b"*")),
    "age and expiry": ((b"Age", b"7"), (b"Expires", b"0")),
    "the backend's own request id and forwarding": ((b"X-Served-By", b"b1"), (b"Server-Timing", b"a;dur=1")),
    "security": ((b"Strict-Transport-Security", b"max-age=1"), (b"Content-Security-Policy", b"default-src 'self'; x")),
    "Alt-Svc": ((b"Alt-Svc", b'h3=":443"; ma=1'),),
}

HOP_BY_HOP: dict[str, tuple[Fields, dict[bytes, list[bytes]]]] = {
    "Keep-Alive": (((b"Keep-Alive", b"timeout=5"), (b"X-A", b"1")), {b"keep-alive": [], b"x-a": [b"1"]}),
    "Proxy-Connection": (((b"Proxy-Connection", b"keep-alive"),), {b"proxy-connection": []}),
    "Connection that names a field": (
        ((b"Connection", b"X-Hop"), (b"X-Hop", b"1"), (b"X-Kept", b"2")),
        {b"x-hop": [], b"x-kept": [b"2"]},
    ),
    "Connection that names a field of another spelling": (
        ((b"Connection", b"keep-alive, x-hOP"), (b"X-Hop", b"1"), (b"X-HOP", b"2")),
        {b"x-hop": []},
    ),
    "two Connection fields, with empty elements": (
        ((b"Connection", b", X-Hop,,"), (b"X-Hop", b"1"), (b"Connection", b"\tX-Hip ,"), (b"X-Hip", b"2")),
        {b"x-hop": [], b"x-hip": []},
    ),
    "Connection that names what stands before it": (
        ((b"X-Hop", b"1"), (b"Connection", b"X-Hop")),
        {b"x-hop": []},
    ),
    "Connection that names what is not there": (
        ((b"Connection", b"X-Nowhere"), (b"X-A", b"1")),
        {b"x-nowhere": [], b"x-a": [b"1"]},
    ),
    "Upgrade to what nobody knows": (
        ((b"Connection", b"Upgrade"), (b"Upgrade", b"foo/2")),
        {b"upgrade": []},
    ),
}


CASES: list[Case] = [
    *[
        Case(name=f"request field: {what}", source=source, request=Request(fields=fields))
        for what, (source, fields) in END_TO_END.items()
    ],
    *[
        Case(name=f"request field: {what}", source="RFC 9110 7.6.1", request=Request(fields=fields))
        for what, fields in ASKED.items()
    ],
    *[
        Case(name=f"answer's field: {what}", source=source, answer=Answer(fields=fields, body=b"fine"))
        for what, (source, fields) in END_TO_END.items()
    ],
    *[
        Case(name=f"answer's field: {what}", source="RFC 9110 7.6.1", answer=Answer(fields=fields, body=b"fine"))
        for what, fields in GIVEN.items()
    ],
    *[
        Case(
            name=f"stops, request: {what}",
            source="RFC 9110 7.6.1",
            request=Request(fields=fields),
            checks=(Requests(1), Arrives(fields=wanted), Comes()),
            protocols=("1.1",),
        )
        for what, (fields, wanted) in HOP_BY_HOP.items()
    ],
    *[
        Case(
            name=f"stops, answer: {what}",
            source="RFC 9110 7.6.1",
            answer=Answer(fields=fields, body=b"fine"),
            checks=(Requests(1), Arrives(), Comes(fields=wanted)),
        )
        for what, (fields, wanted) in HOP_BY_HOP.items()
    ],
    Case(
        name="stops, request: TE of other codings than trailers",
        source="RFC 9110 10.1.4",
        request=Request(fields=((b"Connection", b"TE"), (b"TE", b"gzip, deflate;q=0.5"))),
        checks=(Requests(1), Either([Arrives(fields={b"te": []})], [Arrives(fields={b"te": [b"trailers"]})]), Comes()),
        protocols=("1.1",),
    ),
    Case(
        name="Connection that names Host and Content-Length",
        source="RFC 9110 7.6.1",
        request=Request(method=b"POST", fields=((b"Connection", b"Host, Content-Length"),), body=b"hello"),
        checks=(Requests(1), Arrives(fields={b"host": [b"wire.example"]}), Comes()),
        protocols=("1.1",),
    ),
    Case(
        name="Connection that names Transfer-Encoding",
        source="RFC 9110 7.6.1",
        request=Request(method=b"POST", fields=((b"Connection", b"Transfer-Encoding"),), body=(b"hel", b"lo")),
        checks=(Requests(1), Arrives(), Comes()),
        protocols=("1.1",),
    ),
    Case(
        name="Connection that names Content-Length in an answer",
        source="RFC 9110 7.6.1",
        answer=Answer(fields=((b"Connection", b"Content-Length"),), body=b"hello"),
    ),
    Case(
        name="Connection: close of the client does not close the backend's answer",
        source="RFC 9112 9.6",
        request=Request(fields=((b"Connection", b"close"),)),
        protocols=("1.1",),
    ),
    Case(
        name="nothing is invented that would change what is asked",
        source="transparency",
        request=Request(fields=((b"X-A", b"1"),)),
        checks=(
            Requests(1),
            Arrives(
                fields={
                    name: []
                    for name in (
                        b"user-agent",
                        b"accept",
                        b"accept-encoding",
                        b"accept-language",
                        b"cache-control",
                        b"content-type",
                        b"content-length",
                        b"transfer-encoding",
                        b"expect",
                        b"cookie",
                        b"authorization",
                        b"origin",
                        b"referer",
                    )
                }
            ),
            Comes(),
        ),
    ),
    Case(
        name="nothing is invented that would change what is answered",
        source="transparency",
        checks=(
            Requests(1),
            Comes(
                fields={
                    name: []
                    for name in (
                        b"content-type",
                        b"cache-control",
                        b"content-encoding",
                        b"etag",
                        b"last-modified",
                        b"set-cookie",
                        b"vary",
                        b"accept-ranges",
                        b"expires",
                    )
                }
            ),
        ),
    ),
    Case(
        name="white space around values is no part of them",
        source="RFC 9110 5.5",
        client=(Bytes(b"GET /w/case HTTP/1.1\r\nHost: a\r\nX-A:1\r\nX-B: \t 2 \t\r\nX-C:\r\nX-D: \t \r\n\r\n"), Hear()),
        checks=(
            Requests(1),
            Arrives(fields={b"x-a": [b"1"], b"x-b": [b"2"], b"x-c": [b""], b"x-d": [b""]}),
            Comes(),
        ),
        protocols=("1.1",),
    ),
    Case(
        name="cookies in crumbs",
        source="RFC 9113 8.2.3",
        request=Request(fields=((b"cookie", b"a=1"), (b"x-a", b"1"), (b"cookie", b"b=2; c=3"), (b"cookie", b"d=4"))),
        checks=(Requests(1), Arrives(fields={b"cookie": [b"a=1; b=2; c=3; d=4"]}), Comes()),
        protocols=("2",),
    ),
    Case(
        name="te: trailers over HTTP/2",
        source="RFC 9113 8.2.2",
        request=Request(fields=((b"te", b"trailers"),)),
        protocols=("2",),
    ),
    Case(
        name="Via where there was none",
        source="RFC 9110 7.6.3",
        checks=(Requests(1), Arrives(), ViaAppended(), Comes()),
    ),
    Case(
        name="Via that grows",
        source="RFC 9110 7.6.3",
        request=Request(fields=((b"Via", b"1.0 fred, 1.1 p.example (x)"), (b"Via", b"2 q"))),
        checks=(Requests(1), Arrives(), ViaAppended((b"1.0 fred", b"1.1 p.example (x)", b"2 q")), Comes()),
    ),
    Case(
        name="Via of an answer is kept",
        source="RFC 9110 7.6.3",
        answer=Answer(fields=((b"Via", b"1.0 fred"),), body=b"fine"),
        checks=(Requests(1), ViaAppended((b"1.0 fred",), in_answer=True), Comes()),
    ),
    Case(
        name="X-Forwarded-For names the client",
        source="transparency",
        checks=(Requests(1), ForwardedFor(), Comes()),
    ),
    Case(
        name="X-Forwarded-For that the client made up cannot hide it",
        source="transparency",
        request=Request(fields=((b"X-Forwarded-For", b"203.0.113.9"), (b"X-Forwarded-For", b"198.51.100.7"))),
        checks=(Requests(1), ForwardedFor(), Comes()),
    ),
    Case(
        name="X-Forwarded-For that Connection names is there all the same",
        source="transparency",
        request=Request(fields=((b"Connection", b"X-Forwarded-For, X-Forwarded-Proto"),)),
        checks=(Requests(1), ForwardedFor(), Comes()),
        protocols=("1.1",),
    ),
    Case(
        name="Expect that nobody can meet",
        source="RFC 9110 10.1.1",
        request=Request(fields=((b"Expect", b"the-unexpected"),)),
        checks=(Either([Requests(1), Arrives(), Comes()], [Refused(statuses=(417, 400))]),),
    ),
    Case(
        name="two requests of one client have their own fields each",
        source="RFC 9112 9.3",
        client=(
            Say(Request(fields=((b"X-A", b"1"), (b"X-B", b"1")))),
            Hear(),
            Say(Request(fields=((b"X-A", b"2"),))),
            Hear(),
        ),
        checks=(
            Requests(2),
            Arrives(0),
            Comes(0),
            Arrives(1, fields={b"x-a": [b"2"], b"x-b": []}),
            Comes(1),
        ),
    ),
]
