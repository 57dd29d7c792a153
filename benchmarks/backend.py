"""A backend for machines without nginx: a fixed answer to whatever comes, over HTTP/1.1.

    python -m benchmarks.backend PORT

It costs two to three times what nginx does, on the core that the load generator needs too.
"""

import sys

import trio

BODY = b'{"order_id": "o-1", "status": "accepted"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


def length_of_body(head: bytes) -> int:
    """What Content-Length says; 0 without one. Chunked bodies are not understood."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def handle(stream: trio.abc.Stream) -> None:
    """Answer request after request."""
    received = b""
    while True:
        head, found, rest = received.partition(b"\r\n\r\n")
        length = length_of_body(head) if found else 0
        if found and len(rest) >= length:
            received = rest[length:]
            await stream.send_all(ANSWER)
            continue
        data = await stream.receive_some()
        if not data:
            return
        received += data


async def serve(stream: trio.SocketStream) -> None:
    """See ``handle``; a client that leaves is none of our business."""
    try:
        async with stream:
            await handle(stream)
    except trio.BrokenResourceError:
        return


if __name__ == "__main__":
    trio.run(trio.serve_tcp, serve, int(sys.argv[1]))
