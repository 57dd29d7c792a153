"""Wires settings, transports, monitor and lifespan into a ``QuartTrio`` app.

``create_app()`` makes an ordinary ASGI app: ``gateway serve`` runs it, and so does any server that runs trio apps. The
monitor and the watch over idle connections run in the app's nursery, which is the app's lifespan: what crashes there
ends the lifespan with its error, and the server with it.
"""

import os
import resource
import ssl
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import httpx
import trio
from quart.json.provider import DefaultJSONProvider
from quart_trio import QuartTrio

from gateway import api
from gateway.api import Entry
from gateway.clocks import Limits
from gateway.config import Service, Settings, load
from gateway.forward import Upstream
from gateway.headers import TrustedProxies
from gateway.monitor import Monitor
from gateway.observe import Sink, WallClock, open_log
from gateway.routing import Route, RouteTable
from gateway.state import Gateway
from gateway.transport import MAX_IDLE, BackendTransport


class GatewayApp(QuartTrio):
    """The app, with the hooks for whoever runs it."""

    gateway: Gateway
    entry: Entry


def create_app(  # noqa: C901, PLR0915 -- wiring: what looks like branches is the list of hooks
    settings: Settings | None = None,
    *,
    transports: Mapping[str, httpx.AsyncBaseTransport] | None = None,
    sink: Sink | None = None,
) -> GatewayApp:
    """The gateway as an ASGI app.

    ``settings`` come from the environment by default, which raises gateway.config.ConfigError where it is faulty.
    ``transports`` replaces the transport of a service, by name; ``sink`` the log on standard output.
    """
    settings = load() if settings is None else settings
    max_idle = idle_for(resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(settings.services))
    carriers: dict[str, httpx.AsyncBaseTransport] = {
        service.name: (transports or {}).get(service.name) or transport_for(service, max_idle=max_idle)
        for service in settings.services
    }
    # Probes have connections of their own: with the service's pool exhausted, the probe would tell of the pool.
    probers = {
        service.name: carriers[service.name] if transports and service.name in transports else transport_for(service)
        for service in settings.services
    }
    trusted = TrustedProxies(settings.trusted_proxies)
    monitor = Monitor(settings.services, probers, interval=settings.health_interval, timeout=settings.health_timeout)
    gateway: Gateway

    def timestamp() -> str:
        try:
            return gateway.wall.iso(trio.current_time())
        except RuntimeError:  # a library logs before trio runs, or after
            return WallClock.start(0).iso(0)

    sink, dropped_lines = open_log_of(settings, timestamp) if sink is None else (sink, int)
    gateway = Gateway(
        routes=RouteTable(
            Route(service.name, service.prefix.encode("ascii"), service.upstream_path.encode("ascii"))
            for service in settings.services
        ),
        upstreams={},
        verdict=monitor.verdict,
        trusted=trusted,
        limits=Limits(
            timeout=settings.timeout,
            connect_timeout=settings.connect_timeout,
            client_timeout=settings.client_timeout,
        ),
        sink=sink,
        dropped_lines=dropped_lines,
    )
    gateway.upstreams = {
        service.name: Upstream(
            service=service,
            transport=carriers[service.name],
            limits=limits_for(service, settings),
            max_body_size=settings.max_body_size,
            trusted=trusted,
            date=gateway.date,
        )
        for service in settings.services
    }

    app = GatewayApp(__name__, static_folder=None)
    app.gateway = gateway
    app.config["PROPAGATE_EXCEPTIONS"] = True  # to the entry, which tells of them with the request's id
    app.url_map.merge_slashes = False  # bytes are kept: // is another path, and no reason to redirect
    cast("DefaultJSONProvider", app.json).sort_keys = False
    api.register(app, gateway)
    app.entry = Entry(gateway, app.asgi_app)  # type: ignore[arg-type] # Quart's types name each message
    app.asgi_app = app.entry  # type: ignore[method-assign,assignment] # Quart's own way to wrap it
    owned = {id(transport): transport for transport in (*carriers.values(), *probers.values())}.values()

    @contextmanager
    def crash_told(of: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            gateway.crashed = True
            trace = "".join(traceback.format_exception(error))
            gateway.sink.event("CRITICAL", f"{of} crashed", error=repr(error), traceback=trace)
            raise

    async def watch_health(*, task_status: trio.TaskStatus[None]) -> None:
        with crash_told("the health monitor"):
            await monitor.run(task_status=task_status)

    async def watch_idle(transport: BackendTransport) -> None:
        with crash_told("the watch over idle connections"):
            await transport.watch_idle()

    async def sweep_then_run() -> None:
        await app.nursery.start(watch_health, name="monitor")
        gateway.running()

    @app.before_serving
    async def start() -> None:
        for warning in settings.warnings:
            gateway.sink.event("WARNING", warning)
        if settings.workers != 1:
            await sweep_then_run()  # the others accept meanwhile: one that is not ready must not speak in their name
        else:
            app.nursery.start_soon(sweep_then_run, name="first health sweep")
        for transport in owned:
            if isinstance(transport, BackendTransport):
                app.nursery.start_soon(watch_idle, transport, name="watch idle connections")

    @app.after_serving
    async def stop() -> None:
        gateway.draining()
        for transport in owned:
            await transport.aclose()
        gateway.sink.event("INFO", "the gateway has stopped", finished=gateway.finished, cut=gateway.cut_off)

    return app


def open_log_of(settings: Settings, timestamp: Callable[[], str]) -> tuple[Sink, Callable[[], int]]:
    """The log of this process, and what tells how many lines of it were lost."""
    sink, writer = open_log(
        log_format=settings.log_format,
        level=settings.log_level,
        timestamp=timestamp,
        always={"worker": os.getpid()} if settings.workers != 1 else None,
    )
    return sink, lambda: writer.dropped


def limits_for(service: Service, settings: Settings) -> Limits:
    """The clocks of an exchange with this service."""
    limits = {"timeout": service.timeout, "connect_timeout": service.connect_timeout}
    if service.deadline is not None:
        limits["deadline"] = service.deadline
    return Limits(client_timeout=settings.client_timeout, **limits)


def idle_for(descriptors: int, services: int) -> int:
    """How many idle connections to each service there may be, where the process may have so many descriptors.

    A quarter of them for all services together: what is idle must not keep a request from opening what it needs.
    """
    if descriptors == resource.RLIM_INFINITY:
        return MAX_IDLE
    return min(MAX_IDLE, max(1, descriptors // 4 // max(1, services)))


def transport_for(service: Service, *, max_idle: int = MAX_IDLE) -> BackendTransport:
    """The connections to this service. Raises OSError or ssl.SSLError where its certificates cannot be read."""
    context = None
    if service.scheme == "https":
        context = ssl.create_default_context(cafile=service.ca_file)
        if service.client_cert is not None:
            context.load_cert_chain(service.client_cert, service.client_key)
    return BackendTransport(ssl_context=context, max_connections=service.max_connections, max_idle=max_idle)
