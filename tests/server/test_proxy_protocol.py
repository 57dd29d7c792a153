import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from logging import getLogger
from typing import Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.server import Limits, serve
from gateway.server.proxy_protocol import (
    LONGEST_LINE,
    LONGEST_REST,
    NOTHING,
    SHORTEST,
    SIGNATURE,
    Header,
    Malformed,
    parse,
)
from gateway.testing.network import MemoryNetwork

from .conftest import GET, Http1Client, Start, quiet_config

ports = st.integers(0, 65535)
addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
)


def read(data: bytes) -> tuple[Header, bytes]:
    """Take the header off ``data`` as a connection does: never more than what is known to be missing."""
    taken = 0
    while isinstance(found := parse(data[:taken]), int):
        assert found > 0
        if taken + found > len(data):
            raise EOFError
        taken += found
    return found, data[taken:]


def version_2(family: int, rest: bytes, *, command: int = 0x21, length: int | None = None) -> bytes:
    return SIGNATURE + bytes([command, family]) + (len(rest) if length is None else length).to_bytes(2, "big") + rest


def ipv4(tail: bytes = b"") -> bytes:
    return bytes([192, 0, 2, 1, 198, 51, 100, 7]) + (1000).to_bytes(2, "big") + (443).to_bytes(2, "big") + tail


TOLD = Header(("192.0.2.1", 1000), ("198.51.100.7", 443))


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 1000 443\r\n", TOLD),
        (b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", Header(("2001:db8::1", 0), ("::1", 65535))),
        (b"PROXY TCP6 2001:DB8:0::1 ::1 1 1\r\n", Header(("2001:db8::1", 1), ("::1", 1))),
        (b"PROXY UNKNOWN\r\n", NOTHING),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", NOTHING),
        (version_2(0x11, ipv4()), TOLD),
        (version_2(0x11, ipv4(b"\x03\x00\x04abcd")), TOLD),
        (version_2(0x21, bytes(15) + b"\x01" + bytes(15) + b"\x02\x00\x05\x00\x06"), Header(("::1", 5), ("::2", 6))),
        (version_2(0x00, b"", command=0x20), NOTHING),
        (version_2(0x11, ipv4(), command=0x20), NOTHING),
        (version_2(0x00, b"whatever"), NOTHING),
        (version_2(0x12, ipv4()), NOTHING),
        (version_2(0x31, bytes(216)), NOTHING),
    ],
)
@pytest.mark.parametrize("tail", [b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"\x16\x03\x01"])
def test_header_is_read_and_nothing_behind_it(data: bytes, header: Header, tail: bytes) -> None:
    assert read(data + tail) == (header, tail)


@given(addresses=addresses, source=ports, destination=ports, tail=st.binary(max_size=300))
def test_what_one_writes_the_other_reads(
    addresses: tuple[IPv4Address | IPv6Address, ...], source: int, destination: int, tail: bytes
) -> None:
    here, there = addresses
    header = Header((str(here), source), (str(there), destination))
    line = f"PROXY TCP{here.version} {here} {there} {source} {destination}\r\n".encode()
    assert read(line + tail) == (header, tail)
    packed = here.packed + there.packed + source.to_bytes(2, "big") + destination.to_bytes(2, "big")
    binary = version_2(0x11 if here.version == 4 else 0x21, packed + tail)
    assert read(binary + tail) == (header, tail)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r \r\n",
        b"PROXY UNKNOWN a\nb\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 -2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 \u0661 2\r\n".encode(),
        b"PROXY " + b"x" * LONGEST_LINE,
        b"PROXY UNKNOWN " + b"x" * (LONGEST_LINE - 15) + b"\r\n",
        SIGNATURE[:-1] + b"x" + bytes(4),
        version_2(0x11, ipv4(), command=0x11),
        version_2(0x11, ipv4(), command=0x22),
        version_2(0x41, ipv4()),
        version_2(0x11, ipv4()[:-1]),
        version_2(0x21, ipv4()),
        version_2(0x11, b"", length=LONGEST_REST + 1),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


def test_longest_line_is_taken() -> None:
    data = b"PROXY UNKNOWN " + b"x" * (LONGEST_LINE - 16) + b"\r\n"
    assert len(data) == LONGEST_LINE
    assert read(data) == (NOTHING, b"")


def test_more_than_the_header_is_refused() -> None:
    with pytest.raises(Malformed):
        parse(version_2(0x00, b"") + b"x")


