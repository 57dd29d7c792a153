"""A framework's app, ordinary clients: what is said in the other tests holds for what people really use."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from quart import Response, request
from quart_trio import QuartTrio

from .conftest import Http1Client, Start


@pytest.fixture
def app() -> QuartTrio:
    quart = QuartTrio(__name__)

    @quart.get("/hello")
    async def hello() -> dict[str, str]:
        return {"hello": request.args["name"]}

    @quart.post("/echo")
    async def echo() -> bytes:
        body = await request.get_data()
        assert isinstance(body, bytes)
        return body

    @quart.get("/stream")
    async def stream() -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for n in range(3):
                yield b"%d," % n
                await trio.sleep(0.001)

        return Response(pieces())

    @quart.post("/refuse")
    async def refuse() -> tuple[str, int]:
        return "too large", 413

    return quart


@pytest.mark.parametrize("http2", [False, True])
async def test_quart_app_is_served_to_httpx(start: Start, app: QuartTrio, http2: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    server = await start(app)
    async with httpx.AsyncClient(base_url=server.binds[0], http1=not http2, http2=http2) as client:
        for _ in range(3):
            assert (await client.get("/hello", params={"name": "a b"})).json() == {"hello": "a b"}
            body = bytes(range(256)) * 2000
            assert (await client.post("/echo", content=body)).content == body
            assert (await client.get("/stream")).text == "0,1,2,"
            assert (await client.get("/nowhere")).status_code == 404
    await server.stop()


async def test_connection_is_used_again_after_each_answer_of_quart(start: Start, app: QuartTrio) -> None:
    client: Http1Client = await (await start(app)).http1()
    for _ in range(20):
        await client.send(b"GET /hello?name=x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer())[0] == 200


async def test_many_at_once_over_many_connections(start: Start, app: QuartTrio) -> None:
    server = await start(app)
    statuses: list[int] = []
    async with httpx.AsyncClient(base_url=server.binds[0]) as client, trio.open_nursery() as nursery:

        async def one() -> None:
            statuses.append((await client.get("/hello", params={"name": "x"})).status_code)

        for _ in range(100):
            nursery.start_soon(one)
    assert statuses == [200] * 100


async def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
async def test_curl_that_uploads_reads_the_early_413(start: Start, app: Any, version: str, tmp_path: Path) -> None:
    server = await start(app)
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(3_000_000))
    for _ in range(5):
        done = await run("curl", "-s", version, "-w", "%{http_code}", "--data-binary", f"@{upload}",
                         server.binds[0] + "/refuse")  # fmt: skip
        assert (done.stdout, done.returncode) == (b"too large413", 0)


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
async def test_load_generator_whose_time_is_up_leaves_the_server_alive(start: Start) -> None:
    async def large(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    server = await start(large)
    await run("h2load", "-c5", "-m10", "-D1", server.binds[0])
    assert await server.is_alive()
