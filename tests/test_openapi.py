"""The OpenAPI document against the endpoints themselves: what they answer, in every stage of the process's life."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped] # it carries no types
import pytest
import trio
from trio.testing import MockClock

from gateway import openapi
from gateway.app import create_app
from gateway.config import Settings
from gateway.observe import Collector
from gateway.routing import is_owned
from gateway.server import Limits
from gateway.testing.app import TWO_SERVICES, RunningGateway, running_gateway
from gateway.testing.backend import Backend, Connection, hang, respond
from gateway.testing.clients import http_client
from gateway.testing.network import MemoryNetwork

DOCUMENT = openapi.document("1.2.3")
PATHS = sorted(DOCUMENT["paths"])
VALIDATOR = jsonschema.Draft202012Validator


def strict(schema: Any) -> Any:
    """The same schema, but what it does not name may not be there."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if schema.get("type") == "object" and "properties" in schema else {}
    return {**closed, **{key: strict(value) for key, value in schema.items()}}


def check(answer: httpx.Response, declared: dict[str, Any]) -> None:
    """Hold an answer against the response that the document declares for it."""
    if "$ref" in declared:
        declared = DOCUMENT["components"]["responses"][declared["$ref"].rpartition("/")[2]]
    (media_type,) = declared["content"]
    assert answer.headers["content-type"].partition(";")[0] == media_type
    body = answer.json() if media_type == "application/json" else answer.text
    schema = {**declared["content"][media_type]["schema"], "components": DOCUMENT["components"]}
    VALIDATOR(strict(schema)).validate(body)


def declared_for(path: str, status: int) -> dict[str, Any]:
    responses: dict[str, Any] = DOCUMENT["paths"][path]["get"]["responses"]
    return responses[str(status)]  # type: ignore[no-any-return] # the document is plain JSON


def test_document_is_the_one_that_is_asked_for_and_its_schemas_are_schemas() -> None:
    assert (DOCUMENT["openapi"], DOCUMENT["info"]["version"]) == ("3.1.0", "1.2.3")
    for schema in DOCUMENT["components"]["schemas"].values():
        VALIDATOR.check_schema(schema)


def test_document_names_exactly_the_routes_that_there_are() -> None:
    app = create_app(TWO_SERVICES, sink=Collector())
    assert sorted(rule.rule for rule in app.url_map.iter_rules()) == PATHS
    assert {method.lower() for rule in app.url_map.iter_rules() for method in rule.methods or ()} == {
        "get",
        "head",
        "options",
    }
    assert all(is_owned(path.encode()) for path in PATHS)


def test_every_operation_tells_what_a_failure_looks_like() -> None:
    for path in PATHS:
        assert DOCUMENT["paths"][path]["get"]["responses"]["default"] == {"$ref": "#/components/responses/Error"}


async def ask_all(client: httpx.AsyncClient) -> dict[str, int]:
    """Ask for every path, hold each answer against the document, and return the statuses."""
    statuses = {}
    for path in PATHS:
        for query in ("", "?verbose"):
            answer = await client.get(path + query)
            check(answer, declared_for(path, answer.status_code))
        statuses[path] = answer.status_code
    return statuses


@asynccontextmanager
async def up_and_down(network: MemoryNetwork, **options: Any) -> AsyncIterator[RunningGateway]:
    """A gateway of which one service is up and the other down."""
    async with (
        Backend(network, "service1", 8001, respond()),
        running_gateway(network, probes=True, **options) as gateway,
    ):
        yield gateway


async def test_answers_of_a_running_gateway_are_as_documented(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async with up_and_down(network) as gateway, gateway.client() as client:
        assert await ask_all(client) == dict.fromkeys(PATHS, 200)
        assert (await client.get("/api/gateway/openapi.json")).json()["paths"] == DOCUMENT["paths"]
        states = [each["health"]["state"] for each in (await client.get("/api/gateway/services")).json()]
        assert states == ["up", "down"]


async def test_answers_of_a_gateway_that_starts_are_as_documented(
    network: MemoryNetwork, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    network.black_hole("service1", 8001)
    statuses = {}

    async def ask_while_it_starts() -> None:
        await trio.sleep(1)
        async with http_client(network) as client:
            statuses.update(await ask_all(client))
            assert (await client.get("/api/gateway/services")).json()[0]["health"]["state"] == "unknown"

    nursery.start_soon(ask_while_it_starts)
    async with running_gateway(network, probes=True):
        assert statuses == dict.fromkeys(PATHS, 200) | {"/health": 503, "/readyz": 503}


async def test_answers_of_a_gateway_that_stops_are_as_documented(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async with up_and_down(network, limits=Limits(drain_delay=5)) as gateway, gateway.client() as client:
        gateway.stop()
        await trio.sleep(1)
        assert await ask_all(client) == dict.fromkeys(PATHS, 200) | {"/health": 503, "/readyz": 503}


async def test_answers_after_a_crash_are_as_documented(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    async with up_and_down(network) as gateway, gateway.client() as client:
        gateway.app.gateway.crashed = True
        unhealthy = {"/health": 503, "/livez": 503, "/readyz": 503}
        assert await ask_all(client) == dict.fromkeys(PATHS, 200) | unhealthy


@pytest.mark.requirement("FR-007")
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/api/gateway/nowhere", 404),
        ("DELETE", "/health", 405),
        ("GET", "/api/service1/%2e%2e/x", 400),
        ("POST", "/api/service1/x", 413),
        ("GET", "/api/service1/breaks-off", 502),
        ("GET", "/api/service2/x", 503),
        ("GET", "/api/service1/hangs", 504),
    ],
)
async def test_every_failure_has_the_documented_body(
    network: MemoryNetwork, autojump_clock: MockClock, method: str, path: str, status: int
) -> None:
    async def script(conn: Connection) -> None:
        request = await conn.read_head()
        if request.target == b"/api/hangs":
            await hang()(conn)

    settings = Settings(services=TWO_SERVICES.services, max_body_size=3)
    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings) as gateway,
        gateway.client() as client,
    ):
        answer = await client.request(method, path, content=b"four" if method == "POST" else None)
        assert answer.status_code == status
        check(answer, {"$ref": "#/components/responses/Error"})
        assert answer.json()["status_code"] == status
        assert answer.json()["path"] == path
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["proxy-status"].startswith("api-gateway; error=")