@given(start=st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 1", SIGNATURE, SIGNATURE + b"\x21\x11"]), rest=st.binary())
@example(start=b"", rest=b"")
def test_any_bytes_are_a_header_or_none_within_bounds(start: bytes, rest: bytes) -> None:
    data = start + rest
    try:
        _, left = read(data)
    except Malformed:
        return
    except EOFError:
        # It could still become one, so it is the beginning of one, and short.
        assert data.startswith((b"PROXY ", SIGNATURE)) or len(data) < SHORTEST
        assert len(data) <= 16 + LONGEST_REST
        return
    assert len(data) - len(left) <= 16 + LONGEST_REST


# ---- on connections


async def told(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers with who asks whom."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps([scope["client"], scope["server"]]).encode()})


PROXY = "203.0.113.5"
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.7 1000 443\r\n"


@asynccontextmanager
async def served(limits: Limits | None = None) -> AsyncIterator[MemoryNetwork]:
    """A server on the in-memory network that believes one proxy."""
    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        listeners = [network.listen("gateway", 80)]
        await nursery.start(
            partial(
                serve,
                told,
                quiet_config(errorlog=getLogger("server")),
                listeners=listeners,
                proxies={PROXY},
                limits=limits,
            )
        )
        yield network
        nursery.cancel_scope.cancel()


async def ask(network: MemoryNetwork, source: str, *pieces: bytes) -> tuple[int, bytes]:
    stream = await network.connect("gateway", 80, source=source)
    client = Http1Client(stream)
    for piece in pieces:
        await client.send(piece)
        await trio.sleep(0.1)
    try:
        status, _, body = await client.answer()
    finally:
        await client.aclose()
    return status, body


@pytest.mark.parametrize(
    "pieces",
    [
        [LINE, GET],
        [LINE + GET],
        [LINE[:3], LINE[3:20], LINE[20:-1], LINE[-1:], GET],
        [version_2(0x11, ipv4()) + GET],
        [SIGNATURE[:5], SIGNATURE[5:], version_2(0x11, ipv4())[12:20], version_2(0x11, ipv4())[20:] + GET],
    ],
)
async def test_proxy_is_believed_about_the_client(pieces: list[bytes], autojump_clock: Any) -> None:
    async with served() as network:
        status, body = await ask(network, PROXY, *pieces)
    assert (status, json.loads(body)) == (200, [["192.0.2.1", 1000], ["198.51.100.7", 443]])


async def test_proxy_that_speaks_for_itself_is_the_client(autojump_clock: Any) -> None:
    async with served() as network:
        _, body = await ask(network, PROXY, version_2(0, b"", command=0x20) + GET)
    assert json.loads(body)[0][0] == PROXY


@pytest.mark.parametrize("header", [LINE, version_2(0x11, ipv4())])
async def test_header_from_elsewhere_is_a_bad_request(header: bytes, autojump_clock: Any) -> None:
    async with served() as network:
        assert (await ask(network, "192.0.2.9", header + GET))[0] == 400
        _, body = await ask(network, "192.0.2.9", GET)
    assert json.loads(body)[0][0] == "192.0.2.9"


@pytest.mark.parametrize("said", [GET, b"\x16\x03\x01" + bytes(20), LINE[:-2] + b"\n" + GET])
async def test_proxy_without_its_header_is_cut_off_unanswered(said: bytes, autojump_clock: Any) -> None:
    async with served() as network:
        stream = await network.connect("gateway", 80, source=PROXY)
        await stream.send_all(said)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()


@pytest.mark.parametrize("said", [b"", LINE[:-1], version_2(0x11, ipv4(), length=4000)])
async def test_header_has_its_time_like_a_handshake(said: bytes, autojump_clock: Any) -> None:
    async with served(Limits(handshake_timeout=3)) as network:
        stream = await network.connect("gateway", 80, source=PROXY)
        if said:
            await stream.send_all(said)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        assert trio.current_time() == 3
        await stream.aclose()


async def test_look_at_the_port_is_not_worth_a_word(autojump_clock: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with served() as network:
        caplog.clear()
        stream = await network.connect("gateway", 80, source=PROXY)
        await stream.aclose()
        await trio.sleep(1)
        assert await ask(network, PROXY, LINE + GET)
        assert caplog.records == []
        with pytest.raises(trio.BrokenResourceError):
            await ask(network, PROXY, GET)
    (record,) = caplog.records
    assert "Malformed" in record.getMessage()


async def test_header_goes_before_the_handshake(start: Start, certificates: tuple[str, str, ssl.SSLContext]) -> None:
    cert, key, context = certificates
    server = await start(told, config=quiet_config(certfile=cert, keyfile=key), proxies={"127.0.0.1"})
    carrier = await server.connect()
    await carrier.send_all(version_2(0x11, ipv4()))
    stream = trio.SSLStream(carrier, context, server_hostname="127.0.0.1")
    client = Http1Client(stream)
    await client.send(GET)
    _, _, body = await client.answer()
    assert json.loads(body) == [["192.0.2.1", 1000], ["198.51.100.7", 443]]
    await trio.aclose_forcefully(stream)
