"""The gateway itself on a network of the kit, wired like the real one.

    async with running_gateway(network) as gateway:
        async with gateway.client() as client:
            response = await client.get("/api/service1/orders")
        (record,) = await gateway.logged(1)

What lives here: the app served by its own server on a listener of the kit, with its log collected. What never will: a
shortcut past the server or the transport.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio

from gateway.admin import Admin
from gateway.app import GatewayApp, create_app
from gateway.config import Service, Settings
from gateway.observe import Collector, Record
from gateway.server import Limits, serve
from gateway.server.failures import plain_errors
from gateway.serving import server_config, server_limits
from gateway.state import Stage
from gateway.testing.clients import RawClient, http_client, raw_client
from gateway.testing.network import Network
from gateway.transport import BackendTransport

TWO_SERVICES = Settings(
    services=(
        Service(name="service1", host="service1", port=8001),
        Service(name="service2", host="service2", port=8002),
    )
)
"""``/api/service1`` on service1:8001 and ``/api/service2`` on service2:8002, everything else by default."""

PROBE = "api-gateway/health"
"""What the health task calls itself as User-Agent."""


class NetworkTransport(BackendTransport):
    """The gateway's transport to one service, on a network of the kit.

    Health probes have connections of their own, as in the real gateway; without ``probes`` they are answered here and
    reach no backend, so that a script sees the exchanges of its test and nothing else.
    """

    def __init__(self, network: Network[Any], service: Service, *, probes: bool) -> None:
        context = _trust_of(service)
        super().__init__(ssl_context=context, max_connections=service.max_connections, connect=network.connect)
        self._prober = BackendTransport(ssl_context=context, connect=network.connect) if probes else None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See BackendTransport."""
        if request.headers.get("user-agent") != PROBE:
            return await super().handle_async_request(request)
        if self._prober is None:
            await trio.lowlevel.checkpoint()
            return httpx.Response(200)
        return await self._prober.handle_async_request(request)

    async def aclose(self) -> None:
        """See BackendTransport."""
        if self._prober is not None:
            await self._prober.aclose()
        await super().aclose()


class _Log(Collector):
    """Collects, and wakes whoever waits for more."""

    def __init__(self) -> None:
        super().__init__()
        self.news = trio.lowlevel.ParkingLot()

    def exchange(self, record: Record) -> None:
        super().exchange(record)
        self.news.unpark_all()

    def event(self, level: str, message: str, /, **facts: Any) -> None:
        super().event(level, message, **facts)
        self.news.unpark_all()


class RunningGateway:
    """A gateway that runs: clients for it, and what it logged."""

    def __init__(  # noqa: PLR0913 - private to this module
        self,
        network: Network[Any],
        app: GatewayApp,
        transports: Mapping[str, httpx.AsyncBaseTransport],
        log: _Log,
        *,
        host: str,
        port: int,
        scheme: str,
    ) -> None:
        self.network = network
        self.app = app
        self.transports = transports
        """By name of the service."""
        self.host = host
        self.port = port
        self.url = f"{scheme}://{host}:{port}"
        self._log = log
        self._shutdown = trio.Event()
        self._stopped = trio.Event()

    @property
    def log(self) -> list[Record]:
        """A record for each exchange that has ended, in order."""
        return self._log.records

    @property
    def events(self) -> list[dict[str, Any]]:
        """Everything else in the log."""
        return self._log.events

    def take_log(self) -> list[Record]:
        """Give the records so far and forget them, where there are too many to keep."""
        records = list(self._log.records)
        self._log.records.clear()
        return records

    async def logged(self, count: int) -> list[Record]:
        """Wait until ``count`` exchanges have ended; a client may have its answer a moment before that is logged."""
        while len(self.log) < count:
            await self._log.news.park()
        return self.log

    def metrics(self) -> str:
        """Give the counters, as Prometheus reads them."""
        return Admin(self.app.gateway).metrics(b"").body

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Make an httpx client for HTTP/1.1; ``options`` as for ``clients.http_client``."""
        return http_client(self.network, **{"base_url": self.url, **options})

    def h2_client(self, **options: Any) -> httpx.AsyncClient:
        """Make an httpx client for HTTP/2, by prior knowledge or ALPN; ``options`` as for ``clients.http_client``."""
        return http_client(self.network, http2=True, **{"base_url": self.url, **options})

    async def raw_client(self, *, source: str = "127.0.0.1") -> RawClient:
        """Connect a client that sends the bytes it is told."""
        return await raw_client(self.network, self.host, self.port, source=source)

    def stop(self) -> None:
        """Begin the drain, as SIGTERM does."""
        self._shutdown.set()

    async def wait_stopped(self) -> float:
        """Wait until the drain is over; return ``trio.current_time()`` of now."""
        await self._stopped.wait()
        return trio.current_time()

    async def wait_running(self) -> None:
        """Wait until the first sweep of health probes is over."""
        while self.app.gateway.stage is Stage.STARTING:
            await self._log.news.park()

    async def run(
        self,
        listener: trio.abc.Listener[Any],
        settings: Settings,
        limits: Limits,
        *,
        task_status: trio.TaskStatus[list[str]],
    ) -> None:
        """Serve until :meth:`stop`."""
        await serve(
            self.app,
            server_config(settings),
            limits=limits,
            listeners=[listener],
            shutdown=self._shutdown.wait,
            on_drain=self.app.gateway.draining,
            on_cut=self.app.gateway.cut,
            explain=self.app.entry.refused,
            task_status=task_status,
        )
        self._stopped.set()


@asynccontextmanager
async def running_gateway(  # noqa: PLR0913 - what differs between gateways; all but the network have a default
    network: Network[Any],
    settings: Settings = TWO_SERVICES,
    *,
    host: str = "gateway",
    port: int = 80,
    tls: ssl.SSLContext | None = None,
    limits: Limits | None = None,
    probes: bool = False,
    transports: Mapping[str, httpx.AsyncBaseTransport] | None = None,
) -> AsyncIterator[RunningGateway]:
    """Run the gateway on ``network`` at ``host:port`` for the length of the block, then drain it.

    It reaches its services by ``network.connect``, at the hosts and ports that ``settings`` names; its own host and
    port in there do not count here. ``tls`` is for its clients, ``limits`` replaces those that follow from
    ``settings``, ``transports`` those of the services it names. With ``probes`` the backends get health probes too (at
    the start, then every ``health_interval``), and the block begins when the first are over.

    When the block raises, the gateway is cancelled instead of drained.
    """
    carriers: dict[str, httpx.AsyncBaseTransport] = {
        service.name: NetworkTransport(network, service, probes=probes) for service in settings.services
    } | dict(transports or {})
    log = _Log()
    app = create_app(settings, transports=carriers, sink=log)
    listener: trio.abc.Listener[Any] = network.listen(host, port)
    if tls is not None:
        listener = trio.SSLListener(listener, tls, https_compatible=True)
    gateway = RunningGateway(
        network, app, carriers, log, host=host, port=port, scheme="http" if tls is None else "https"
    )
    with plain_errors():
        async with trio.open_nursery() as nursery:
            await nursery.start(gateway.run, listener, settings, limits or server_limits(settings))
            await gateway.wait_running()
            yield gateway
            gateway.stop()


def _trust_of(service: Service) -> ssl.SSLContext | None:
    if service.scheme != "https":
        return None
    context = ssl.create_default_context(cafile=service.ca_file)
    if service.client_cert is not None:
        context.load_cert_chain(service.client_cert, service.client_key)
    return context
