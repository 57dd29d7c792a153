"""Several workers, as processes of the real gateway. What the supervisor decides is shown in server/test_workers."""

import os
import pickle
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import trustme

from gateway import supervising
from gateway.config import Settings
from gateway.observe import Collector
from gateway.testing.processes import PATIENCE, GatewayProcess, free_port

NOBODY = {"SERVICE1_URL": "http://127.0.0.1:1"}


@contextmanager
def two_workers(folder: Path, **variables: str) -> Iterator[GatewayProcess]:
    with GatewayProcess({**NOBODY, "GATEWAY_WORKERS": "2", **variables}, folder) as gateway:
        gateway.until("a worker is ready", 2)
        yield gateway


def pids(gateway: GatewayProcess) -> list[int]:
    """Of all workers that ever got ready, in that order."""
    return [line["worker"] for line in gateway.told("a worker is ready")]


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def until_dead(pid: int) -> None:
    deadline = monotonic() + PATIENCE
    while is_alive(pid):
        assert monotonic() < deadline, f"{pid} is still there"
        sleep(0.02)


def holder(client: socket.socket) -> int:
    """The process that has the other end of this connection, as the kernel tells."""
    ours, theirs = client.getsockname()[1], client.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        local, remote = (int(words[column].rpartition(":")[2], 16) for column in (1, 2))
        if (local, remote) == (theirs, ours):
            wanted = f"socket:[{words[9]}]"
            for link in Path("/proc").glob("[0-9]*/fd/*"):
                with suppress(OSError):
                    if str(link.readlink()) == wanted:
                        return int(link.parts[2])
    raise AssertionError("nobody has it")


def ask(client: socket.socket, path: str = "/livez") -> bytes:
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
    return client.recv(65536)


def test_killed_worker_is_replaced_and_what_the_others_do_is_finished(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as backend,
        two_workers(tmp_path, SERVICE1_URL=url_of(backend), GATEWAY_HEALTH_TIMEOUT="50ms") as gateway,
    ):
        clients = [socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) for _ in range(4)]
        assert all(b" 200 " in ask(client) for client in clients)
        holders = [holder(client) for client in clients]
        assert sorted(set(holders)) == sorted(pids(gateway))  # each got some
        victim = holders[0]
        os.kill(victim, signal.SIGKILL)
        gateway.until("a worker is ready", 3)
        for client, pid in zip(clients, holders, strict=True):
            with client:
                if pid == victim:
                    with suppress(ConnectionError):
                        assert ask(client) == b""
                else:
                    assert b" 200 " in ask(client)
        assert gateway.get("/readyz") == (200, b"ok")

        with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as client:
            client.sendall(b"GET /api/service1/slow HTTP/1.1\r\nHost: gateway\r\n\r\n")
            with accept_for(backend, b"/api/slow") as connection:
                gateway.signal(signal.SIGINT)
                gateway.until("a worker has left")  # the one that has nothing to do
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", gateway.port), PATIENCE)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
                answer = b"".join(iter(partial(client.recv, 65536), b""))
        assert answer.endswith(b"\r\n\r\ndone")
        assert gateway.wait() == 0
    (death,) = gateway.told("a worker has died")
    assert (death["worker"], death["how"]) == (victim, "killed by SIGKILL")
    stopped = gateway.told("the gateway has stopped")
    assert sorted(line["finished"] for line in stopped) == [0, 1]
    assert {line["worker"] for line in stopped} == set(pids(gateway)) - {victim}
    assert not any(map(is_alive, pids(gateway)))


def url_of(backend: socket.socket) -> str:
    return f"http://127.0.0.1:{backend.getsockname()[1]}"


def accept_for(backend: socket.socket, path: bytes) -> socket.socket:
    """The connection that asks for this path; those of health probes are closed."""
    while True:
        connection, _ = backend.accept()
        connection.settimeout(PATIENCE)
        if path in connection.recv(65536):
            return connection
        connection.close()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def issue(authority: trustme.CA, folder: Path, name: str) -> None:
    issued = authority.issue_cert("127.0.0.1", organization_name=name)
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))


