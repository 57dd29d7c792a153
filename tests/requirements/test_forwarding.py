"""Requests reach the services as they were sent, and answers come back as they were given: FR-001 to FR-004."""

import base64
import json
from typing import Any

import httpx
import pytest
import trio
from fixture_common import app as common

from gateway.testing.backend import Backend, respond
from gateway.testing.sockets import SocketNetwork

from .conftest import Running, both_protocols, curl, http_client, needs_curl, running, url_of

ORDER = {
    "order_id": "ORD-1",
    "customer_id": "CUST-7",
    "items": [{"product_id": "SKU-1", "quantity": 2}],
    "total_amount": 49.9,
    "priority": "HIGH",
}
NOTE = {"recipient": "a@example.com", "notification_type": "EMAIL", "message": "hello"}
# What differs between two answers to the same question, and what the gateway adds.
OWN = {"date", "via", "x-request-id"}


def fields(answer: httpx.Response) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in answer.headers.raw if name.lower().decode() not in OWN]


@pytest.mark.requirement("FR-001")
@both_protocols
async def test_order_is_placed_and_read_through_the_gateway(
    gateway: Running,
    http2: bool,  # noqa: FBT001 - a column of a table
) -> None:
    async with gateway.client(http2=http2) as client:
        placed = await client.post("/api/service1/orders", json=ORDER)
        assert (placed.status_code, placed.json()["status"]) == (202, "accepted")
        found = (await client.get("/api/service1/orders/ORD-1")).json()
        assert {name: found[name] for name in ORDER} == ORDER
    assert {record.target_service for record in await gateway.logged(2)} == {"service1"}


@pytest.mark.requirement("FR-002")
@both_protocols
async def test_notification_is_sent_and_read_through_the_gateway(
    gateway: Running,
    http2: bool,  # noqa: FBT001 - as above
) -> None:
    async with gateway.client(http2=http2) as client:
        sent = await client.post("/api/service2/notifications/send", json=NOTE)
        assert (sent.status_code, sent.json()["status"]) == (200, "sent")
        found = (await client.get(f"/api/service2/notifications/{sent.json()['notification_id']}")).json()
        assert {name: found[name] for name in NOTE} == NOTE
    assert {record.target_service for record in await gateway.logged(2)} == {"service2"}


@pytest.mark.requirement("FR-001", "FR-002")
@pytest.mark.parametrize("service", ["service1", "service2"])
@pytest.mark.parametrize("rest", ["/echo", "/echo/", "/echo/a/b?x=1", "/echo?"])
async def test_service_segment_is_stripped_and_nothing_else(gateway: Running, service: str, rest: str) -> None:
    async with gateway.client() as client:
        told = await client.get(gateway.url, extensions={"target": f"/api/{service}{rest}".encode()})
    # The services run on stock Hypercorn, which cannot tell an empty query from none.
    assert told.json()["target"] == f"/api{rest}".removesuffix("?")


