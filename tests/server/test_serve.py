from typing import Any

from .conftest import GET, Start


async def ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_x(start: Start) -> None:
    server = await start(ok)
    client = await server.http1()
    await client.send(GET)
    assert (await client.answer())[2] == b"ok"
    h2 = await server.http2()
    assert (await h2.get()).body == b"ok"
