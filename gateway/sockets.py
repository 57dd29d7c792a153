"""The sockets that the gateway listens on: bound to the addresses that are set, or inherited from who started it.

A fault is told as that of the variable that is to be changed. What never lives here: accepting, TLS.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from gateway.config import Settings

BACKLOG = 1024
"""Connections that wait to be accepted; the kernel may allow fewer (net.core.somaxconn)."""
FIRST_INHERITED = 3
"""The first descriptor that systemd passes on (sd_listen_fds(3))."""
ADMIN = "admin"
"""What FileDescriptorName= says of the socket for the admin pages; all others are public."""

_CANNOT_LISTEN = {
    errno.EADDRINUSE: "{variable}_PORT: {port} is in use on {host}",
    errno.EACCES: "{variable}_PORT: {port} is not for this user to listen on; expected one from 1024 up",
    errno.EADDRNOTAVAIL: "{variable}_HOST: {host} is no address of this machine",
    errno.EAFNOSUPPORT: "{variable}_HOST: {host} is of a family that this machine does not speak",
}
"""What bind(2) and listen(2) say to a wrong address, as the fault of the variable that is to be changed."""


class CannotListen(Exception):
    """The address that is set cannot be listened on. ``str(error)`` is one line that names the variable."""


def bind(settings: Settings) -> socket.socket:
    """Bind the public address; nothing listens on it yet. Raises CannotListen."""
    if settings.host.startswith("unix:"):
        return _bind_unix(Path(settings.host.removeprefix("unix:")))
    return _bind_tcp("GATEWAY", settings.host, settings.port)


def bind_admin(settings: Settings, index: int = 0) -> socket.socket | None:
    """Bind and listen for the admin pages of this worker, None where they are off. Raises CannotListen.

    Each worker has a port of its own, so that its figures are its own: behind one port, who asks twice would hear of
    two processes, and take the counter that fell for a restart.
    """
    if settings.admin_port is None:
        return None
    port = settings.admin_port + index
    if port > 65535:
        raise CannotListen(f"GATEWAY_ADMIN_PORT: {settings.admin_port} leaves no port for worker {index + 1}")
    sock = _bind_tcp("GATEWAY_ADMIN", settings.admin_host, port)
    with named_faults("GATEWAY_ADMIN", settings.admin_host, port):
        sock.listen(BACKLOG)
    return sock


def listen(sock: socket.socket, settings: Settings) -> None:
    """Begin to listen on the public address. Raises CannotListen."""
    with named_faults("GATEWAY", settings.host, settings.port):
        sock.listen(BACKLOG)


def inherited(environ: MutableMapping[str, str] | None = None) -> tuple[list[socket.socket], list[socket.socket]]:
    """The sockets that whoever started this process has opened for it: the public ones, and those for admin pages.

    The protocol is systemd's, sd_listen_fds(3). Its variables are taken out of ``environ``: they are for this process
    and none that it starts. Raises CannotListen where a descriptor is no stream socket.
    """
    environ = os.environ if environ is None else environ
    pid, count, names = (environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    public: list[socket.socket] = []
    admin: list[socket.socket] = []
    if pid == str(os.getpid()) and count.isdecimal():
        called = dict(enumerate(names.split(":"), FIRST_INHERITED))
        for number in range(FIRST_INHERITED, FIRST_INHERITED + int(count)):
            (admin if called.get(number) == ADMIN else public).append(_adopt(number))
    return public, admin


def _adopt(number: int) -> socket.socket:
    try:
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise CannotListen(f"LISTEN_FDS: descriptor {number} is no socket ({error.strerror})") from error
    if sock.type != socket.SOCK_STREAM:
        raise CannotListen(f"LISTEN_FDS: descriptor {number} is no stream socket")
    return sock


def _bind_tcp(variable: str, host: str, port: int) -> socket.socket:
    """A name stands for its IPv4 address: on most machines ``localhost`` would else be ::1 alone, 127.0.0.1 be dead."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what it accepts inherits it
        with named_faults(variable, host, port):
            sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(path: Path) -> socket.socket:
    """The file stays when the process has gone, for the next one to find out that nobody listens on it any more.

    To unlink it at the end would be the tempting way, and would take it away from the process that has come since.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        if _is_left_over(path):
            path.unlink()
        sock.bind(str(path))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(f"GATEWAY_HOST: unix:{path} is in use, or no socket") from error
        raise CannotListen(f"GATEWAY_HOST: unix:{path} cannot be made ({error.strerror})") from error
    return sock


def _is_left_over(path: Path) -> bool:
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)  # where the backlog is full, somebody listens: EAGAIN
        return client.connect_ex(str(path)) == errno.ECONNREFUSED


@contextmanager
def named_faults(variable: str, host: str, port: int) -> Iterator[None]:
    """Tell what the kernel refuses as the fault of a variable. Raises CannotListen."""
    try:
        yield
    except socket.gaierror as error:
        raise CannotListen(f"{variable}_HOST: {host} is not known ({error.strerror})") from error
    except OSError as error:
        if error.errno not in _CANNOT_LISTEN:
            raise
        raise CannotListen(_CANNOT_LISTEN[error.errno].format(variable=variable, host=host, port=port)) from error
