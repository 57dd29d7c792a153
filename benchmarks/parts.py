"""The parts that a profile is told in, and why each stays: a table.

A function belongs to the first part that it matches, by its file or by its file and its name. What never lives here:
how long anything takes.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the work."""

    title: str
    places: tuple[str, ...]
    """How the file begins, or ``file:function``, begins."""
    reason: str


PARTS = (
    Part(
        "system call: the answer to the client",
        ("gateway/server/connection.py:Connection.write",),
        "one `send` per answer, head and body in one; the kernel's TCP is nearly all of it",
    ),
    Part(
        "system calls: the backend",
        (
            "gateway/transport/streams.py:PlainStream.send_all",
            "gateway/transport/streams.py:PlainStream.receive_some",
            "gateway/transport/streams.py:PlainStream.is_readable",
        ),
        "one `send`, one `recv`, and a look whether an idle connection is still sound before it is used again",
    ),
    Part(
        "system call: the request from the client",
        ("gateway/server/connection.py:Connection._receive",),
        "one `recv`, which is also how a client that leaves is noticed",
    ),
    Part(
        "system calls: epoll",
        ("trio/_core/_io_epoll.py", "trio/_core/_generated_io_epoll.py"),
        "to wait for a socket; trio registers for one event at a time, so each wait costs an `epoll_ctl`",
    ),
    Part(
        "trio: tasks, scopes, deadlines",
        ("trio/", "outcome/", "<attrs generated methods trio", "<attrs generated methods outcome", "contextlib.py"),
        "one task and one scope per request: what makes leaving, clocks and drain end all of it at once",
    ),
    Part(
        "server: heads read and written",
        ("gateway/server/heads.py", "gateway/server/responses.py"),
        "strict parsing of what a stranger sends, and one `Date`: nothing ambiguous reaches a backend",
    ),
    Part("server: HTTP/1.1", ("gateway/server/http1.py",), "requests in order, pipelining, the end of each body"),
    Part(
        "server: HTTP/2",
        ("gateway/server/http2.py", "gateway/server/h2_", "h2/", "hpack/", "hyperframe/"),
        "frames, header compression, two windows for each stream",
    ),
    Part(
        "server: connection, stream, ASGI",
        ("gateway/server/", "hypercorn/", "quart/"),
        "what an ASGI app is told, and backpressure towards both",
    ),
    Part(
        "transport: HTTP/1.1 of the backend",
        ("gateway/http1.py",),
        "the request's bytes, and a parser that takes no answer for what it is not",
    ),
    Part(
        "transport: connection and pool",
        ("gateway/transport/",),
        "a connection is kept only when both sides are at a clean end",
    ),
    Part("forward: the exchange", ("gateway/forward/",), "the steps themselves, and who is to blame where one fails"),
    Part("headers", ("gateway/headers.py",), "what may cross, each way: hop-by-hop out, the forwarding fields in"),
    Part("clocks", ("gateway/clocks.py",), "the deadline moves with whom the exchange waits for"),
    Part(
        "the log line and the record",
        ("gateway/observe.py", "gateway/metrics.py", "gateway/state.py", "json/", "gateway/api.py:Entry._log"),
        "one line for each request, with its timings; the writing is another thread's",
    ),
    Part("routing", ("gateway/routing.py",), "the prefix, and paths that would leave it refused"),
    Part(
        "entry",
        ("gateway/api.py", "gateway/answers.py", "gateway/app.py"),
        "the request ID, and errors made into answers",
    ),
    Part("the rest of the gateway", ("gateway/",), "small things"),
    Part("everything else", ("",), "the standard library, click, the interpreter"),
)


def part_of(file: str, function: str) -> str:
    """The title of the part that a function belongs to."""
    place = f"{file}:{function}"
    return next(part.title for part in PARTS if place.startswith(part.places))