def ask_over_tls(authority: trustme.CA, port: int, path: str) -> tuple[str, bytes]:
    """Whose certificate was shown, and the answer's status."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        subject: Any = (client.getpeercert() or {})["subject"]
        return str(dict(field[0] for field in subject)["organizationName"]), ask(client, path).split()[1]


def test_hangup_takes_up_configuration_and_certificate_where_they_can_be_used(
    tmp_path: Path, authority: trustme.CA
) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("SERVICE1_PREFIX=/old\n")
    issue(authority, tmp_path, "old")
    port = free_port()
    variables = {
        "GATEWAY_TLS_CERT": "cert.pem",
        "GATEWAY_TLS_KEY": "key.pem",
        "GATEWAY_ADMIN_PORT": str(port),
    }
    with two_workers(tmp_path, **variables) as gateway:
        assert ask_over_tls(authority, gateway.port, "/old/x") == ("old", b"503")
        dotenv.write_text("SERVICE1_PREFIX=old\nGATEWAY_TIMEOUT=no\n")
        gateway.signal(signal.SIGHUP)
        gateway.until("SIGHUP: the configuration cannot be used, the old one stays")
        faults = [line["message"] for line in gateway.log if line["level"] == "ERROR"]
        assert [fault.partition(":")[0] for fault in faults] == ["GATEWAY_TIMEOUT", "SERVICE1_PREFIX", "SIGHUP"]
        os.kill(pids(gateway)[0], signal.SIGKILL)  # who takes its place is told what its fellow was told
        gateway.until("a worker is ready", 3)
        assert {ask_over_tls(authority, gateway.port, "/old/x")[1] for _ in range(4)} == {b"503"}

        dotenv.write_text("SERVICE1_PREFIX=/new\nGATEWAY_XYZ=1\nGATEWAY_PORT=1\n")
        issue(authority, tmp_path, "new")
        gateway.signal(signal.SIGHUP)
        gateway.until("all workers are replaced")
        gateway.until("a worker has left", 2)
        assert {ask_over_tls(authority, gateway.port, "/new/x") for _ in range(4)} == {("new", b"503")}
        assert ask_over_tls(authority, gateway.port, "/old/x") == ("new", b"404")
        assert gateway.told("GATEWAY_XYZ is not a variable of the gateway") != []

        # Each has admin pages of its own, at its place.
        told = [gateway.get("/metrics", port=port + place)[1].decode() for place in range(2)]
        assert all(f'pid="{pid}"' in text for pid, text in zip(pids(gateway)[3:], told, strict=True))
        assert gateway.get("/debug/exchanges", port=port) == (200, b"[]\n")
        assert gateway.stop() == 0
    assert gateway.err == ""


def test_workers_leave_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with two_workers(tmp_path) as gateway:
        gateway.process.kill()
        gateway.wait()
        for pid in pids(gateway):
            until_dead(pid)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", gateway.port), PATIENCE)


def test_second_interrupt_does_not_wait_for_requests_in_flight(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as backend,
        two_workers(tmp_path, SERVICE1_URL=url_of(backend), GATEWAY_HEALTH_TIMEOUT="50ms") as gateway,
        socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as client,
    ):
        client.sendall(b"GET /api/service1/slow HTTP/1.1\r\nHost: gateway\r\n\r\n")
        with accept_for(backend, b"/api/slow"):
            gateway.signal(signal.SIGINT)
            gateway.until("a worker has left")
            gateway.signal(signal.SIGINT)
            assert gateway.wait() == 1
        assert gateway.err.strip() == "Aborted!"
        assert not any(map(is_alive, pids(gateway)))


@pytest.mark.parametrize("variable", ["GATEWAY_PORT", "GATEWAY_ADMIN_PORT"])
def test_address_in_use_is_one_line_and_exit_1(tmp_path: Path, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with GatewayProcess({**NOBODY, "GATEWAY_WORKERS": "2", variable: str(port)}, tmp_path) as gateway:
            assert gateway.wait() == 1
    assert (gateway.log, gateway.err) == ([], f"{variable}: {port} is in use on 127.0.0.1\n")


def test_count_is_as_set_or_one_for_each_core() -> None:
    assert supervising.worker_count(Settings(workers=3)) == 3
    assert supervising.worker_count(Settings(workers=0)) == len(os.sched_getaffinity(0))


def test_reload_takes_up_all_but_the_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("GATEWAY_", "SERVICE")):
            monkeypatch.delenv(name)
    sink = Collector()
    holder = supervising.Holder(Settings(workers=2), sink, [], [])
    Path(".env").write_text("SERVICE1_URL=http://a\nGATEWAY_WORKERS=3\nGATEWAY_PORT=9\nGATEWAY_ADMIN_PORT=10\n")
    crew = holder.reload()
    assert crew is not None
    assert crew.count == 3
    assert holder.admin == []
    assert [event["message"] for event in sink.events] == [
        "SIGHUP: GATEWAY_PORT takes a restart; the old one stays",
        "SIGHUP: GATEWAY_ADMIN_PORT takes a restart; the old one stays",
        "SIGHUP: every worker is replaced",
    ]
    settings, public, admin = pickle.loads(crew.order(0))  # noqa: S301 - of our own making
    assert (settings.services[0].host, settings.warnings, public, admin) == ("a", (), [], None)


def test_worker_finds_the_package_where_its_supervisor_did(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a folder ``gateway`` in the working directory holds is for a supervisor that itself looked there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/usr/bin", *sys.path])
    assert supervising.command(7) == [sys.executable, "-P", "-m", "gateway", "worker", "7"]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert supervising.command(7) == [sys.executable, "-m", "gateway", "worker", "7"]
