"""Methods, targets, queries and hosts."""

from .case import Case
from .checks import Arrives, Comes, Either, Refused, Requests
from .messages import Answer, Request
from .steps import Bytes, Hear

AS_SENT = (Requests(1), Arrives(), Comes())
REFUSED = (Refused(),)

METHODS = [
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "PROPFIND",
    "M-SEARCH",
    "QUERY",
    "BREW",
    "get",
    "!#$%&'*+-.^_`|~",
    "X" * 30,
]

TARGETS = {
    "space, encoded": "/a%20b",
    "slash, encoded": "/a%2Fb",
    "hex digits in lower case": "/a%2fb%c3%a9",
    "letters encoded that need not be": "/%61%2D%7E",
    "percent, encoded": "/100%25",
    "question mark and hash, encoded": "/a%3Fb%23c",
    "UTF-8, encoded": "/caf%C3%A9",
    "bytes that are not UTF-8, encoded": "/%E9%FF",
    "two slashes in front": "//x",
    "two slashes inside": "/a//b",
    "slash at the end": "/a/",
    "two slashes at the end": "/a//",
    "parameters": "/a;v=1/b;w=2,3",
    "sub-delims": "/!$&'()*+,;=:@",
    "unreserved": "/-._~",
    "dots that are no dot segments": "/a./.b/..c/...",
    "colon in the first segment": "/http://x/y",
    "plus": "/a+b",
    "a name like a file's": "/index.html.gz",
    "empty query": "/x?",
    "query of a question mark": "/x??",
    "query with everything twice": "/x?a=1&a=2&b=&&=&c",
    "query with plus and spaces, encoded": "/x?q=a+b%20c%2Bd",
    "query with semicolons": "/x?a=1;b=2;c",
    "query with slashes, dots and a URL": "/x?u=http://h/../a//b/./c",
    "query in no known form": "/x?%3Cq%3E/[]:@!$'()*,",
    "query of 4 kB": "/x?" + "q=0123456789&" * 315,
    "path of 2 kB": "/" + "segment/" * 250,
}

EITHER_WAY = {
    # Not legal in a URI (RFC 3986 section 2), yet sent by many: to be passed on as they are, or refused; never mended.
    "bar, caret, backtick, braces, quotation mark": '/a|b^c`d{e}"f',
    "angle brackets": "/<a>",
    "backslash": "/a\\b",
    "percent without digits": "/100%",
    "percent with letters that are no digits": "/%zz",
    "NUL, encoded": "/a%00b",
    "CRLF, encoded": "/a%0d%0aX:1",
    "brackets": "/a[1]",
}


def _in_bytes(target: bytes, *more: bytes, method: bytes = b"GET", host: bytes = b"wire.example") -> Bytes:
    lines = [b"%s %s HTTP/1.1" % (method, target), b"Host: " + host, *more, b"", b""]
    return Bytes(b"\r\n".join(lines))


