import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import sockets
from gateway.config import Settings
from gateway.sockets import CannotListen
from gateway.testing.processes import far_descriptor


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 that another one listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@pytest.mark.parametrize(
    ("host", "family", "address"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
        ("localhost", socket.AF_INET, "127.0.0.1"),
        ("::1", socket.AF_INET6, "::1"),
    ],
)
def test_address_is_bound_and_nothing_listens_yet(host: str, family: int, address: str) -> None:
    with sockets.bind(Settings(host=host, port=0)) as sock:
        assert (sock.family, sock.getsockname()[0]) == (family, address)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        sockets.listen(sock, Settings())
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_port_in_use_is_named(taken: int) -> None:
    with pytest.raises(CannotListen, match=f"^GATEWAY_PORT: {taken} is in use on 127.0.0.1$"):
        sockets.bind(Settings(host="127.0.0.1", port=taken))


def test_two_that_bind_at_once_learn_of_it_when_they_listen() -> None:
    with sockets.bind(Settings(host="127.0.0.1", port=0)) as first:
        settings = Settings(host="127.0.0.1", port=first.getsockname()[1])
        with sockets.bind(settings) as second:
            sockets.listen(first, settings)
            with pytest.raises(CannotListen, match=r"GATEWAY_PORT: [0-9]+ is in use"):
                sockets.listen(second, settings)


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("192.0.2.1", "GATEWAY_HOST: 192.0.2.1 is no address of this machine"),
        ("nowhere.invalid", "GATEWAY_HOST: nowhere.invalid is not known"),
    ],
)
def test_host_that_is_not_here_is_named(host: str, line: str) -> None:
    with pytest.raises(CannotListen, match=line):
        sockets.bind(Settings(host=host))


def test_fault_that_is_nobodys_setting_is_raised_as_it_is() -> None:
    with pytest.raises(OSError, match="Too many"), sockets.named_faults("GATEWAY", "a", 1):
        raise OSError(errno.EMFILE, "Too many open files")


# ---- Unix sockets


def test_path_is_bound_and_a_left_over_one_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    settings = Settings(host=f"unix:{path}")
    for _ in range(2):  # the second time its file is left over
        with sockets.bind(settings) as sock:
            sockets.listen(sock, settings)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
        assert stat.S_ISSOCK(path.stat().st_mode)


def test_path_that_somebody_listens_on_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(CannotListen, match=r"GATEWAY_HOST: unix:\S+ is in use"):
            sockets.bind(Settings(host=f"unix:{path}"))


def test_file_that_is_no_socket_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(CannotListen, match="is in use, or no socket"):
        sockets.bind(Settings(host=f"unix:{path}"))
    assert path.read_text() == "mine"


def test_path_in_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match=r"GATEWAY_HOST: unix:\S+ cannot be made \(No such file or directory\)"):
        sockets.bind(Settings(host=f"unix:{tmp_path}/nowhere/gateway.sock"))


# ---- admin pages


def test_admin_pages_are_off_without_a_port() -> None:
    assert sockets.bind_admin(Settings()) is None


def test_each_worker_has_the_next_port_for_its_admin_pages(taken: int) -> None:
    settings = Settings(admin_port=taken - 1)
    with pytest.raises(CannotListen, match=f"^GATEWAY_ADMIN_PORT: {taken} is in use on 127.0.0.1$"):
        sockets.bind_admin(settings, 1)
    with pytest.raises(CannotListen, match=r"^GATEWAY_ADMIN_PORT: 65535 leaves no port for worker 2$"):
        sockets.bind_admin(Settings(admin_port=65535), 1)


def test_admin_pages_listen_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    sock = sockets.bind_admin(Settings(admin_port=port))
    assert sock is not None
    with sock:
        assert sock.getsockname() == ("127.0.0.1", port)
        socket.create_connection(("127.0.0.1", port)).close()


# ---- inherited

CHILD = """
import json, os, sys
os.environ["LISTEN_PID"] = str(os.getpid())  # systemd sets it between fork and exec
from gateway import sockets
try:
    public, admin = sockets.inherited()
except sockets.CannotListen as error:
    sys.exit(str(error))
print(json.dumps([[[s.fileno(), os.get_inheritable(s.fileno())] for s in each] for each in (public, admin)]))
print(json.dumps([name for name in os.environ if name.startswith("LISTEN")]))
"""


def inherit(descriptors: list[int], **environ: str) -> subprocess.CompletedProcess[str]:
    """Start a process as systemd does: with these descriptors as 3, 4, …"""
    moves = " ".join(f"{3 + index}<&{number}" for index, number in enumerate(descriptors))
    return subprocess.run(  # noqa: S603 - fixed
        ["/bin/bash", "-c", f'exec "$@" {moves}', "-", sys.executable, "-c", CHILD],
        env={**os.environ, "LISTEN_FDS": str(len(descriptors)), **environ},
        pass_fds=descriptors,
        capture_output=True,
        text=True,
        check=False,
    )


def test_sockets_of_systemd_are_taken_and_their_variables_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        numbers = [far_descriptor(sock.fileno()) for sock in (one, two, one)]
        try:
            done = inherit(numbers, LISTEN_FDNAMES="http:admin:https")
        finally:
            for number in numbers:
                os.close(number)
    assert done.stdout.splitlines() == ["[[[3, false], [5, false]], [[4, false]]]", "[]"]


def test_what_is_for_another_process_is_not_taken() -> None:
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}
    assert sockets.inherited(environ) == ([], [])
    assert environ == {}
    assert sockets.inherited({}) == ([], [])


@pytest.mark.parametrize("kind", ["file", "datagrams"])
def test_descriptor_that_cannot_be_listened_on_is_named(tmp_path: Path, kind: str) -> None:
    if kind == "file":
        number = os.open(tmp_path / "file", os.O_CREAT)
    else:
        number = socket.socket(type=socket.SOCK_DGRAM).detach()
    far = far_descriptor(number)
    try:
        done = inherit([far])
    finally:
        os.close(number)
        os.close(far)
    what = "socket (Socket operation on non-socket)" if kind == "file" else "stream socket"
    assert (done.returncode, done.stderr) == (1, f"LISTEN_FDS: descriptor 3 is no {what}\n")
