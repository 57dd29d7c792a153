"""docs/migrating.md: its forty lines and the gateway are put to the same bytes, and its tables tell what was seen.

FastAPI is in the dependency group ``bench`` alone, which ``nox -s documents`` installs. Where it is not there, only the
gateway's column is checked.
Both are served by our server, in memory and in virtual time, since what is shown is the doing of FastAPI and httpx; but
for the client that leaves, which uvicorn might have told of: that is shown on uvicorn too.
"""

import gzip
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from hypercorn.config import Config

from gateway.server import Limits, serve
from gateway.server.failures import plain_errors
from gateway.testing import (
    Backend,
    Connection,
    MemoryNetwork,
    Response,
    Script,
    SocketNetwork,
    hang,
    http_transport,
    raw_client,
    respond,
    response,
    running_gateway,
)
from gateway.testing.peer import PeerGoneError
from gateway.testing.processes import PATIENCE, free_port

from .pages import blocks, tables
from .shell import play, shell

DOCUMENT = "docs/migrating.md"
FORTY, GATEWAY = "forty lines", "gateway"
COLUMN = {FORTY: 1, GATEWAY: 2}
EVENTS = 6

needs_fastapi = pytest.mark.skipif(find_spec("fastapi") is None, reason="FastAPI is not there: nox -s documents")
each = pytest.mark.parametrize("who", [pytest.param(FORTY, marks=needs_fastapi), GATEWAY])