@pytest.mark.requirement("FR-003")
@both_protocols
async def test_method_target_fields_and_body_arrive_as_they_were_sent(
    gateway: Running,
    http2: bool,  # noqa: FBT001 - as above
) -> None:
    target = b"/api/service1/echo//a%2Fb;v=1/%C3%A9?x=%20&x=2&&=&y=a+b"
    sent = [
        ("x-first", "1"),
        ("authorization", "Bearer abc"),
        ("x-twice", "a"),
        ("x-twice", "b, c"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-bytes", "caf\xe9"),
    ]
    body = bytes(range(256)) * 1000
    async with gateway.client(http2=http2) as client:
        # Not in the table: over HTTP/2 a cookie may come in crumbs, which are put together wherever they end up.
        raw = [("cookie", b"k=v"), *((name, value.encode("latin-1")) for name, value in sent)]
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"):
            request = client.build_request(method, gateway.url, headers=raw, content=body)  # type: ignore[arg-type] # bytes are the point
            request.extensions["target"] = target
            told = (await client.send(request)).json()
            assert told["method"] == method
            assert told["target"].encode() == target.replace(b"/service1", b"", 1)
            assert base64.b64decode(told["body"]) == body
            arrived = [(name.lower(), value) for name, value in told["headers"]]
            assert ("cookie", "k=v") in arrived
            assert [field for field in arrived if field[0] in dict(sent)] == sent


@pytest.mark.requirement("FR-003")
async def test_no_field_is_invented_but_those_that_are_documented(gateway: Running) -> None:
    async with gateway.client() as client:
        told = (await client.get("/api/service1/echo", headers={"X-Request-ID": "trace-1"})).json()
        sent = {name.lower() for name in client.headers}
    arrived = {name.lower(): value for name, value in told["headers"]}
    assert set(arrived) - sent == {
        "host",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-request-id",
    }
    assert sent - set(arrived) == {"connection"}
    assert (arrived["x-forwarded-for"], arrived["x-forwarded-prefix"]) == ("127.0.0.1", "/api/service1")
    assert arrived["host"] == gateway.url.removeprefix("http://")
    assert arrived["x-request-id"] == "trace-1"


@needs_curl
@pytest.mark.requirement("FR-003")
@pytest.mark.parametrize("protocol", ["--http1.1", "--http2-prior-knowledge"])
async def test_upload_of_unknown_length_arrives_whole(gateway: Running, protocol: str) -> None:
    body = b"".join(b"%d\n" % number for number in range(50_000))
    url = f"{gateway.url}/api/service1/echo/a/./b/../c?q=%"
    told = json.loads(await curl(protocol, "--path-as-is", "--upload-file", "-", url, stdin=body))
    assert (told["method"], told["target"]) == ("PUT", "/api/echo/a/./b/../c?q=%")
    assert base64.b64decode(told["body"]) == body


async def both_ways(gateway: Running, services: dict[str, str], method: str, rest: str, **options: Any) -> Any:
    """The same question asked through the gateway and of the service itself."""
    async with gateway.client() as through, http_client(services["SERVICE1_URL"]) as direct:
        return (
            await through.request(method, f"/api/service1{rest}", **options),
            await direct.request(method, f"/api{rest}", **options),
        )


@pytest.mark.requirement("FR-004")
async def test_status_fields_and_body_come_back_unchanged(gateway: Running, services: dict[str, str]) -> None:
    for status in (200, 201, 204, 205, 301, 304, 400, 404, 409, 418, 422, 429, 500, 502, 503, 504, 599):
        through, direct = await both_ways(gateway, services, "GET", f"/status/{status}")
        assert through.status_code == direct.status_code == status
        assert (fields(through), through.content) == (fields(direct), direct.content)
        assert "proxy-status" not in through.headers


@pytest.mark.requirement("FR-004")
@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("POST", "/orders", b'{"order_id": 1}'),
        ("POST", "/orders", b"not json"),
        ("GET", "/orders/unknown", b""),
        ("DELETE", "/orders/ORD-1", b""),
        ("GET", "/nowhere", b""),
        ("HEAD", "/health", b""),
        ("HEAD", "/bytes/1000", b""),
    ],
)
async def test_services_own_errors_and_heads_come_back_unchanged(
    gateway: Running, services: dict[str, str], method: str, rest: str, body: bytes
) -> None:
    through, direct = await both_ways(gateway, services, method, rest, content=body)
    assert (through.status_code, through.content) == (direct.status_code, direct.content)
    assert sorted(fields(through)) == sorted(fields(direct))


@pytest.mark.requirement("FR-004")
@both_protocols
async def test_large_answer_comes_back_byte_for_byte(
    gateway: Running,
    http2: bool,  # noqa: FBT001 - as above
) -> None:
    async with gateway.client(http2=http2) as client:
        answer = await client.get("/api/service1/bytes/5000000")
    assert answer.headers["content-length"] == "5000000"
    assert answer.content == b"".join(common.pieces(5_000_000))


@pytest.mark.requirement("FR-004")
@both_protocols
async def test_answer_is_passed_on_as_it_comes(
    gateway: Running,
    http2: bool,  # noqa: FBT001 - as above
) -> None:
    async with (
        gateway.client(http2=http2) as client,
        client.stream("GET", "/api/service1/stream?chunks=3&delay=0.15") as answer,
    ):
        began = trio.current_time()
        arrived = [(line, trio.current_time() - began) async for line in answer.aiter_lines()]
    assert [line for line, _ in arrived] == ["chunk 1 of 3", "chunk 2 of 3", "chunk 3 of 3"]
    first, second, third = (seconds for _, seconds in arrived)
    assert first < 0.14
    assert second >= 0.1
    assert third - second >= 0.1


@pytest.mark.requirement("FR-004")
async def test_bytes_order_and_repeats_of_fields_are_kept(sockets: SocketNetwork) -> None:
    given = [
        (b"Set-Cookie", b"a=1; Path=/"),
        (b"X-Odd-CASE", b"caf\xe9"),
        (b"Set-Cookie", b"b=2"),
        (b"Location", b"/api/elsewhere"),
        (b"Server", b"something/1.0"),
        (b"Date", b"Tue, 15 Nov 1994 08:12:31 GMT"),
    ]
    async with Backend(sockets, "service1", 80, respond(302, given, b"moved")):
        environ = {"SERVICE1_URL": url_of(sockets, "service1")}
        async with running(environ) as gateway, gateway.client() as client:
            answer = await client.get("/api/service1/x")
    assert (answer.status_code, answer.content) == (302, b"moved")
    assert [field for field in answer.headers.raw if field in given] == given
    assert answer.headers.get_list("date") == ["Tue, 15 Nov 1994 08:12:31 GMT"]
