"""Mutated HTTP/1.1 and HTTP/2, seeded: nothing of it ends a connection by an error of ours, and nothing is left over.

``FUZZ_CASES`` and ``FUZZ_SEED`` in the environment make it run longer, or again. What it has found is kept below.
"""

import logging
import os
import random
from collections import Counter
from typing import Any

import pytest
import trio
from hpack.hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from gateway.server import Limits
from gateway.testing.network import MemoryNetwork

from .conftest import Start, quiet_config

CASES = int(os.environ.get("FUZZ_CASES", "600"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATHS = [b"/", b"/read", b"/large", b"/sleep", b"/break"]


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] != "lifespan"
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "bytes": message["bytes"], "text": message["text"]})
        return
    if scope["path"] == "/read":
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
    if scope["path"] == "/sleep":
        await trio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/large":
        for _ in range(20):
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
    if scope["path"] == "/break":
        return
    await send({"type": "http.response.body", "body": b"ok"})


def http1(dice: random.Random) -> bytes:
    requests = []
    for _ in range(dice.randint(1, 4)):
        fields = [b"Host: a"]
        body = b""
        kind = dice.random()
        if kind < 0.3:
            body = b"x" * dice.randint(0, 3000)
            fields.append(b"Content-Length: %d" % len(body))
        elif kind < 0.5:
            fields.append(b"Transfer-Encoding: chunked")
            sizes = [dice.randint(1, 500) for _ in range(3)]
            body = b"".join(b"%x\r\n%s\r\n" % (size, b"y" * size) for size in sizes) + b"0\r\n\r\n"
        elif kind < 0.6:
            fields += [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"]
            fields += [b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
            body = dice.randbytes(40)
        if dice.random() < 0.3:
            fields.append(dice.choice([b"Expect: 100-continue", b"Connection: close", b"Upgrade: h2c"]))
        line = b"%s %s HTTP/%s" % (
            dice.choice([b"GET", b"GET", b"POST", b"HEAD", b"get"]),
            dice.choice([*PATHS, b"*", b"http://a/"]),
            dice.choice([b"1.1"] * 6 + [b"1.0", b"2.0"]),
        )
        requests.append(b"\r\n".join([line, *fields, b"", body]))
    return b"".join(requests)


def head(dice: random.Random, encoder: Encoder, stream: int) -> HeadersFrame:
    fields = [
        (b":method", dice.choice([b"GET", b"POST", b"CONNECT", b"G\xc3"])),
        (b":scheme", b"http"),
        (b":path", dice.choice([*PATHS, b"", b"/\xff"])),
        (b":authority", b"a"),
    ]
    if dice.random() < 0.1:
        fields[0] = (b":method", b"CONNECT")
        fields += [(b":protocol", b"websocket"), (b"sec-websocket-version", b"13")]
    if dice.random() < 0.3:
        names = [b"content-length", b"connection", b":status", b"Te", b"expect", b"host"]
        fields.append((dice.choice(names), dice.choice([b"5", b"x", b"100-continue", b"a"])))
    if dice.random() < 0.1:
        dice.shuffle(fields)
    flags = ["END_HEADERS", "END_STREAM"] if dice.random() < 0.5 else ["END_HEADERS"]
    return HeadersFrame(stream, encoder.encode(fields), flags=flags)


def http2(dice: random.Random) -> bytes:
    encoder = Encoder()
    settings = dice.choice([{}, {4: 0}, {4: 70_000}, {3: 1}, {1: 0}])
    frames: list[bytes] = [SettingsFrame(0, settings=settings).serialize()]
    newest = 1
    for _ in range(dice.randint(1, 25)):
        stream = max(1, dice.choice([newest, newest, newest - 2, dice.randint(0, 20)]))
        match dice.randint(0, 19):
            case 0 | 1 | 2:
                flags = ["END_STREAM"] if dice.random() < 0.3 else []
                frames.append(DataFrame(stream, dice.randbytes(dice.randint(0, 2000)), flags=flags).serialize())
            case 3 | 4:
                frames.append(RstStreamFrame(stream, error_code=dice.randint(0, 20)).serialize())
            case 5:
                grant = dice.choice([1, 1000, 2**31 - 1])
                frames.append(WindowUpdateFrame(dice.choice([0, stream]), window_increment=grant).serialize())
            case 6:
                frames.append(PingFrame(0, b"12345678").serialize())
            case 7:
                frames.append(PriorityFrame(stream, depends_on=dice.randint(0, 9)).serialize())
            case 8:
                frames.append(GoAwayFrame(0, last_stream_id=0, error_code=0).serialize())
            case 9:
                window = dice.choice([0, 1, 100_000, 2**31 - 1])
                frames.append(SettingsFrame(0, settings={4: window}).serialize())
            case 10:
                frames.append(dice.choice([ContinuationFrame(stream, b"").serialize(), dice.randbytes(9)]))
            case _:
                frames.append(head(dice, encoder, newest).serialize())
                newest += 2
    return PREFACE + b"".join(frames)


def mutated(dice: random.Random, data: bytes) -> bytes:
    mutant = bytearray(data)
    for _ in range(dice.choice([0, 0, 1, 1, 2, 5])):
        at = dice.randrange(len(mutant) - 1)
        match dice.randint(0, 3):
            case 0:
                mutant[at] = dice.randrange(256)
            case 1:
                del mutant[at : min(at + dice.randint(1, 20), len(mutant) - 2)]
            case 2:
                mutant[at:at] = dice.choice([b"\r\n", b"\n", b"\0", b":", b" ", dice.randbytes(3)])
            case _:
                del mutant[at + 2 :]
    return bytes(mutant)


async def play(dice: random.Random, stream: Any, data: bytes) -> bytes:
    """Send it in pieces, read what comes, leave at some time; gives what came."""
    said = bytearray()

    async def feed() -> None:
        rest = data
        try:
            while rest:
                size = dice.choice([1, 10, 100, 1000, 10**6])
                await stream.send_all(rest[:size])
                rest = rest[size:]
                if dice.random() < 0.3:
                    await trio.sleep(0.001)
            if dice.random() < 0.3:
                await stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    with trio.move_on_after(dice.choice([0.005, 0.05, 3])):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            try:
                while piece := await stream.receive_some():
                    said += piece
            except trio.BrokenResourceError:
                pass
    if dice.random() < 0.5:
        stream.reset()
    else:
        stream.close()
    return bytes(said)


@pytest.mark.parametrize("version", [1, 2])
async def test_mutants_meet_no_error_of_ours_and_leave_nothing_behind(
    start: Start,
    autojump_clock: Any,
    caplog: pytest.LogCaptureFixture,
    version: int,
) -> None:
    network = MemoryNetwork()
    server = await start(
        app,
        config=quiet_config(errorlog=logging.getLogger("tests.server")),
        limits=Limits(client_timeout=1, keep_alive_timeout=1, header_timeout=1),
        listeners=[network.listen("gateway", 80)],
    )
    said: Counter[bytes] = Counter()
    for case in range(CASES):
        dice = random.Random(f"{SEED} {version} {case}")  # noqa: S311 -- a seed is the point
        data = mutated(dice, http1(dice) if version == 1 else http2(dice))
        answer = await play(dice, await network.connect("gateway", 80), data)
        said[answer[:12]] += 1
        errors = [record for record in caplog.records if record.levelname == "ERROR"]
        assert not errors, f"FUZZ_SEED={SEED}, case {case}: {data!r}\n{caplog.text}"
    await trio.sleep(5)
    assert network.open_streams == []
    if version == 1:  # the mutants were of use: some were served, some refused
        assert {b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.1 101"} <= said.keys()
    await server.stop()
