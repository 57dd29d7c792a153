"""The app that stock Hypercorn serves in these tests: the path says what it does, ``/seen`` tells what it saw."""

import json
from typing import Any

import trio

SEEN: dict[str, Any] = {"calls": 0, "disconnects": 0, "early": 0, "large": 0, "sent": 0, "close codes": []}
MEGABYTE = bytes(2**20)


async def app(scope: Any, receive: Any, send: Any) -> None:
    match scope["type"]:
        case "http":
            SEEN["calls"] += scope["path"] != "/seen"
            await http(scope, receive, send)
        case "websocket":
            await websocket(scope, receive, send)
        case _:
            raise RuntimeError("no lifespan here")


async def answer(send: Any, body: bytes = b"ok", status: int = 200, *fields: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [*fields]})
    await send({"type": "http.response.body", "body": body})


async def http(scope: Any, receive: Any, send: Any) -> None:  # noqa: C901, PLR0912 -- a table
    match scope["path"]:
        case "/seen":
            await answer(send, json.dumps(SEEN).encode())
        case "/method":
            await answer(send, scope["method"].encode())
        case "/early" | "/late":
            await trio.sleep(0.1 if scope["path"] == "/late" else 0)
            await answer(send, b"too large", 413)
            SEEN["early"] += 1
        case "/101":
            await answer(send, b"", 101)
        case "/crlf":
            await answer(send, b"ok", 200, (b"x", b"a\r\nset-cookie: b"))
        case "/short":
            await answer(send, b"ok", 200, (b"content-length", b"10"))
        case "/slow":
            await trio.sleep(0.4)
            await answer(send)
        case "/upload":
            while (await receive()).get("more_body"):
                pass
            await answer(send)
        case "/for-ever":
            await trio.sleep_forever()
        case "/disconnect":
            while (await receive())["type"] != "http.disconnect":
                pass
            SEEN["disconnects"] += 1
        case "/broken":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise ValueError("half-way")
        case "/large":  # with a deadline of the app's own
            with trio.move_on_after(0.2):
                await large(send, 64)
            SEEN["large"] += 1
        case "/32-megabytes":
            await large(send, 32)
        case "/many-chunks":
            await large(send, 5_000, b"x" * 10_000)
        case _:
            await answer(send)


async def large(send: Any, chunks: int, chunk: bytes = MEGABYTE) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(chunks):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        SEEN["sent"] += len(chunk)


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/close":
        await send({"type": "websocket.close"})
    while (message := await receive())["type"] != "websocket.disconnect":
        pass
    SEEN["close codes"].append(message["code"])
