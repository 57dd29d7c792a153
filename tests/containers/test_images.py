"""The real files, really built and run. Skipped but in ``nox -s containers``; the names say what is shown."""

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from .conftest import Engine, empty

COMPOSE = ("-f", "containers/compose.yaml", "-p", "gateway-tests")
PROGRAMS = ("gcc", "cc", "make", "pip", "pip3", "uv", "hatchling", "git")


@dataclass(frozen=True, slots=True)
class Stack:
    engine: Engine
    url: str
    seconds: float
    """From an engine without images to the first answer through the gateway."""

    def container(self, service: str) -> str:
        return f"gateway-tests_{service}_1"


def first_answer(url: str, *, within: float) -> None:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    pytest.fail(f"no good answer from {url} in {within} s")


@pytest.fixture(scope="module")
def stack(engine: Engine) -> Iterator[Stack]:
    empty(engine)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {"PUBLISH": f"127.0.0.1:{port}", "BASE": "python:3.11-slim-bookworm"}
    started = time.monotonic()
    # Docker's own image format: the other one has no HEALTHCHECK. Two at once is what the file needs, and no more.
    build = ("--podman-build-args", "--format docker --pull=never", "--parallel", "2")
    engine("podman-compose", *build, *COMPOSE, "build", "gateway", "service1", variables=environment)
    built = time.monotonic()
    engine("podman-compose", *COMPOSE, "up", "--detach", "--no-build", variables=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        first_answer(f"{url}/api/service1/health", within=30)
        ready = time.monotonic()
        figures = f"images built in {built - started:.1f} s, first answer {ready - built:.1f} s later"
        print(f"\n{figures}")  # noqa: T201 - the figure is what one runs this for
        # Podman's compose starts all at once, where Docker's waits until the services are healthy.
        first_answer(f"{url}/api/service2/health", within=30)
        yield Stack(engine, url, ready - started)
    finally:
        engine("podman-compose", *COMPOSE, "down", check=False, variables=environment)


@pytest.mark.requirement("FR-010")
def test_compose_answers_through_the_gateway_for_both_services(stack: Stack) -> None:
    order = {
        "order_id": "A-1",
        "customer_id": "C-1",
        "items": [{"product_id": "P", "quantity": 1}],
        "total_amount": 9.5,
    }
    placed = httpx.post(f"{stack.url}/api/service1/orders", json=order)
    note = {"recipient": "a@example.com", "notification_type": "EMAIL", "message": "hello"}
    sent = httpx.post(f"{stack.url}/api/service2/notifications/send", json=note)
    assert (placed.status_code, placed.json()["status"]) == (202, "accepted")
    assert (sent.status_code, sent.json()["status"]) == (200, "sent")


@pytest.mark.requirement("SC-006")
def test_first_answer_comes_within_three_minutes_of_an_empty_engine(stack: Stack) -> None:
    assert stack.seconds < 180


def test_only_the_gateways_port_is_published(stack: Stack) -> None:
    ports = {
        name: stack.engine("podman", "port", stack.container(name)) for name in ("gateway", "service1", "service2")
    }
    assert ports == {"gateway": f"8000/tcp -> {stack.url.removeprefix('http://')}", "service1": "", "service2": ""}


@pytest.mark.parametrize("service", ["gateway", "service1", "service2"])
def test_running_container_is_healthy_and_not_root(stack: Stack, service: str) -> None:
    container = stack.container(service)
    stack.engine("podman", "healthcheck", "run", container)
    assert stack.engine("podman", "exec", container, "id", "-u") == "65532"


@pytest.mark.parametrize("image", ["api-gateway", "api-gateway-service"])
def test_image_says_what_it_is_and_how_to_stop_it(stack: Stack, image: str) -> None:
    template = '{{.Config.User}} {{.Config.StopSignal}} {{index .Labels "org.opencontainers.image.title"}}'
    assert stack.engine.inspect(image, template) in {f"65532:65532 SIGTERM {image}", f"65532:65532 15 {image}"}
    assert stack.engine.inspect(image, "{{.HealthCheck.Test}}").startswith("[CMD ")


def test_gateway_image_holds_no_build_tools_and_no_services(stack: Stack) -> None:
    search = f"for each in {' '.join(PROGRAMS)}; do command -v $each; done; ls /app/lib/python3*/site-packages"
    found = stack.engine("podman", "run", "--rm", "--entrypoint", "sh", "api-gateway", "-c", search).split()
    assert "gateway" in found
    assert not set(found) & {"fixture_common", "pip", "setuptools", "hatchling", "pytest"}
    assert not [line for line in found if line.startswith("/")]


def test_sigterm_ends_every_container_with_exit_code_0(stack: Stack) -> None:
    for service in ("gateway", "service1", "service2"):
        stack.engine("podman", "stop", "--time", "30", stack.container(service))
        assert stack.engine.inspect(stack.container(service), "{{.State.ExitCode}}") == "0"
