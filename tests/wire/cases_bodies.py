"""Bodies, both ways."""

from .case import Case
from .messages import Answer, Blob, Request

CASES: list[Case] = [
    Case(name="body by length", source="RFC 9112 6.2", request=Request(method=b"POST", body=b"x" * 1000)),
    Case(name="body in chunks", source="RFC 9112 7.1", request=Request(method=b"POST", body=(b"a", b"bc", b"def"))),
    Case(name="answer in chunks", source="RFC 9112 7.1", answer=Answer(body=(b"a", b"bc", b"def"))),
    Case(name="answer of 1 MB", source="transparency", answer=Answer(body=Blob(1_000_000))),
    Case(
        name="1 MB up and down",
        source="transparency",
        request=Request(method=b"PUT", body=Blob(1_000_000)),
        answer=Answer(body=Blob(1_000_000, chunk=10_000)),
    ),
]
