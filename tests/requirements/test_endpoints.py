"""The gateway's own endpoints, and where routes are declared: FR-005, FR-006, FR-013."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import gateway as package
from gateway import admin
from gateway.api import ADMIN_ROUTES
from gateway.routing import is_owned
from gateway.testing.backend import Backend, hang, respond
from gateway.testing.sockets import SocketNetwork

from .conftest import Running, both_protocols, running, url_of

ROUTING = {
    "route",
    "get",
    "post",
    "put",
    "patch",
    "delete",
    "websocket",
    "add_url_rule",
    "add_websocket",
    "register_blueprint",
}
"""What declares a route on a Quart app or blueprint."""


@pytest.mark.requirement("FR-005")
async def test_health_is_503_while_starting_and_stopping_and_200_between(sockets: SocketNetwork) -> None:
    async with Backend(sockets, "service1", 80, hang()):
        environ = {
            "SERVICE1_URL": url_of(sockets, "service1"),
            "GATEWAY_HEALTH_TIMEOUT": "300ms",
            "GATEWAY_DRAIN_DELAY": "300ms",
        }
        async with running(environ, started=False) as gateway, gateway.client() as client:
            starting = await client.get("/health")
            await gateway.started()
            between = await client.get("/health")
            gateway.stop.set()
            await trio.sleep(0.1)
            stopping = await client.get("/health")
    answers = [(answer.status_code, answer.json()["status"]) for answer in (starting, between, stopping)]
    assert answers == [(503, "unhealthy"), (200, "healthy"), (503, "unhealthy")]
    assert starting.json().keys() == {"status", "service", "version", "timestamp"}
    assert (between.json()["service"], between.json()["version"]) == ("api-gateway", package.__version__)


@pytest.mark.requirement("FR-005")
@both_protocols
async def test_health_is_200_though_every_backend_is_dead(
    sockets: SocketNetwork,
    http2: bool,  # noqa: FBT001 - a column of a table
) -> None:
    async with running({"SERVICE1_URL": "http://127.0.0.1:1"}) as gateway, gateway.client(http2=http2) as client:
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/readyz")).text == "ok"
        (service,) = (await client.get("/api/gateway/services")).json()
        assert service["health"]["state"] == "down"


@pytest.mark.requirement("FR-006")
@both_protocols
async def test_status_and_services_tell_cached_health_without_asking_a_backend(
    sockets: SocketNetwork,
    http2: bool,  # noqa: FBT001 - as above
) -> None:
    async with Backend(sockets, "service1", 80, respond()) as backend:
        environ = {"SERVICE1_URL": url_of(sockets, "service1"), "SERVICE2_URL": "http://127.0.0.1:1"}
        async with running(environ) as gateway, gateway.client(http2=http2) as client:
            for _ in range(3):
                status = (await client.get("/api/gateway/status")).json()
                services = (await client.get("/api/gateway/services")).json()
        assert [request.target for request in backend.requests] == [b"/health"]
    assert (status["status"], status["version"]) == ("running", package.__version__)
    told = [(each["name"], each["prefix"], each["status"], each["health"]["state"]) for each in services]
    assert told == [
        ("service1", "/api/service1", "configured", "up"),
        ("service2", "/api/service2", "configured", "down"),
    ]
    assert services[0]["health"]["age_seconds"] > 0
    assert [each["name"] for each in status["services"]] == ["service1", "service2"]
    assert {record.target_service for record in gateway.log.records} == {None}


@pytest.mark.requirement("FR-006")
async def test_openapi_document_names_every_endpoint(gateway: Running) -> None:
    async with gateway.client() as client:
        document = (await client.get("/api/gateway/openapi.json")).json()
        assert set(document["paths"]) == {
            "/health",
            "/livez",
            "/readyz",
            "/api/gateway/status",
            "/api/gateway/services",
            "/api/gateway/openapi.json",
        }
        for path in document["paths"]:
            assert (await client.get(path)).status_code == 200


def declarations(source: str) -> Iterator[str]:
    """Yield what declares a route in this module: ``@app.get("/path")`` and its kin, as decorators or calls."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ROUTING):
            continue
        if node.args and isinstance(node.args[0], ast.Constant) and str(node.args[0].value).startswith("/"):
            yield str(node.args[0].value)


@pytest.mark.requirement("FR-013")
def test_routes_are_declared_in_api_and_nowhere_else() -> None:
    root = Path(package.__file__).parent
    declaring = {
        str(path.relative_to(root)): routes
        for path in root.rglob("*.py")
        if (routes := list(declarations(path.read_text(encoding="utf-8"))))
    }
    assert list(declaring) == ["api.py"]
    assert len(declaring["api.py"]) == 6
    assert all(is_owned(route.encode()) for route in declaring["api.py"])


@pytest.mark.requirement("FR-013")
def test_pages_of_the_admin_listener_are_declared_in_api_too() -> None:
    tree = ast.parse(Path(admin.__file__).read_text(encoding="utf-8"))
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert [value for value in constants if isinstance(value, str) and value.startswith("/")] == []
    assert set(ADMIN_ROUTES) == {"/metrics", "/debug/exchanges", "/health", "/livez", "/readyz"}
    assert all(callable(getattr(admin.Admin, page)) for page in ADMIN_ROUTES.values())


@pytest.mark.parametrize(
    "line",
    [
        '@app.get("/x")\ndef x(): ...',
        '@blueprint.route("/x", methods=["POST"])\ndef x(): ...',
        'app.add_url_rule("/x")',
    ],
)
def test_route_declared_in_another_way_is_found(line: str) -> None:
    assert list(declarations(line)) == ["/x"]
