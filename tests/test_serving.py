import http.client
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from ipaddress import ip_network
from math import inf
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import trio
import trustme

from gateway import serving
from gateway.config import Service, Settings
from gateway.observe import Collector
from gateway.sockets import CannotListen
from gateway.testing.processes import PATIENCE, GatewayProcess, far_descriptor, free_port

ONE = Service(name="service1", host="127.0.0.1", port=1)
NOBODY = {"SERVICE1_URL": "http://127.0.0.1:1"}


async def ask(address: tuple[str, int] | str, path: str, *, before: bytes = b"") -> bytes:
    """The answer to a GET, over TCP or a Unix socket."""
    if isinstance(address, str):
        stream = await trio.open_unix_socket(address)
    else:
        stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(before + f"GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n".encode())
        return b"".join([piece async for piece in stream])


@asynccontextmanager
async def served(settings: Settings, **options: Any) -> AsyncIterator[tuple[list[str], Collector]]:
    """The addresses of a gateway in this process, and its log."""
    stop, sink = trio.Event(), Collector()
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(serving.serve, settings, shutdown=stop.wait, sink=sink, **options)), sink
        stop.set()


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
    assert limits.max_connections == resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
    assert serving.connections_for(resource.RLIM_INFINITY) == inf


async def test_address_that_cannot_be_listened_on_ends_it_before_the_app_starts() -> None:
    sink = Collector()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(host="127.0.0.1", port=port, services=(ONE,))
        with pytest.raises(CannotListen, match=f"^GATEWAY_PORT: {port} is in use on 127.0.0.1$"):
            await serving.serve(settings, shutdown=trio.sleep_forever, sink=sink)
    assert sink.events == []


async def test_server_runs_until_shutdown_returns() -> None:
    port = free_port()
    service = Service(name="service1", host="service1", port=80, base_path="/v1")
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=request.extensions.get("target", b"")))
    settings = Settings(host="localhost", port=port, services=(service,))
    async with served(settings, transports={"service1": transport}) as (binds, sink):
        assert binds == [f"http://127.0.0.1:{port}"]
        assert (await ask(("127.0.0.1", port), "/livez")).startswith(b"HTTP/1.1 200 ")
        assert (await ask(("127.0.0.1", port), "/api/service1/x?y")).endswith(b"/v1/api/x?y")
    assert [event["message"] for event in sink.events] == [
        "the gateway is running",
        "the gateway is stopping",
        "the gateway has stopped",
    ]


async def test_path_is_listened_on(tmp_path: Path) -> None:
    path = str(tmp_path / "gateway.sock")
    async with served(Settings(host=f"unix:{path}", services=(ONE,))) as (binds, sink):
        assert binds == [f"http://unix:{path}"]
        assert (await ask(path, "/api/service1/x")).startswith(b"HTTP/1.1 503 ")
    assert sink.records[0].client_ip == ""


async def test_admin_pages_have_a_listener_of_their_own() -> None:
    port, admin = free_port(), free_port()
    async with served(Settings(host="127.0.0.1", port=port, admin_port=admin, services=(ONE,))) as (binds, sink):
        assert binds == [f"http://127.0.0.1:{port}"]
        assert f'pid="{os.getpid()}"'.encode() in await ask(("127.0.0.1", admin), "/metrics")
        assert (await ask(("127.0.0.1", port), "/metrics")).startswith(b"HTTP/1.1 404 ")
        assert [record.path for record in sink.records] == ["/metrics"]


@pytest.mark.parametrize("believed", [True, False])
async def test_proxy_header_is_for_trusted_networks_where_it_is_asked_for(*, believed: bool) -> None:
    port = free_port()
    settings = Settings(
        host="127.0.0.1",
        port=port,
        proxy_protocol=believed,
        trusted_proxies=(ip_network("127.0.0.0/8"),),
        services=(ONE,),
    )
    async with served(settings) as (_, sink):
        line = b"PROXY TCP4 203.0.113.9 127.0.0.1 1000 80\r\n"
        answer = await ask(("127.0.0.1", port), "/livez", before=line)
        assert answer.split()[1] == (b"200" if believed else b"400")
        if not believed:
            await ask(("127.0.0.1", port), "/livez")
    assert sink.records[-1].client_ip == ("203.0.113.9" if believed else "127.0.0.1")


async def test_hangup_reads_the_certificate_again_and_keeps_the_old_one_where_that_fails(tmp_path: Path) -> None:
    authority = trustme.CA()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def issue(name: str) -> None:
        issued = authority.issue_cert("127.0.0.1", organization_name=name)
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))

    async def shown() -> str:
        stream = trio.SSLStream(
            await trio.open_tcp_stream("127.0.0.1", port), context, server_hostname="127.0.0.1", https_compatible=True
        )
        async with stream:
            await stream.do_handshake()
            subject: Any = (stream.getpeercert() or {})["subject"]
            return str(dict(field[0] for field in subject)["organizationName"])

    async def hang_up(times: int) -> None:
        await send.send(signal.SIGHUP)
        with trio.fail_after(5):
            while len(told(sink)) < times:  # noqa: ASYNC110 - a list has no event
                await trio.sleep(0.001)

    issue("old")
    port = free_port()
    send, hangups = trio.open_memory_channel[int](0)
    settings = Settings(host="127.0.0.1", port=port, tls_cert=str(cert), tls_key=str(key), services=(ONE,))
    async with served(settings, hangups=hangups) as (binds, sink):
        assert binds == [f"https://127.0.0.1:{port}"]
        assert await shown() == "old"
        issue("new")
        await hang_up(1)
        assert await shown() == "new"
        await trio.Path(cert).write_text("nonsense")
        await hang_up(2)
        assert await shown() == "new"
    assert told(sink) == [
        "SIGHUP: the certificate was read again",
        "SIGHUP: the certificate cannot be used, the old one stays",
    ]


