"""The gateway as it is deployed: configured by variables, on real sockets, before the example services.

Its clients are httpx and curl, which are not ours.
"""

import shutil
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import httpx
import pytest
import service1
import service2
import trio
from fixture_common import serving as fixtures

from gateway import serving
from gateway.config import load
from gateway.observe import Collector, Record
from gateway.server.failures import plain_errors
from gateway.testing.sockets import SocketNetwork

both_protocols = pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
"""For HTTP/1.1 and for HTTP/2 with prior knowledge."""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Else each client would load the system's trust anew, for 20 ms, and never look at it."""


def http_client(url: str, *, http2: bool = False, **options: Any) -> httpx.AsyncClient:
    """Make a client for HTTP/1.1, or for HTTP/2 with prior knowledge."""
    return httpx.AsyncClient(
        **{"base_url": url, "http1": not http2, "http2": http2, "verify": NO_TLS, "timeout": 10, **options}
    )


async def curl(*arguments: str, stdin: bytes = b"") -> bytes:
    done = await trio.run_process(["curl", "--silent", "--show-error", *arguments], stdin=stdin, capture_stdout=True)
    return bytes(done.stdout)


@dataclass
class Running:
    """A gateway that runs."""

    url: str
    log: Collector
    stop: trio.Event
    """Begins the drain when set, as SIGTERM does."""

    def client(self, *, http2: bool = False, **options: Any) -> httpx.AsyncClient:
        """Make a client of the gateway; see ``http_client``."""
        return http_client(self.url, http2=http2, **options)

    async def logged(self, count: int) -> list[Record]:
        """Wait until ``count`` exchanges have ended: a client may have its answer a moment before that is logged."""
        with trio.fail_after(5):
            while len(self.log.records) < count:  # noqa: ASYNC110 - a list has no event
                await trio.sleep(0.001)
        return self.log.records

    async def started(self) -> None:
        """Wait until the first checks of the services' health are over."""
        with trio.fail_after(5):
            while not any(event["message"] == "the gateway is running" for event in self.log.events):  # noqa: ASYNC110 - as above
                await trio.sleep(0.001)


@asynccontextmanager
async def running(environ: Mapping[str, str], *, started: bool = True) -> AsyncIterator[Running]:
    """Run the gateway with these variables, on a free port of 127.0.0.1, and drain it at the end."""
    # Nothing can be configured on "any port", since nobody could then know where to ask.
    settings = replace(load({"GATEWAY_HOST": "127.0.0.1", **environ}, dotenv=None), port=0)
    log, stop = Collector(), trio.Event()
    serve = partial(serving.serve, settings, shutdown=stop.wait, sink=log)
    with plain_errors():
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(serve)
            gateway = Running(url, log, stop)
            if started:
                await gateway.started()
            yield gateway
            stop.set()


@pytest.fixture
async def services() -> AsyncIterator[dict[str, str]]:
    """Run the two example services; give the variables that tell the gateway of them."""
    async with trio.open_nursery() as nursery:
        first = await nursery.start(fixtures.serve, service1.create_app(), "127.0.0.1:0")
        second = await nursery.start(fixtures.serve, service2.create_app(), "127.0.0.1:0")
        yield {"SERVICE1_URL": first, "SERVICE2_URL": second}
        nursery.cancel_scope.cancel()


@pytest.fixture
async def gateway(services: dict[str, str]) -> AsyncIterator[Running]:
    """Run the gateway before both services, all else by default."""
    async with running(services) as gateway:
        yield gateway


@pytest.fixture
async def sockets() -> AsyncIterator[SocketNetwork]:
    """Give an empty network of real sockets, for backends that do what no real service would."""
    network = SocketNetwork()
    yield network
    network.close()


def url_of(network: SocketNetwork, host: str, port: int = 80) -> str:
    """Where a scripted backend really listens; where none does, a port that refuses."""
    address, real_port = network.real_address(host, port)
    return f"http://{address}:{real_port}"
