"""Methods, targets and statuses."""

from .case import Case
from .checks import Refused
from .messages import Answer, Request
from .steps import Bytes, Hear

METHODS = (b"GET", b"POST", b"PURGE", b"get")

CASES: list[Case] = [
    *[
        Case(name=f"method {method.decode()}", source="RFC 9110 9.1", request=Request(method=method))
        for method in METHODS
    ],
    Case(
        name="HEAD with a length",
        source="RFC 9110 9.3.2",
        request=Request(method=b"HEAD"),
        answer=Answer(body=b"12345"),
    ),
    *[
        Case(name=f"target {target.decode()}", source="transparency", request=Request(target=b"/w" + target))
        for target in (b"/a%20b", b"//x", b"/a%2Fb", b"/x?", b"/x?a=1&a=2&&=", b"/x;v=1/y")
    ],
    Case(
        name="Content-Length beside Transfer-Encoding",
        source="RFC 9112 6.3",
        client=(
            Bytes(
                b"POST /w/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                b"GET /w/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
            ),
            Hear(),
        ),
        checks=(Refused(),),
        protocols=("1.1",),
        ours=400,
    ),
]