def told(sink: Collector) -> list[str]:
    return [event["message"] for event in sink.events if event["message"].startswith("SIGHUP")]


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
    with GatewayProcess({**NOBODY, "GATEWAY_TIMEUOT": "1"}, tmp_path) as gateway:
        gateway.until("the gateway is running")
        assert gateway.told("GATEWAY_TIMEUOT is not a variable of the gateway; did you mean GATEWAY_TIMEOUT?") != []
        assert gateway.get("/health")[0] == 200
        assert gateway.get("/api/service1/x")[0] == 503
        gateway.signal(signal.SIGHUP)  # without a certificate there is nothing to read again, and no reason to end
        gateway.until("SIGHUP: there is no certificate to read again; all else takes a restart")
        gateway.signal(number)
        assert gateway.wait() == 0
    assert gateway.err == ""
    assert gateway.log[-1]["message"] == "the gateway has stopped"


@contextmanager
def in_flight(tmp_path: Path) -> Iterator[tuple[GatewayProcess, socket.socket, socket.socket]]:
    """A process with one request in flight; gives it, the client's connection and the backend's."""
    with socket.create_server(("127.0.0.1", 0)) as backend:
        url = f"http://127.0.0.1:{backend.getsockname()[1]}"
        env = {"SERVICE1_URL": url, "GATEWAY_HEALTH_TIMEOUT": "100ms"}
        with GatewayProcess(env, tmp_path) as gateway:
            gateway.until("the gateway is running")
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as client:
                client.sendall(b"GET /api/service1/slow HTTP/1.1\r\nHost: gateway\r\n\r\n")
                while True:
                    connection, _ = backend.accept()
                    with connection:
                        if b"/api/slow" in connection.recv(65536):
                            yield gateway, client, connection
                            return


def test_request_in_flight_is_finished_on_sigterm(tmp_path: Path) -> None:
    with in_flight(tmp_path) as (gateway, client, backend):
        gateway.signal(signal.SIGTERM)
        gateway.until("the gateway is stopping")
        assert gateway.process.poll() is None
        backend.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        answer = b"".join(iter(partial(client.recv, 65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"done")
        client.close()
        assert gateway.wait() == 0
    assert gateway.log[-1]["finished"] == 1


def test_second_interrupt_does_not_wait_for_requests_in_flight(tmp_path: Path) -> None:
    with in_flight(tmp_path) as (gateway, _client, _backend):
        gateway.signal(signal.SIGINT)
        gateway.until("the gateway is stopping")
        gateway.signal(signal.SIGINT)
        assert gateway.wait() == 1
    assert gateway.err.strip() == "Aborted!"


def test_port_in_use_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with GatewayProcess({**NOBODY, "GATEWAY_PORT": str(port)}, tmp_path) as gateway:
            assert gateway.wait() == 1
    assert (gateway.log, gateway.err) == ([], f"GATEWAY_PORT: {port} is in use on 127.0.0.1\n")


def test_sockets_of_systemd_are_served_and_tls_offers_both_protocols(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("gateway.example")
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    env = {
        **NOBODY,
        "GATEWAY_TLS_CERT": "cert.pem",
        "GATEWAY_TLS_KEY": "key.pem",
        "LISTEN_FDS": "2",
        "LISTEN_FDNAMES": "https:admin",
    }
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with socket.create_server(("127.0.0.1", 0)) as public, socket.create_server(("127.0.0.1", 0)) as admin:
        far = [far_descriptor(each.fileno()) for each in (public, admin)]
        shell = f'export LISTEN_PID=$$; exec "$0" -m gateway serve 3<&{far[0]} 4<&{far[1]}'
        command = ["/bin/bash", "-c", shell, sys.executable]
        try:
            gateway = GatewayProcess(env, tmp_path, command=command, pass_fds=far)
        finally:
            for number in far:
                os.close(number)
        with gateway:
            gateway.until("the gateway is running")
            for protocol in ("h2", "http/1.1"):
                context.set_alpn_protocols([protocol])
                with (
                    socket.create_connection(public.getsockname(), timeout=PATIENCE) as plain,
                    context.wrap_socket(plain, server_hostname="gateway.example") as client,
                ):
                    assert client.selected_alpn_protocol() == protocol
            assert gateway.get("/readyz", port=admin.getsockname()[1]) == (200, b"ok")
            with pytest.raises(ConnectionRefusedError):
                gateway.get("/readyz")  # GATEWAY_PORT does not count then


def test_worker_whose_supervisor_is_dead_by_then_does_nothing() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    serving.work(theirs.detach())


def test_idle_clients_leave_descriptors_for_backends_and_the_soft_limit_is_raised(tmp_path: Path) -> None:
    command = ("sh", "-c", 'ulimit -Hn 128; ulimit -Sn 40; exec "$@"', "sh", sys.executable, "-m", "gateway", "serve")
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as backend, ExitStack() as stack:
        Thread(target=backend.serve_forever, daemon=True).start()
        env = {"SERVICE1_URL": f"http://127.0.0.1:{backend.server_port}"}
        gateway = stack.enter_context(GatewayProcess(env, tmp_path, command=command))
        gateway.until("the gateway is running")
        client = stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)))
        client.connect()
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
        client.request("GET", "/api/service1/x")
        assert client.getresponse().status == 404
        assert len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir())) > 64
        backend.shutdown()
        assert gateway.stop() == 0
