"""The suite itself: proxies that do wrong are found, by the case that is about it; one that does nothing is not."""

from collections.abc import Callable

import pytest
import trio

from gateway.testing import sockets
from gateway.testing.network import MemoryNetwork
from gateway.testing.streams import MemoryStream

from .backend import Backend
from .case import Case, Verdict
from .cases import ALL
from .run import run_case

Change = Callable[[bytes], bytes]


def unchanged(data: bytes) -> bytes:
    return data


def replacing(old: bytes, new: bytes) -> Change:
    return lambda data: data.replace(old, new)


def case_named(name: str) -> Case:
    (case,) = [each for each in ALL if each.name == name]
    return case


async def pipe(source: MemoryStream, sink: MemoryStream, change: Change) -> None:
    try:
        while data := await source.receive_some():
            await sink.send_all(change(data))
        await sink.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        sockets.reset(sink)


async def run_on_pipes(
    case: Case, network: MemoryNetwork, *, up: Change = unchanged, down: Change = unchanged
) -> Verdict:
    """Play a case on a proxy that copies bytes, and changes them so."""

    async def connect() -> MemoryStream:
        client, far = await network.connect("proxy", 80), await front.accept()
        near = await network.connect("backend", 80)
        nursery.start_soon(pipe, far, near, up)
        nursery.start_soon(pipe, near, far, down)
        return client

    front, backend = network.listen("proxy", 80), Backend(network.listen("backend", 80))
    async with trio.open_nursery() as nursery:
        await nursery.start(backend.run)
        verdict = await run_case(case, connect, backend, "1.1")
        nursery.cancel_scope.cancel()
    return verdict


@pytest.mark.parametrize(
    ("name", "up", "down"),
    [
        ("target: two slashes in front", replacing(b"/w//", b"/w/"), unchanged),
        ("target: slash, encoded", replacing(b"%2F", b"/"), unchanged),
        ("target: empty query", replacing(b"/x?", b"/x"), unchanged),
        ("method get", replacing(b"get /", b"GET /"), unchanged),
        ("Host: in capitals", replacing(b"Wire.EXAMPLE", b"wire.example"), unchanged),
        ("request field: one name twice", replacing(b"X-A: 1\r\nX-A: 2", b"X-A: 1, 2"), unchanged),
        ("request field: Latin-1", replacing(b"\xe9", b"\xc3\xa9"), unchanged),
        ("nothing is invented that would change what is asked", replacing(b"X-A", b"Accept: */*\r\nX-A"), unchanged),
        ("request body of 1 MB", replacing(b"%015x\n" % 65_536, b"%015x\n" % 0), unchanged),
        ("request body of every byte", replacing(bytes(range(256)), bytes(256)), unchanged),
        ("trailers of a request", replacing(b"X-Twice: 1\r\n", b""), unchanged),
        ("answer's field: cookies, each by itself", unchanged, replacing(b"\r\nSet-Cookie: b", b", b")),
        ("Date of the backend is kept", unchanged, replacing(b"1994", b"1995")),
        ("gzip stays gzip", unchanged, replacing(b"Content-Encoding: gzip\r\n", b"")),
        ("answer body in chunks", unchanged, replacing(b"def", b"dfe")),
        ("304 without a body", unchanged, replacing(b"304", b"200")),
        ("103 three times", unchanged, replacing(b"HTTP/1.1 103 Soon", b"HTTP/1.1 102 Soon")),
        ("trailers of an answer", unchanged, replacing(b"X-Checksum: abc", b"X-Checksum: abd")),
        ("chunks, between two: cut short by the end", unchanged, replacing(b"he\r\n", b"he\r\n0\r\n\r\n")),
        ("event stream in chunks, each piece before the next is given", unchanged, replacing(b"2\r\n1\n\r\n", b"")),
        ("Expect: the backend says 401 instead, and the body stays where it is", unchanged, replacing(b"401", b"100")),
    ],
)
async def test_proxy_that_changes_something_is_found_by_the_case_about_it(
    name: str, up: Change, down: Change, network: MemoryNetwork, autojump_clock: trio.testing.MockClock
) -> None:
    case = case_named(name)
    verdict = await run_on_pipes(case, network)
    assert verdict.passed, str(verdict)
    network = MemoryNetwork()
    assert not (await run_on_pipes(case, network, up=up, down=down)).passed


@pytest.mark.parametrize(
    "name",
    [
        "stops, request: Connection that names a field",
        "stops, answer: Keep-Alive",
        "length, then chunks",
        "two lengths: differing",
        "space before the colon of a framing field",
        "bare CR and a field behind",
        "chunk size b'0x5'",
        "Host is missing",
        "Via where there was none",
        "X-Forwarded-For names the client",
        "Date is added where there is none",
        "client of HTTP/1.0: answer in chunks, which it cannot read",
        "length b'-5' of the backend",
        "backend closes without an answer",
        "bytes behind the answer: of a length",
    ],
)
async def test_proxy_that_only_copies_fails_where_a_proxy_has_work_to_do(
    name: str, network: MemoryNetwork, autojump_clock: trio.testing.MockClock
) -> None:
    assert not (await run_on_pipes(case_named(name), network)).passed


async def test_request_that_was_smuggled_is_seen(
    network: MemoryNetwork, autojump_clock: trio.testing.MockClock
) -> None:
    verdict = await run_on_pipes(case_named("length of a chunk-size line, the rest smuggled"), network)
    assert any("of what was to be refused" in fault for fault in verdict.faults)


async def test_next_client_that_gets_what_was_not_for_it_is_seen(
    network: MemoryNetwork, autojump_clock: trio.testing.MockClock
) -> None:
    verdict = await run_on_pipes(
        case_named("method GET"), network, down=replacing(b"0123456789abcdef", b"something else!!")
    )
    assert any("which was not for it" in fault for fault in verdict.faults)


def test_names_are_given_once() -> None:
    names = [(case.group, case.name) for case in ALL]
    assert len(set(names)) == len(names) >= 120
