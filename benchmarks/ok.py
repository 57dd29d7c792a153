"""The least that an ASGI app can do, to tell the cost of a server from that of what it serves.

python -m benchmarks.ok PORT    serve it by ``gateway.server``, configured as ``gateway serve`` does
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import trio

from gateway import server
from gateway.config import Service, Settings
from gateway.serving import server_config, server_limits

Message = MutableMapping[str, Any]

BODY = b"ok"
HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
}


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer "ok" to everything, once its body has been read."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    while (await receive()).get("more_body", False):
        pass
    await send({**HEAD})
    await send({"type": "http.response.body", "body": BODY, "more_body": False})


async def lifespan(receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    """There is nothing to start and nothing to stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def main() -> None:
    """Serve until killed."""
    settings = Settings(
        host="127.0.0.1", port=int(sys.argv[1]), services=(Service(name="none", host="localhost", port=1),)
    )

    async def serve() -> None:
        config, limits = server_config(settings), server_limits(settings)
        await server.serve(app, config, limits=limits)  # type: ignore[arg-type] # Hypercorn wants a TypedDict per message

    trio.run(serve)


if __name__ == "__main__":
    main()
