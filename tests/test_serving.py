import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from gateway import serving
from gateway.config import Service, Settings
from gateway.observe import Collector
from gateway.sockets import CannotListen

ONE = Service(name="service1", host="127.0.0.1", port=1)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def started(env: Mapping[str, str], cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """``gateway serve`` as a process of its own, up and answering."""
    command = [sys.executable, "-m", "gateway", "serve"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "SERVICE"))}
    with subprocess.Popen(  # noqa: S603 - fixed
        command, cwd=cwd, env={**clean, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_running(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    """Read the log up to the line that says so."""
    assert process.stdout is not None
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["message"] == "the gateway is running":
            return events
    assert process.stderr is not None
    pytest.fail(process.stderr.read())


def get(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(partial(client.recv, 65536), b""))


def test_settings_become_the_servers() -> None:
    settings = Settings(
        host="::1", port=8443, tls_cert="cert", tls_key="key", client_timeout=1, drain_delay=2, drain_timeout=3
    )
    config = serving.server_config(settings)
    assert config.bind == ["[::1]:8443"]
    assert serving.server_config(Settings(host="unix:/run/gateway.sock")).bind == ["unix:/run/gateway.sock"]
    assert (config.certfile, config.keyfile, config.alpn_protocols) == ("cert", "key", ["h2", "http/1.1"])
    assert (config.accesslog, config.include_date_header, config.include_server_header) == (None, False, False)
    assert config.h11_pass_raw_headers is True
    limits = serving.server_limits(settings)
    assert (limits.client_timeout, limits.drain_delay, limits.drain_timeout) == (1, 2, 3)


async def test_address_that_cannot_be_listened_on_ends_it_before_the_app_starts() -> None:
    sink = Collector()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(host="127.0.0.1", port=port, services=(ONE,))
        with pytest.raises(CannotListen, match=f"^GATEWAY_PORT: {port} is in use on 127.0.0.1$"):
            await serving.serve(settings, shutdown=trio.sleep_forever, sink=sink)
    assert sink.events == []


async def test_server_runs_until_shutdown_returns() -> None:
    stop = trio.Event()
    sink = Collector()
    port = free_port()
    async with trio.open_nursery() as nursery:
        service = Service(name="service1", host="service1", port=80, base_path="/v1")
        settings = Settings(host="localhost", port=port, services=(service,))
        transports = {
            "service1": httpx.MockTransport(
                lambda request: httpx.Response(200, content=request.extensions.get("target", b""))
            )
        }
        serve = partial(serving.serve, settings, shutdown=stop.wait, transports=transports, sink=sink)
        binds = await nursery.start(serve)
        assert binds == [f"http://127.0.0.1:{port}"]
        assert (await trio.to_thread.run_sync(get, port, "/livez")).startswith(b"HTTP/1.1 200 ")
        answer = await trio.to_thread.run_sync(get, port, "/api/service1/x?y")
        assert answer.endswith(b"/v1/api/x?y")
        stop.set()
    assert [event["message"] for event in sink.events] == [
        "the gateway is running",
        "the gateway is stopping",
        "the gateway has stopped",
    ]


async def test_probe_tells_of_every_service() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        up = Service(name="service2", host="127.0.0.1", port=listeners[0].socket.getsockname()[1])
        verdicts = await serving.probe(Settings(services=(ONE, up)))
        nursery.cancel_scope.cancel()
    assert {name: verdict.state for name, verdict in verdicts.items()} == {"service1": "down", "service2": "up"}


async def test_first_signal_is_caught_and_the_second_is_not() -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with serving.stop_signal() as stopped:
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(1):
            await stopped()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_process_with_0_after_its_last_log_line(number: signal.Signals, tmp_path: Path) -> None:
    port = free_port()
    env = {
        "GATEWAY_PORT": str(port),
        "SERVICE1_URL": "http://127.0.0.1:1",
        "GATEWAY_TIMEUOT": "1",
    }
    with started(env, tmp_path) as process:
        messages = [event["message"] for event in wait_until_running(process)]
        assert "GATEWAY_TIMEUOT is not a variable of the gateway; did you mean GATEWAY_TIMEOUT?" in messages
        assert get(port, "/health").startswith(b"HTTP/1.1 200 ")
        assert get(port, "/api/service1/x").startswith(b"HTTP/1.1 503 ")
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert err == ""
    assert json.loads(out.splitlines()[-1])["message"] == "the gateway has stopped"


@contextmanager
def in_flight(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], socket.socket, socket.socket]]:
    """A process with one request in flight; gives it, the client's connection and the backend's."""
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as backend:
        url = f"http://127.0.0.1:{backend.getsockname()[1]}"
        env = {"GATEWAY_PORT": str(port), "SERVICE1_URL": url, "GATEWAY_HEALTH_TIMEOUT": "100ms"}
        with started(env, tmp_path) as process:
            wait_until_running(process)
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(b"GET /api/service1/slow HTTP/1.1\r\nHost: gateway\r\n\r\n")
                while True:
                    connection, _ = backend.accept()
                    with connection:
                        if b"/api/slow" in connection.recv(65536):
                            yield process, client, connection
                            return


def test_request_in_flight_is_finished_on_sigterm(tmp_path: Path) -> None:
    with in_flight(tmp_path) as (process, client, backend):
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
        backend.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        answer = b"".join(iter(partial(client.recv, 65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"done")
        out, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1])["finished"] == 1


def test_second_interrupt_does_not_wait_for_requests_in_flight(tmp_path: Path) -> None:
    with in_flight(tmp_path) as (process, _client, _backend):
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=5)
    assert process.returncode == 1
    assert err.strip() == "Aborted!"


def test_port_in_use_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = {"GATEWAY_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICE1_URL": "http://127.0.0.1:1"}
        with started(env, tmp_path) as process:
            out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (1, "", f"GATEWAY_PORT: {port} is in use on 127.0.0.1\n")


def test_tls_offers_both_protocols(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("gateway.example")
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    port = free_port()
    env = {
        "GATEWAY_PORT": str(port),
        "GATEWAY_TLS_CERT": "cert.pem",
        "GATEWAY_TLS_KEY": "key.pem",
        "SERVICE1_URL": "http://127.0.0.1:1",
    }
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with started(env, tmp_path) as process:
        wait_until_running(process)
        for protocol in ("h2", "http/1.1"):
            context.set_alpn_protocols([protocol])
            with (
                socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
                context.wrap_socket(plain, server_hostname="gateway.example") as client,
            ):
                assert client.selected_alpn_protocol() == protocol
