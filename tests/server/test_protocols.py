"""Which protocol is spoken: by ALPN over TLS, by the first bytes without."""

import ssl
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hyperframe.frame import SettingsFrame

from gateway.server.heads import PREFACE

from .conftest import GET, Http1Client, Http2Client, Server, Start, quiet_config

SETTINGS = 4
HTTP2 = PREFACE + SettingsFrame(0).serialize()


async def says_version(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    answer = f"{scope['http_version']} {scope['scheme']} {scope['method']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer})


# ---- without TLS: what the client says first


@pytest.mark.parametrize("size", [1, 2, 17, 24, 25, 1000])
async def test_preface_is_the_start_of_http2_however_it_comes(start_in_memory: Start, size: int) -> None:
    stream = await (await start_in_memory(says_version)).connect()
    for at in range(0, len(HTTP2), size):
        await stream.send_all(HTTP2[at : at + size])
        await trio.testing.wait_all_tasks_blocked()
    assert (await stream.receive_some())[3] == SETTINGS


async def test_nothing_is_said_before_it_is_clear_which_protocol_it_is(start_in_memory: Start) -> None:
    stream = await (await start_in_memory(says_version)).connect()
    await stream.send_all(PREFACE[:-1])
    await trio.testing.wait_all_tasks_blocked()
    assert not stream.is_readable()
    await stream.send_all(PREFACE[-1:])
    assert (await stream.receive_some())[3] == SETTINGS


async def test_requests_in_the_same_bytes_as_the_preface_are_answered(start_in_memory: Start) -> None:
    server = await start_in_memory(says_version)
    client = Http2Client(await server.connect())
    client.h2.initiate_connection()
    stream = await client.request()  # all in one piece
    assert bytes((await client.answer(stream)).body) == b"2 http GET"


@pytest.mark.parametrize("method", [b"P", b"PR", b"PRI", b"PRIX", b"POST", b"PUT", b"pri"])
async def test_method_that_begins_as_the_preface_does_is_http1(start_in_memory: Start, method: bytes) -> None:
    client = await (await start_in_memory(says_version)).http1()
    for byte in method:
        await client.send(bytes([byte]))
        await trio.testing.wait_all_tasks_blocked()
    await client.send(b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    status, _, body = await client.answer()
    assert (status, body) == (200, b"1.1 http " + method)


@pytest.mark.parametrize(
    "words",
    [PREFACE[:18] + b"XX\r\n\r\n", b"PRI * HTTP/2.1\r\n\r\n", b"PRI / HTTP/2.0\r\n\r\n"],
    ids=["other end", "2.1", "path"],
)
async def test_what_only_begins_as_the_preface_does_is_refused(start_in_memory: Start, words: bytes) -> None:
    client = await (await start_in_memory(says_version)).http1()
    await client.send(words)
    assert (await client.rest()).startswith(b"HTTP/1.1 505 ")


async def test_preface_after_a_request_is_refused(start_in_memory: Start) -> None:
    client = await (await start_in_memory(says_version)).http1()
    await client.send(GET + HTTP2)
    assert (await client.answer())[0] == 200
    assert (await client.rest()).startswith(b"HTTP/1.1 505 ")


async def test_upgrade_to_h2c_is_not_taken_up(start_in_memory: Start) -> None:
    client = await (await start_in_memory(says_version)).http1()
    await client.send(GET[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n")
    status, fields, body = await client.answer()
    assert (status, body) == (200, b"1.1 http GET")
    assert b"upgrade" not in fields


# ---- TLS: ALPN


@pytest.fixture
async def secure(start: Start, certificates: tuple[str, str, ssl.SSLContext]) -> tuple[Server, ssl.SSLContext]:
    certificate, key, context = certificates
    return await start(says_version, config=quiet_config(certfile=certificate, keyfile=key)), context


async def shake_hands(secure: tuple[Server, ssl.SSLContext], offer: list[str]) -> trio.SSLStream[Any]:
    server, context = secure
    if offer:
        context.set_alpn_protocols(offer)
    wrap = partial(trio.SSLStream[Any], server_hostname="127.0.0.1", https_compatible=True)
    stream = wrap(await server.connect(), context)
    await stream.do_handshake()
    return stream


@pytest.mark.parametrize("offer", [["h2"], ["h2", "http/1.1"], ["http/1.1", "h2"]], ids=",".join)
async def test_h2_is_spoken_with_who_offers_it(secure: tuple[Server, ssl.SSLContext], offer: list[str]) -> None:
    stream = await shake_hands(secure, offer)
    assert stream.selected_alpn_protocol() == "h2"
    client = await Http2Client(stream).start()
    assert bytes((await client.get()).body) == b"2 https GET"


@pytest.mark.parametrize("offer", [["http/1.1"], ["spdy/3", "http/1.1"], []], ids=",".join)
async def test_http1_is_spoken_with_who_does_not_offer_h2(
    secure: tuple[Server, ssl.SSLContext], offer: list[str]
) -> None:
    stream = await shake_hands(secure, offer)
    assert stream.selected_alpn_protocol() == ("http/1.1" if offer else None)
    client = Http1Client(stream)
    await client.send(GET)
    assert (await client.answer())[2] == b"1.1 https GET"


@pytest.mark.parametrize("offer", [["http/1.1"], []], ids=",".join)
async def test_preface_counts_for_nothing_over_tls(secure: tuple[Server, ssl.SSLContext], offer: list[str]) -> None:
    """ALPN has made the choice (RFC 9113 section 3.3)."""
    client = Http1Client(await shake_hands(secure, offer))
    await client.send(HTTP2)
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 505 ")


async def test_http1_to_who_has_chosen_h2_ends_that_connection_alone(secure: tuple[Server, ssl.SSLContext]) -> None:
    other = await Http2Client(await shake_hands(secure, ["h2"])).start()
    client = Http1Client(await shake_hands(secure, ["h2"]))
    await client.send(GET)
    assert b"HTTP/1" not in await client.rest()
    assert bytes((await other.get()).body) == b"2 https GET"
