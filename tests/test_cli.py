import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner, Result

from gateway import __version__
from gateway.cli import main

GOOD = {"SERVICE1_URL": "http://service1:8001", "SERVICE2_URL": "https://service2/v2"}


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, and no variable of ours from outside."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("GATEWAY_", "SERVICE")):
            monkeypatch.delenv(name)


def run(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, arguments, env=env)


@contextmanager
def answering(status: int, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server on loopback that answers each GET of /health with this status; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        if context is not None:
            httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield str(httpd.server_port)
        finally:
            httpd.shutdown()
            thread.join()


def test_version_is_printed() -> None:
    result = run("version")
    assert (result.exit_code, result.output) == (0, f"{__version__}\n")


def test_module_is_the_same_command() -> None:
    command = [sys.executable, "-m", "gateway", "version"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"{__version__}\n"  # noqa: S603 - fixed


@pytest.mark.parametrize("command", ["version", "healthcheck"])
def test_command_that_containers_call_loads_neither_server_nor_pydantic(command: str) -> None:
    code = """
import sys
from click.testing import CliRunner
from gateway.cli import main
assert CliRunner().invoke(main, sys.argv[1]).output
print(*{"trio", "hypercorn", "httpx", "quart", "pydantic"} & set(sys.modules))
"""
    env = os.environ | {"GATEWAY_PORT": "1"}
    found = subprocess.run([sys.executable, "-c", code, command], check=True, capture_output=True, text=True, env=env)  # noqa: S603 - fixed
    assert found.stdout == "\n"


@pytest.mark.requirement("FR-011")
def test_good_configuration_is_told_with_its_services() -> None:
    result = run("check", env=GOOD)
    assert (result.exit_code, result.output) == (0, "The configuration is good. Services: service1, service2.\n")


@pytest.mark.requirement("FR-011")
@pytest.mark.parametrize("command", ["check", "serve", "routes", "explain GET /"])
def test_faulty_configuration_is_one_line_per_fault_and_no_traceback(command: str) -> None:
    result = run(*command.split(), env={"GATEWAY_PORT": "70000", "GATEWAY_TIMEUOT": "1", "SERVICE1_URL": "service1"})
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "warning: GATEWAY_TIMEUOT is not a variable of the gateway; did you mean GATEWAY_TIMEOUT?",
        "GATEWAY_PORT: '70000'; expected a port, 1 to 65535",
        "SERVICE1_URL: 'service1'; expected a URL that begins with http:// or https://, such as http://service1:8001",
    ]


def test_warning_leaves_the_configuration_good() -> None:
    result = run("check", env=GOOD | {"GATEWAY_TIMEUOT": "1"})
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: GATEWAY_TIMEUOT")


@pytest.mark.parametrize(("status", "exit_code", "told"), [(200, 0, "up in "), (500, 1, "down in ")])
def test_probe_asks_each_service_on_its_health_path(status: int, exit_code: int, told: str) -> None:
    with answering(status) as port:
        result = run("check", "--probe", env={"SERVICE1_URL": f"http://127.0.0.1:{port}"})
    assert result.exit_code == exit_code
    assert result.output.splitlines()[1].startswith(f"service1  {told}")


def test_probe_of_a_service_that_is_not_there_is_told_beside_those_that_are() -> None:
    with answering(200) as port:
        env = {"SERVICE1_URL": f"http://127.0.0.1:{port}", "SERVICE10_URL": "http://127.0.0.1:1"}
        result = run("check", "--probe", env=env)
    assert result.exit_code == 1
    _, up, down = result.output.splitlines()
    assert up.startswith("service1   up in ")
    assert down.startswith("service10  down: no connection")


def test_routes_are_a_table() -> None:
    result = run("routes", env=GOOD)
    assert result.exit_code == 0
    assert (
        result.output
        == """\
PREFIX         SERVICE      UPSTREAM
/api/service1  service1     http://service1:8001/api
/api/service2  service2     https://service2:443/v2/api
/health        the gateway
/livez         the gateway
/readyz        the gateway
/api/gateway   the gateway
"""
    )


def test_request_is_explained_with_the_headers_given() -> None:
    result = run("explain", "GET", "/api/service1", "-H", "X-A: 1", "--client", "192.0.2.1", env=GOOD)
    assert result.exit_code == 0
    assert "request   GET /api HTTP/1.1\n" in result.output
    assert "  = X-A: 1\n" in result.output
    assert "  + x-forwarded-for: 192.0.2.1\n" in result.output


def test_header_without_a_colon_is_a_usage_error() -> None:
    result = run("explain", "GET", "/", "-H", "nonsense", env=GOOD)
    assert result.exit_code == 2
    assert "NAME:VALUE" in result.stderr


@pytest.mark.parametrize(("status", "exit_code", "said"), [(200, 0, "healthy\n"), (503, 1, "unhealthy: 503\n")])
def test_healthcheck_tells_what_health_answers(status: int, exit_code: int, said: str) -> None:
    with answering(status) as port:
        result = run("healthcheck", env={"GATEWAY_PORT": port})
    assert (result.exit_code, result.output) == (exit_code, said)


def test_healthcheck_speaks_tls_where_the_gateway_does() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("gateway.example").configure_cert(context)
    with answering(200, context) as port:
        assert run("healthcheck", env={"GATEWAY_PORT": port, "GATEWAY_TLS_CERT": "cert.pem"}).exit_code == 0
        assert run("healthcheck", env={"GATEWAY_PORT": port}).exit_code == 1


def test_healthcheck_reads_dotenv(tmp_path: Path) -> None:
    with answering(200) as port:
        (tmp_path / ".env").write_text(f"GATEWAY_PORT={port}\nSERVICE1_URL=http://a\n", encoding="utf-8")
        assert run("healthcheck").exit_code == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, b"GET "),
        ({"GATEWAY_PROXY_PROTOCOL": "true", "GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8"}, b"GET "),
        ({"GATEWAY_PROXY_PROTOCOL": "true", "GATEWAY_TRUSTED_PROXIES": "127.0.0.0/8"}, b"PROXY UNKNOWN\r\nGET "),
    ],
)
def test_healthcheck_begins_as_the_gateway_expects_from_its_address(variables: dict[str, str], said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard = _answer_one(listener)
        port = str(listener.getsockname()[1])
        assert run("healthcheck", env={"GATEWAY_PORT": port, **variables}).exit_code == 0
    assert heard().startswith(said + b"/health ")


def test_healthcheck_finds_the_gateway_on_its_path(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    host = f"unix:{path}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        heard = _answer_one(listener)
        assert run("healthcheck", env={"GATEWAY_HOST": host}).exit_code == 0
    assert heard().startswith(b"GET /health ")
    result = run("healthcheck", env={"GATEWAY_HOST": host})
    assert result.stderr.startswith(f"unhealthy: no answer from {host}")


def _answer_one(listener: socket.socket) -> Callable[[], bytes]:
    """Answer one connection with 200; gives what tells what it had said."""
    heard: list[bytes] = []

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            heard.append(data)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()

    def told() -> bytes:
        thread.join()
        return heard[0]

    return told


def test_healthcheck_without_a_gateway_is_unhealthy() -> None:
    result = run("healthcheck", env={"GATEWAY_PORT": "1", "GATEWAY_HOST": "::"})
    assert result.exit_code == 1
    assert result.stderr.startswith("unhealthy: no answer from port 1")


def test_healthcheck_with_a_faulty_port_names_it() -> None:
    result = run("healthcheck", env={"GATEWAY_PORT": "many"})
    assert result.exit_code == 1
    assert "GATEWAY_PORT: expected a port" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["G ET", "/x"], "'G ET' is not a method"),
        (["", "/x"], "'' is not a method"),
        (["GET", "/x", "--client", "nonsense"], "'nonsense' is not an IP address"),
    ],
)
def test_explain_of_what_is_no_request_is_a_usage_error(arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(main, ["explain", *arguments])
    assert result.exit_code == 2
    assert why in result.output