@asynccontextmanager
async def forty_lines(network: MemoryNetwork, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The document's app at gateway:80."""
    monkeypatch.setenv("SERVICE1_URL", "http://service1:8001")
    monkeypatch.setenv("SERVICE2_URL", "http://service2:8002")
    (block,) = blocks(DOCUMENT, "The forty lines")
    module: dict[str, Any] = {"__name__": "forty_lines"}
    exec(compile(block.text, DOCUMENT, "exec"), module)  # noqa: S102 - the document's own code
    # The same client, in memory: httpx's transport with as many connections as by default.
    transport = http_transport(network, max_connections=100)
    module["client"] = httpx.AsyncClient(timeout=module["client"].timeout, transport=transport)
    stop = trio.Event()
    config = Config()
    config.errorlog = None
    with plain_errors():
        async with trio.open_nursery() as nursery:
            listeners = [network.listen("gateway", 80)]

            async def run(*, task_status: trio.TaskStatus[list[str]]) -> None:
                await serve(
                    module["app"],
                    config,
                    limits=Limits(drain_timeout=1),
                    listeners=listeners,
                    shutdown=stop.wait,
                    task_status=task_status,
                )

            await nursery.start(run)
            yield
            stop.set()
    await module["client"].aclose()


@asynccontextmanager
async def played_by(who: str, network: MemoryNetwork, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    if who == FORTY:
        async with forty_lines(network, monkeypatch):
            yield
    else:
        async with running_gateway(network):
            yield


def head(target: str, *fields: str, method: str = "GET") -> bytes:
    lines = (f"{method} {target} HTTP/1.1", "Host: shop.example", *fields)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


async def ask(network: MemoryNetwork, target: str, *fields: str, method: str = "GET") -> Response:
    async with await raw_client(network) as client:
        await client.send(head(target, *fields, method=method))
        return await client.read_response(method=method.encode())


def service(network: MemoryNetwork | SocketNetwork, script: Script) -> Backend:
    return Backend(network, "service1", 8001, script)


def code(*values: bytes) -> str:
    return " and ".join(f"`{value.decode()}`" for value in values)


def after(seconds: float) -> str:
    return f"after {seconds:.0f} s" if seconds > 0.5 else "at once"


# ---- the demonstrations: what each shows is its row's first cell, what it returns is another


async def cookie(network: MemoryNetwork) -> str:
    """A service gives one client the cookie `session=hers`. The next client has none; of it the service gets"""
    given = respond(headers=[(b"set-cookie", b"session=hers; Path=/")])
    async with service(network, given) as backend:
        await ask(network, "/api/service1/login")
        await ask(network, "/api/service1/account")
    return code(*backend.requests[1].all(b"cookie")) or "nothing"


async def cookies(network: MemoryNetwork) -> str:
    """A service sets two cookies, in two fields. The client gets"""
    async with service(network, respond(headers=[(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])):
        answer = await ask(network, "/api/service1/x")
    return code(*answer.all(b"set-cookie"))


async def duplicates(network: MemoryNetwork) -> str:
    """The client sends `X-Tag: 1` and `X-Tag: 2`. The service gets"""
    async with service(network, respond()) as backend:
        await ask(network, "/api/service1/x", "X-Tag: 1", "X-Tag: 2")
    return code(*backend.requests[0].all(b"x-tag"))


async def target_of(network: MemoryNetwork, target: str) -> str:
    async with service(network, respond()) as backend:
        answer = await ask(network, target)
    return code(*(request.target for request in backend.requests)) or f"nothing, and the client a {answer.status}"


async def query(network: MemoryNetwork) -> str:
    """Asked for `/api/service1/x?q=1&q=2&flag`, the service gets"""
    return await target_of(network, "/api/service1/x?q=1&q=2&flag")


async def slash(network: MemoryNetwork) -> str:
    """Asked for `/api/service1/a%2Fb`, it gets"""
    return await target_of(network, "/api/service1/a%2Fb")


async def dots(network: MemoryNetwork) -> str:
    """Asked for `/api/service1/%2e%2e/internal`, it gets"""
    return await target_of(network, "/api/service1/%2e%2e/internal")


async def line_feed(network: MemoryNetwork) -> str:
    """Asked for `/api/service1/a%0Ab`, it gets"""
    return await target_of(network, "/api/service1/a%0Ab")


async def no_slash(network: MemoryNetwork) -> str:
    """Asked for `/api/service1`, it gets"""
    return await target_of(network, "/api/service1")


async def method(network: MemoryNetwork) -> str:
    """The client uses a method that nobody thought of, `PROPFIND`, which the service knows. It gets"""
    async with service(network, respond(207)):
        return str((await ask(network, "/api/service1/x", method="PROPFIND")).status)


async def length_of_head(network: MemoryNetwork) -> str:
    """HEAD for a file of 1,234 bytes tells the length"""

    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n")
        await conn.wait_closed()

    async with service(network, script):
        answer = await ask(network, "/api/service1/x", method="HEAD")
    return " and ".join(value.decode() for value in answer.all(b"content-length"))


async def packed(network: MemoryNetwork) -> str:
    """A body that the service has packed with gzip comes"""
    body = gzip.compress(b"hello")
    async with service(network, respond(headers=[(b"content-encoding", b"gzip"), (b"etag", b'"1"')], body=body)):
        answer = await ask(network, "/api/service1/x", "Accept-Encoding: gzip")
    return "as sent" if (answer.body, answer.get(b"content-encoding")) == (body, b"gzip") else "unpacked"


async def invented(network: MemoryNetwork) -> str:
    """The client sends no field but `Host`. Of `Accept`, `Accept-Encoding` and `User-Agent` the service gets"""
    async with service(network, respond()) as backend:
        await ask(network, "/api/service1/x")
    (request,) = backend.requests
    found = [name for name in (b"accept", b"accept-encoding", b"user-agent") if request.all(name)]
    return "all three, made up" if len(found) == 3 else "none" if not found else code(*found)


async def forwarded(network: MemoryNetwork) -> str:
    """A client at 127.0.0.1 pretends `X-Forwarded-For: 10.0.0.1`. The service gets"""
    async with service(network, respond()) as backend:
        await ask(network, "/api/service1/x", "X-Forwarded-For: 10.0.0.1")
    return code(*backend.requests[0].all(b"x-forwarded-for"))


async def host(network: MemoryNetwork) -> str:
    """The client asks `shop.example`. As `Host` the service gets"""
    async with service(network, respond()) as backend:
        await ask(network, "/api/service1/x")
    return code(*backend.requests[0].all(b"host"))


async def hop(network: MemoryNetwork) -> str:
    """The client says `Connection: X-Hop`: this field is for the next hop alone. The service"""
    async with service(network, respond()) as backend:
        await ask(network, "/api/service1/x", "Connection: X-Hop", "X-Hop: 1")
    return "gets it" if backend.requests[0].all(b"x-hop") else "does not get it"


async def stream(network: MemoryNetwork) -> str:
    """A service sends an event each 10 s, six in all. The client gets the first one"""

    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(EVENTS):
            await conn.send(b"7\r\ndata: x\r\n")
            await conn.sleep(10)
        await conn.send(b"0\r\n\r\n")

    async with service(network, script), await raw_client(network) as client:
        await client.send(head("/api/service1/events"))
        await client.read_until(b"data")
        return after(trio.current_time())


async def upload(network: MemoryNetwork) -> str:
    """A client uploads for 20 s. The service gets the first byte"""
    seen: list[float] = []

    async def script(conn: Connection) -> None:
        await conn.read_head()
        await conn.read_exactly(1)
        seen.append(trio.current_time())
        await conn.read_exactly(19)
        await conn.send(response())

    async with service(network, script), await raw_client(network) as client:
        await client.send(head("/api/service1/x", "Content-Length: 20", method="PUT"))
        for _ in range(20):
            await client.send(b"x")
            await trio.sleep(1)
        await client.read_response()
    return after(seen[0])


async def terabyte(network: MemoryNetwork) -> str:
    """A client announces a body of a terabyte, and waits to be told to go on. It is told"""
    async with service(network, hang()), await raw_client(network) as client:
        await client.send(
            head("/api/service1/x", "Content-Length: 1000000000000", "Expect: 100-continue", method="PUT")
        )
        return str((await client.read_response()).status)


async def drip(network: MemoryNetwork) -> str:
    """A service sends the head of its answer byte by byte, one each 20 s. After 5 minutes the client has"""

    async def script(conn: Connection) -> None:
        await conn.read_request()
        for byte in response(headers=[(b"x-long", b"x" * 100)]):
            await conn.send(bytes([byte]))
            await conn.sleep(20)

    async with service(network, script), await raw_client(network) as client:
        await client.send(head("/api/service1/x"))
        with trio.move_on_after(300):
            status = (await client.read_response()).status
            return f"a {status}, {after(trio.current_time())}"
        return "nothing"


async def left(network: MemoryNetwork) -> str:
    """A client leaves 1 s after it has asked. The service, at work on the answer, sees it"""
    async with service(network, hang()) as backend:
        async with await raw_client(network) as client:
            await client.send(head("/api/service1/x"))
            await trio.sleep(1)
        connection = await backend.connection()
        return after(await connection.wait_closed() - 1)


async def neighbour(network: MemoryNetwork) -> str:
    """100 requests hang at service1. A second later service2, which is well, is asked, and answers"""
    async with (
        service(network, hang()),
        Backend(network, "service2", 8002, respond()),
        trio.open_nursery() as nursery,
    ):

        async def hanging() -> None:
            await ask(network, "/api/service1/x")

        for _ in range(100):
            nursery.start_soon(hanging)
        await trio.sleep(1)
        answer = await ask(network, "/api/service2/x")
        told = after(trio.current_time() - 1)
        nursery.cancel_scope.cancel()
        assert answer.status == 200
        return told


async def stale(network: MemoryNetwork) -> str:
    """A service closes a kept connection just as the next GET is sent on it. The client gets"""

    async def closes(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(response())
        await conn.read_head()

    async def answers(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(response())

    async with Backend(network, "service1", 8001, [closes, answers]):
        await ask(network, "/api/service1/x")
        return str((await ask(network, "/api/service1/x")).status)


async def broken_off(network: MemoryNetwork) -> str:
    """A service breaks off in the middle of an answer. The client gets"""

    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")

    async with service(network, script):
        async with await raw_client(network) as client:
            await client.send(head("/api/service1/x"))
            status = (await client.read_head_of_response()).status
            try:
                await client.read_exactly(10)
            except PeerGoneError:
                return f"a {status} that is cut"
        return f"a {status}"


async def own_words(network: MemoryNetwork) -> str:
    """A service is down. The body of the answer has"""
    answer = await ask(network, "/api/service1/x")
    assert answer.status == 503
    return "`detail`" if b'"detail"' in answer.body else "`error`, `message` and [more](../README.md#two-commands)"


Demonstration = Callable[[MemoryNetwork], Awaitable[str]]
FAULTS: tuple[Demonstration, ...] = (
    cookie,
    dots,
    neighbour,
    left,
    drip,
    stale,
    stream,
    upload,
    terabyte,
    cookies,
    duplicates,
    query,
    slash,
    line_feed,
    no_slash,
    method,
    length_of_head,
    packed,
    invented,
    forwarded,
    host,
    hop,
)
CHANGES: tuple[Demonstration, ...] = (broken_off, own_words)


def rows(heading: str) -> dict[str, list[str]]:
    (table,) = tables(DOCUMENT, heading)
    return {row[0]: row for row in table}


def test_tables_have_a_row_for_each_demonstration_and_no_other() -> None:
    assert list(rows("The usual faults")) == [it.__doc__ for it in FAULTS]
    assert list(rows("What your clients will notice")) == [it.__doc__ for it in CHANGES]


@each
@pytest.mark.parametrize("it", [*FAULTS, *CHANGES], ids=lambda it: it.__name__)
async def test_cell_tells_what_is_seen(
    it: Demonstration, who: str, network: MemoryNetwork, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    row = (rows("The usual faults") | rows("What your clients will notice"))[it.__doc__ or ""]
    with trio.fail_after(1000):
        async with played_by(who, network, monkeypatch):
            assert await it(network) == row[COLUMN[who]]


@needs_fastapi
@pytest.mark.skipif(find_spec("uvicorn") is None, reason="uvicorn is not there: nox -s documents")
async def test_client_that_leaves_is_nothing_to_the_forty_lines_on_uvicorn_either(tmp_path: Path) -> None:
    (block,) = blocks(DOCUMENT, "The forty lines")
    (tmp_path / "forty_lines.py").write_text(block.text.replace("timeout=30", "timeout=1.5"))
    network, port = SocketNetwork(), free_port()
    came, closed = trio.Event(), trio.Event()

    async def script(conn: Connection) -> None:
        await conn.read_head()
        came.set()
        await conn.wait_closed()
        closed.set()

    async with service(network, script):
        url = "http://{}:{}".format(*network.real_address("service1", 8001))
        environ = {**os.environ, "SERVICE1_URL": url, "SERVICE2_URL": url, "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-m", "uvicorn", "forty_lines:app", "--port", str(port), "--log-level", "critical"]
        uvicorn = await trio.lowlevel.open_process(command, cwd=tmp_path, env=environ)
        try:
            with trio.fail_after(PATIENCE):
                await answers(f"http://127.0.0.1:{port}/health")
                async with await raw_client(network, "127.0.0.1", port) as client:
                    await client.send(head("/api/service1/x"))
                    await came.wait()
                gone = trio.current_time()
                await closed.wait()
                assert trio.current_time() - gone > 1
        finally:
            uvicorn.kill()
            with trio.CancelScope(shield=True):
                await uvicorn.wait()
    network.close()


def test_commands_move_one_service_after_the_other(tmp_path: Path) -> None:
    with shell(tmp_path) as it:
        play(it, blocks(DOCUMENT, "What replaces them"))
        play(it, blocks(DOCUMENT, "Move over, one service at a time"))
        told = it.type("uv run gateway explain POST '/login?next=/'")
    assert "backend   http://old-gateway:8000\nrequest   POST /login?next=/ HTTP/1.1\n" in told


async def answers(url: str) -> None:
    """Wait until somebody answers there."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                (await client.get(url)).raise_for_status()
            except httpx.ConnectError:
                await trio.sleep(0.05)
            else:
                return


def main() -> None:
    """Print the rows as they are seen now."""
    for it in (*FAULTS, *CHANGES):
        cells = []
        for who in COLUMN:

            async def play(who: str = who, it: Demonstration = it) -> str:
                network = MemoryNetwork()
                with pytest.MonkeyPatch.context() as monkeypatch:
                    async with played_by(who, network, monkeypatch):
                        return await it(network)

            cells.append(trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0)))
        print(f"| {it.__doc__} | {' | '.join(cells)} |")  # noqa: T201 - for whoever writes the table


if __name__ == "__main__":
    main()