CASES: list[Case] = [
    *[
        Case(name=f"method {method}", source="RFC 9110 9.1", request=Request(method=method.encode()))
        for method in METHODS
    ],
    *[
        Case(
            name=f"method {method.decode()} with a body",
            source="RFC 9110 9.1",
            request=Request(method=method, body=b"x"),
        )
        for method in (b"GET", b"DELETE", b"OPTIONS", b"PROPFIND")
    ],
    Case(
        name="TRACE",
        source="RFC 9110 9.3.8",
        request=Request(method=b"TRACE"),
        # A server need not know it; it must not be made into something else.
        checks=(Either(AS_SENT, (Refused(statuses=(405, 501)),)),),
    ),
    Case(
        name="CONNECT",
        source="RFC 9110 9.3.6",
        client=(_in_bytes(b"wire.example:80", method=b"CONNECT"), Hear()),
        checks=(Refused(statuses=(400, 403, 404, 405, 501)),),
        protocols=("1.1",),
        ours=501,
    ),
    Case(
        name="OPTIONS with Max-Forwards",
        source="RFC 9110 7.6.2",
        request=Request(method=b"OPTIONS", fields=((b"Max-Forwards", b"5"),)),
        checks=(Requests(1), Arrives(fields={b"max-forwards": [b"4"]}), Comes()),
    ),
    Case(
        name="OPTIONS that must go no further",
        source="RFC 9110 7.6.2",
        request=Request(method=b"OPTIONS", fields=((b"Max-Forwards", b"0"),)),
        checks=(Refused(statuses=(200, 204), silently=False),),
    ),
    Case(
        name="TRACE that must go no further",
        source="RFC 9110 7.6.2",
        request=Request(method=b"TRACE", fields=((b"Max-Forwards", b"0"),)),
        checks=(Refused(statuses=(200, 405, 501)),),
        ours=501,
    ),
    Case(
        name="GET with Max-Forwards",
        source="RFC 9110 7.6.2",
        request=Request(fields=((b"Max-Forwards", b"5"),)),
        checks=(Requests(1), Arrives(fields={b"max-forwards": [b"5"]}), Comes()),
    ),
    *[
        Case(name=f"target: {what}", source="transparency", request=Request(target=b"/w" + target.encode()))
        for what, target in TARGETS.items()
    ],
    *[
        Case(
            name=f"target: {what}",
            source="RFC 9112 3.2",
            request=Request(target=b"/w" + target.encode()),
            checks=(Either(AS_SENT, REFUSED),),
        )
        for what, target in EITHER_WAY.items()
    ],
    Case(
        name="target: bytes over 0x7F",
        source="RFC 9112 3.2",
        request=Request(target=b"/w/caf\xc3\xa9"),
        checks=(Either(AS_SENT, REFUSED),),
        ours=400,
    ),
    Case(
        name="target: a fragment",
        source="RFC 9112 3.2",
        request=Request(target=b"/w/a#b"),
        checks=(Either(AS_SENT, REFUSED),),
        ours=400,
    ),
    *[
        Case(
            name=f"target: dot segments, {what}",
            source="RFC 3986 6.2.2.3",
            request=Request(target=b"/w" + target),
            checks=(Requests(1), Either([Arrives()], [Arrives(target=b"/w" + resolved)]), Comes()),
        )
        for what, target, resolved in [
            ("one", b"/a/./b", b"/a/b"),
            ("two", b"/a/../b", b"/b"),
            ("encoded", b"/a/%2e%2E/b", b"/b"),
        ]
    ],
    Case(
        name="target: dot segments that lead out of the prefix",
        source="RFC 3986 6.2.2.3",
        request=Request(target=b"/w/a/../../secret"),
        checks=(Either([Arrives()], [Either([Arrives(target=b"/secret")], [Refused(statuses=(400, 404))])]),),
        ours=400,
    ),
    Case(
        name="target in absolute-form",
        source="RFC 9112 3.2.2",
        client=(_in_bytes(b"http://other.example:8080/w//a%20b?x=1"), Hear()),
        checks=(Requests(1), Arrives(target=b"/w//a%20b?x=1", fields={b"host": [b"other.example:8080"]}), Comes()),
        protocols=("1.1",),
    ),
    Case(
        name="target in absolute-form, scheme in capitals",
        source="RFC 9110 4.2.3",
        client=(_in_bytes(b"HTTP://wire.example/w/a"), Hear()),
        checks=(Requests(1), Arrives(target=b"/w/a"), Comes()),
        protocols=("1.1",),
    ),
    Case(
        name="target in absolute-form with user information",
        source="RFC 9110 4.2.4",
        client=(_in_bytes(b"http://user@wire.example/w/a"), Hear()),
        checks=(Either([Requests(1), Arrives(target=b"/w/a"), Comes()], REFUSED),),
        protocols=("1.1",),
        ours=400,
    ),
    Case(
        name="OPTIONS *",
        source="RFC 9112 3.2.4",
        request=Request(method=b"OPTIONS", target=b"*"),
        # It asks about the server as a whole, so a gateway may answer for itself.
        checks=(Either(AS_SENT, [Refused(statuses=(200, 204, 400, 404, 405, 501), silently=False)]),),
    ),
    Case(
        name="asterisk of another method than OPTIONS",
        source="RFC 9112 3.2.4",
        request=Request(target=b"*"),
        checks=(Refused(statuses=(400, 404)),),
        protocols=("1.1",),
    ),
    Case(
        name="target that is neither path nor URL",
        source="RFC 9112 3.2",
        client=(_in_bytes(b"w/case"), Hear()),
        checks=(Refused(),),
        protocols=("1.1",),
        ours=400,
    ),
    *[
        Case(
            name=f"Host: {what}",
            source="transparency",
            request=Request(host=host),
            checks=(Requests(1), Arrives(fields={b"host": [host]}), Comes()),
        )
        for what, host in [
            ("with a port", b"wire.example:8443"),
            ("in capitals", b"Wire.EXAMPLE"),
            ("an address", b"192.0.2.7:81"),
            ("an IPv6 address", b"[2001:db8::7]:81"),
            ("with the port that goes without saying", b"wire.example:80"),
        ]
    ],
    Case(
        name="Host is missing",
        source="RFC 9112 3.2",
        client=(Bytes(b"GET /w/case HTTP/1.1\r\nX-A: 1\r\n\r\n"), Hear()),
        checks=(Refused(silently=False),),
        protocols=("1.1",),
        ours=400,
    ),
    *[
        Case(
            name=f"Host: {what}",
            source="RFC 9112 3.2",
            client=(Bytes(b"GET /w/case HTTP/1.1\r\n%s\r\n\r\n" % lines), Hear()),
            checks=(Refused(silently=False),),
            protocols=("1.1",),
            ours=400,
        )
        for what, lines in [
            ("twice", b"Host: a.example\r\nHost: b.example"),
            ("twice the same", b"Host: a.example\r\nHost: a.example"),
            ("with a space inside", b"Host: a.example b.example"),
            ("with a path", b"Host: a.example/w"),
            ("with user information", b"Host: user@a.example"),
            ("with a port that is no number", b"Host: a.example:8x"),
        ]
    ],
    Case(
        name="Host behind other fields, name in capitals, no space",
        source="RFC 9110 5.1",
        client=(Bytes(b"GET /w/case HTTP/1.1\r\nX-A: 1\r\nHOST:a.example\r\n\r\n"), Hear()),
        checks=(Requests(1), Arrives(fields={b"host": [b"a.example"], b"x-a": [b"1"]}), Comes()),
        protocols=("1.1",),
    ),
    Case(
        name="version 1.2, which counts as 1.1",
        source="RFC 9110 2.5",
        request=Request(version=b"1.2"),
        checks=(Either(AS_SENT, (Refused(statuses=(400, 505)),)),),
        protocols=("1.1",),
    ),
    *[
        Case(
            name=f"version {version.decode()}",
            source="RFC 9110 15.6.6",
            request=Request(version=version),
            checks=(Refused(statuses=(400, 505)),),
            protocols=("1.1",),
        )
        for version in (b"2.0", b"3.0", b"0.9", b"1.10", b"1", b"x")
    ],
    Case(
        name="empty line before the request line",
        source="RFC 9112 2.2",
        client=(Bytes(b"\r\nGET /w/case HTTP/1.1\r\nHost: a\r\n\r\n"), Hear()),
        checks=(Requests(1), Arrives(method=b"GET", target=b"/w/case"), Comes()),
        protocols=("1.1",),
    ),
    *[
        Case(
            name=f"request line: {what}",
            source="RFC 9112 3",
            client=(Bytes(line + b"\r\nHost: a\r\n\r\n"), Hear()),
            # The RFC lets a recipient be lenient about white space, so long as it sees the same three parts.
            checks=(Either([Refused()], [Arrives(method=b"GET", target=b"/w/case")]),),
            protocols=("1.1",),
            ours=400,
        )
        for what, line in [
            ("two spaces", b"GET  /w/case HTTP/1.1"),
            ("tabs", b"GET\t/w/case\tHTTP/1.1"),
            ("space at the end", b"GET /w/case HTTP/1.1 "),
            ("space in front", b" GET /w/case HTTP/1.1"),
            ("version in lower case", b"GET /w/case http/1.1"),
        ]
    ],
    *[
        Case(
            name=f"request line: {what}",
            source="RFC 9112 3",
            client=(Bytes(line + b"\r\nHost: a\r\n\r\n"), Hear()),
            checks=(Refused(statuses=(400, 404, 414, 505)),),
            protocols=("1.1",),
            ours=400,
        )
        for what, line in [
            ("no version", b"GET /w/case"),
            ("a space in the target", b"GET /w/case /w/other HTTP/1.1"),
            ("no target", b"GET HTTP/1.1"),
            ("a method that is no token", b"G(T /w/case HTTP/1.1"),
            ("bytes of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ]
    ],
    Case(
        name="head of one byte at a time",
        source="RFC 9112 2.1",
        client=(*[Bytes(bytes([byte])) for byte in b"GET /w/case HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n"], Hear()),
        answer=Answer(body=b"fine"),
        checks=(Requests(1), Arrives(target=b"/w/case", fields={b"x-a": [b"1"]}), Comes()),
        protocols=("1.1",),
    ),
]
