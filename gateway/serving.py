"""The gateway as a process: settings made into a server that runs the app until a signal stops it.

``gateway serve`` and ``gateway demo`` share this; so does each worker, where there are several (``supervising``).
What never lives here: command line arguments, protocol, routes, addresses.
"""

import gc
import os
import pickle
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from logging import getLogger
from math import inf

import httpx
import trio
from hypercorn.config import Config

from gateway import server
from gateway.admin import Admin
from gateway.app import create_app, transport_for
from gateway.config import Settings
from gateway.headers import TrustedProxies
from gateway.health import Verdict
from gateway.monitor import Monitor
from gateway.observe import Sink
from gateway.sockets import BACKLOG, bind, bind_admin, inherited, named_faults
from gateway.state import Gateway

MANY_DESCRIPTORS = 65_536
"""As many as a process takes, where it may: an idle client costs some 10 KB besides."""


def server_config(settings: Settings) -> Config:
    """Make Hypercorn's configuration, without its access log and headers: the app logs, and adds what is due."""
    config = Config()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    config.bind = [settings.host if settings.host.startswith("unix:") else f"{host}:{settings.port}"]
    config.backlog = BACKLOG
    config.certfile = settings.tls_cert
    config.keyfile = settings.tls_key
    config.keyfile_password = ""  # else OpenSSL would ask for one on the terminal, and wait
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
        max_connections=connections_for(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    )


def connections_for(descriptors: int) -> float:
    """How many connections of clients there may be, where the process may have so many descriptors.

    Half of them: else clients that only connect and say nothing would leave none for connections to backends, and the
    requests of all others would fail.
    """
    return inf if descriptors == resource.RLIM_INFINITY else max(1, descriptors // 2)


def raise_descriptors() -> None:
    """Take more descriptors where the process may: the soft limit is low for the sake of programs that call select."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MANY_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def serve(  # noqa: PLR0913 -- what differs between those who run it; all but two have a default
    settings: Settings,
    *,
    shutdown: Callable[[], Awaitable[object]],
    hangups: AsyncIterator[int] | None = None,
    public: Sequence[socket.socket] = (),
    admin: socket.socket | None = None,
    shares: server.Shares | None = None,
    transports: Mapping[str, httpx.AsyncBaseTransport] | None = None,
    sink: Sink | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the gateway until ``shutdown`` returns and the drain is over.

    ``shutdown`` may return ``server.Leave.REPLACED``. At each of ``hangups`` the certificate is read again. ``public``
    and ``admin`` are sockets to serve on instead of the addresses that are set; they are closed at the end.
    ``shares`` as for ``gateway.server.serve``.
    ``transports`` and ``sink`` as for ``create_app``; ``task_status.started`` gives the addresses. Raises CannotListen,
    and what ends a server: see ``gateway.server.serve``. On cancellation everything stops at once.
    """
    app = create_app(settings, transports=transports, sink=sink)
    config = server_config(settings)
    config.bind = [f"fd://{sock.detach()}" for sock in public or [bind(settings)]]  # the server takes them over
    admin = admin or bind_admin(settings)
    certificates = server.Certificates(config) if config.ssl_enabled else None
    if hangups is not None:
        reloads = partial(_reload, hangups, certificates, app.gateway.sink)
        shutdown = partial(server.first_of, shutdown, reloads)
    with named_faults("GATEWAY", settings.host, settings.port):  # two that bind at once learn of it when they listen
        await server.serve(
            app,
            config,
            limits=server_limits(settings),
            shutdown=shutdown,
            on_drain=app.gateway.draining,
            on_cut=app.gateway.cut,
            explain=app.entry.refused,
            certificates=certificates,
            proxies=TrustedProxies(settings.trusted_proxies if settings.proxy_protocol else ()),
            beside=None if admin is None else beside(app.gateway, admin),
            shares=shares,
            task_status=task_status,
        )


def beside(gateway: Gateway, admin: socket.socket) -> server.Beside:
    """Make the admin pages on their socket, which is taken over."""
    taken = socket.socket(fileno=admin.detach())
    return server.Beside(Admin(gateway), [trio.SocketListener(trio.socket.from_stdlib_socket(taken))])


async def _reload(hangups: AsyncIterator[int], certificates: server.Certificates | None, sink: Sink) -> None:
    """Read the certificate again each time. All else is read at the start: to change it, another process is needed."""
    async for _ in hangups:
        if certificates is None:
            sink.event("WARNING", "SIGHUP: there is no certificate to read again; all else takes a restart")
            continue
        try:
            certificates.reload()
        except (OSError, ssl.SSLError) as error:
            sink.event("ERROR", "SIGHUP: the certificate cannot be used, the old one stays", error=str(error))
        else:
            sink.event("INFO", "SIGHUP: the certificate was read again")


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
    public, admin = inherited()
    run_until(settings, public=public, admin=admin[0] if admin else None)


def calm_collector() -> None:
    """Take the modules out of the garbage collector's rounds, and let it go round less often.

    A full round over them takes some 60 ms, in which nobody is served; and a request leaves no cycle behind. A thousand
    requests in flight are some 60,000 objects: with a lower first threshold each wave of them would be gone through.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def run_until(
    settings: Settings,
    *waits: Callable[[], Awaitable[object]],
    public: Sequence[socket.socket] = (),
    admin: socket.socket | None = None,
    shares: server.Shares | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGTERM, SIGINT or the first of ``waits`` is over; the rest as for ``serve``."""

    async def main() -> None:
        with stop_signal() as stopped, trio.open_signal_receiver(signal.SIGHUP) as hangups:
            await serve(
                settings,
                shutdown=partial(server.first_of, stopped, *waits),
                hangups=hangups,
                public=public,
                admin=admin,
                shares=shares,
                task_status=task_status,
            )

    calm_collector()
    raise_descriptors()
    trio.run(main)


def work(number: int) -> None:
    """Be a worker: serve what the supervisor orders over the descriptor ``number``, until it says to leave."""
    with closing(server.Line(number)) as line:
        try:
            settings, public, admin = pickle.loads(line.order())  # noqa: S301 -- from our own parent, over a socket pair
        except EOFError:
            return
        run_until(
            settings,
            line.dismissed,
            public=[_inherited(each) for each in public],
            admin=None if admin is None else _inherited(admin),
            shares=line.shares,
            task_status=_Ready(line),
        )


def _inherited(number: int) -> socket.socket:
    os.set_inheritable(number, False)
    return socket.socket(fileno=number)


class _Ready(trio.TaskStatus[list[str]]):
    """Tells the supervisor as soon as connections are accepted."""

    def __init__(self, line: server.Line) -> None:
        self._line = line

    def started(self, value: list[str] | None = None) -> None:  # noqa: ARG002 -- the supervisor knows the addresses
        """See trio.TaskStatus."""
        self._line.ready()
