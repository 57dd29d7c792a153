"""The gateway as a process: settings made into a server that runs the app until a signal stops it.

``gateway serve`` and ``gateway demo`` share this. What never lives here: command line arguments, protocol, routes.
"""

import errno
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from logging import getLogger

import httpx
import trio
from hypercorn.config import Config

from gateway import server
from gateway.app import create_app, transport_for
from gateway.config import Settings
from gateway.health import Verdict
from gateway.monitor import Monitor
from gateway.observe import Sink

_CANNOT_LISTEN = {
    errno.EADDRINUSE: "GATEWAY_PORT: {port} is in use on {host}",
    errno.EACCES: "GATEWAY_PORT: {port} is not for this user to listen on; expected one from 1024 up",
    errno.EADDRNOTAVAIL: "GATEWAY_HOST: {host} is no address of this machine",
    errno.EAFNOSUPPORT: "GATEWAY_HOST: {host} is of a family that this machine does not speak",
}
"""What bind(2) and listen(2) say to a wrong address, as the fault of the variable that is to be changed."""


class CannotListen(Exception):
    """The address that is set cannot be listened on. ``str(error)`` is one line that names the variable."""


def server_config(settings: Settings) -> Config:
    """Make Hypercorn's configuration, without its access log and headers: the app logs, and adds what is due."""
    config = Config()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    config.bind = [f"{host}:{settings.port}"]
    config.certfile = settings.tls_cert
    config.keyfile = settings.tls_key
    config.alpn_protocols = ["h2", "http/1.1"]
    config.accesslog = None
    config.errorlog = getLogger("gateway.server")  # not a file of its own: it goes the way of all other lines
    config.include_date_header = False
    config.include_server_header = False
    config.h11_pass_raw_headers = True
    return config


def server_limits(settings: Settings) -> server.Limits:
    """Make the server's limits."""
    return server.Limits(
        client_timeout=settings.client_timeout,
        drain_delay=settings.drain_delay,
        drain_timeout=settings.drain_timeout,
    )


def bind(settings: Settings) -> socket.socket:
    """Bind the address that is set; nothing listens on it yet. Raises CannotListen.

    A name stands for its IPv4 address: on most machines ``localhost`` would else be ::1 alone, and 127.0.0.1 be dead.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what it accepts inherits it
        with _named_faults(settings):
            sock.bind((settings.host, settings.port))
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def _named_faults(settings: Settings) -> Iterator[None]:
    try:
        yield
    except socket.gaierror as error:
        raise CannotListen(f"GATEWAY_HOST: {settings.host} is not known ({error.strerror})") from error
    except OSError as error:
        if error.errno not in _CANNOT_LISTEN:
            raise
        raise CannotListen(_CANNOT_LISTEN[error.errno].format(host=settings.host, port=settings.port)) from error


async def serve(
    settings: Settings,
    *,
    shutdown: Callable[[], Awaitable[object]],
    transports: Mapping[str, httpx.AsyncBaseTransport] | None = None,
    sink: Sink | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the gateway until ``shutdown`` returns and the drain is over.

    ``transports`` and ``sink`` as for ``create_app``; ``task_status.started`` gives the addresses. Raises CannotListen,
    and what ends a server: see ``gateway.server.serve``. On cancellation everything stops at once.
    """
    app = create_app(settings, transports=transports, sink=sink)
    config = server_config(settings)
    config.bind = [f"fd://{bind(settings).detach()}"]  # the server takes the socket over, by its number
    if settings.workers != 1:
        app.gateway.sink.event("WARNING", "GATEWAY_WORKERS: several are not there yet; one process serves")
    with _named_faults(settings):  # two that bind at the same moment learn of each other when they listen
        await server.serve(
            app,
            config,
            limits=server_limits(settings),
            shutdown=shutdown,
            on_drain=app.gateway.draining,
            on_cut=app.gateway.cut,
            task_status=task_status,
        )


async def probe(settings: Settings) -> dict[str, Verdict]:
    """Ask every service for its health once, all at the same time; give the verdicts by name.

    By the monitor and the transports of the app itself, so what is said here is what the gateway will say.
    """
    transports = {service.name: transport_for(service) for service in settings.services}
    monitor = Monitor(settings.services, transports, interval=settings.health_interval, timeout=settings.health_timeout)
    async with trio.open_nursery() as nursery:
        await nursery.start(monitor.run)
        verdicts = {name: monitor.verdict(name, trio.current_time()) for name in transports}
        nursery.cancel_scope.cancel()
    for transport in transports.values():
        await transport.aclose()
    return verdicts


@contextmanager
def stop_signal() -> Iterator[Callable[[], Awaitable[None]]]:
    """Catch SIGTERM and SIGINT; gives what waits for the first of them.

    With the first one the catching ends: a second one means "now", and does what it does to any process.
    """
    with ExitStack() as stack:
        signals = stack.enter_context(trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT))

        async def first() -> None:
            await anext(signals)
            stack.close()

        yield first


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, and return when drained. Raises as ``serve``."""

    async def main() -> None:
        with stop_signal() as stopped:
            await serve(settings, shutdown=stopped)

    trio.run(main)
