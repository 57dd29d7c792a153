"""The pages of the admin listener: for those who run the gateway, on an address of its own.

| path | tells |
|---|---|
| ``/metrics`` | the figures of this process, as Prometheus reads them |
| ``/debug/exchanges`` | what is in flight, the oldest first, as JSON |
| ``/health``, ``/livez``, ``/readyz`` | the same as on the public listener |

An ASGI app of its own, without Quart: its answers are made in one step, nothing is awaited before they are whole, so a
page can be had while all else is stuck. What is asked here is neither logged nor counted. The routes are declared in
``api``, with all others.

What never lives here: a page that changes anything.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import trio

from gateway import __version__, answers, api, headers, metrics
from gateway.forward import Exchange, Receive, Scope, Send
from gateway.state import Gateway
from gateway.transport import BackendTransport

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


class Page(NamedTuple):
    """One answer."""

    status: int
    content_type: str
    body: str


class Admin:
    """The ASGI app."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._pages: dict[str, Callable[[bytes], Page]] = {
            path: getattr(self, page) for path, page in api.ADMIN_ROUTES.items()
        }

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """See ASGI. A WebSocket is refused; there is no lifespan."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        page = self._pages.get(scope["path"])
        if page is None:
            answer = Page(404, TEXT, "".join(f"{path}\n" for path in self._pages))
        elif scope["method"] not in {"GET", "HEAD"}:
            answer = Page(405, TEXT, "GET\n")
        else:
            answer = page(scope["query_string"])
        body = answer.body.encode()
        fields = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        if answer.status == 405:
            fields.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def metrics(self, _query: bytes) -> Page:
        """The figures of this process."""
        gateway = self._gateway
        now = metrics.Snapshot(
            version=__version__,
            pid=os.getpid(),
            uptime=gateway.uptime(trio.current_time()),
            in_flight=Counter(exchange.service for exchange in gateway.in_flight),
            connections={
                name: (upstream.transport.leased, upstream.transport.idle)
                for name, upstream in gateway.upstreams.items()
                if isinstance(upstream.transport, BackendTransport)
            },
            dropped=gateway.dropped_lines(),
        )
        return Page(200, metrics.CONTENT_TYPE, gateway.metrics.render(now))

    def exchanges(self, _query: bytes) -> Page:
        """What is in flight."""
        now = trio.current_time()
        oldest_first = sorted(self._gateway.in_flight, key=lambda exchange: exchange.clock.started)
        return Page(200, JSON, json.dumps([self._facts(exchange, now) for exchange in oldest_first]) + "\n")

    def _facts(self, exchange: Exchange, now: float) -> dict[str, Any]:
        scope = exchange.scope
        return {
            "request_id": exchange.request_id.decode("latin-1"),
            "method": scope["method"],
            "path": exchange.path,
            "client_ip": headers.client_address(scope["headers"], exchange.inbound, self._gateway.trusted),
            "service": exchange.service,
            "phase": exchange.clock.phase,
            "age_ms": round((now - exchange.clock.started) * 1000, 3),
            "left_ms": max(0.0, round((exchange.clock.deadline - now) * 1000, 3)),
            "timings_ms": answers.milliseconds(exchange.clock.timings(now)),
            "status_code": exchange.status,
            "bytes_in": exchange.bytes_in,
            "bytes_out": exchange.bytes_out,
        }

    def health(self, _query: bytes) -> Page:
        """As on the public listener."""
        facts, status = api.health_now(self._gateway)
        return Page(status, JSON, json.dumps(facts) + "\n")

    def livez(self, query: bytes) -> Page:
        """As on the public listener."""
        text, status, _ = api.livez_now(self._gateway, verbose=b"verbose" in query)
        return Page(status, TEXT, text)

    def readyz(self, query: bytes) -> Page:
        """As on the public listener."""
        text, status, _ = api.readyz_now(self._gateway, verbose=b"verbose" in query)
        return Page(status, TEXT, text)
